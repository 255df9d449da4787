//! The audit of the store, and its repair: every manifest, if wanted every content, and the comparison with the index.

use super::reconcile::{Counting, Drift, ReconcileOptions};
use super::{JobNews, Listening, Pace, Patience};
use crate::{Engine, EngineError, Op};
use dir_core::Cid;
use dir_core::maintenance::{Depth, Finding, Inspected, Trouble};
use dir_core::store::{Known, StoreError, WalkMark};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashSet};

/// What an audit does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// How closely it looks.
    pub depth: Depth,
    /// Sets right what it finds; otherwise it only says so.
    pub repair: bool,
    /// Writes the manifest anew of records that the index has, the store has not, and whose content is still there.
    /// They may have been deleted by somebody else: an operator has to know.
    pub restore_lost_tags: bool,
    /// How the comparison with the index goes.
    pub reconcile: ReconcileOptions,
    /// Where an earlier one got to.
    pub from: Option<WalkMark>,
}

/// What an audit found and a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Records that are as they should be.
    pub records: u64,
    /// Referrers that are as they should be, as far as they have tags.
    pub referrers: u64,
    /// What was found, by kind.
    pub found: BTreeMap<Trouble, u64>,
    /// What of it was set right.
    pub repaired: BTreeMap<Trouble, u64>,
    /// Index and store compared; `None` when they could not be.
    pub drift: Option<Drift>,
    /// Why not.
    pub drift_problem: String,
    /// Duration in milliseconds.
    pub millis: u64,
}

impl AuditReport {
    /// Whether nothing is wrong (any more).
    pub fn is_clean(&self) -> bool {
        let count = |map: &BTreeMap<Trouble, u64>, trouble| map.get(&trouble).copied().unwrap_or_default();
        let open = Trouble::ALL.into_iter().filter(|t| *t != Trouble::Foreign);
        let all_repaired = open.into_iter().all(|t| count(&self.found, t) == count(&self.repaired, t));
        let drifted = self
            .drift
            .as_ref()
            .is_none_or(|d| d.missing_in_index != d.added || d.missing_in_store != d.removed || d.held);
        all_repaired && !drifted
    }
}

/// Records that were seen.
#[derive(Debug, Default)]
struct Once {
    seen: HashSet<Cid>,
    /// Those since the last mark, which are seen again after a failure.
    recent: Vec<Cid>,
}

impl Once {
    fn is_first(&mut self, cid: Cid) -> bool {
        let first = self.seen.insert(cid);
        if first {
            self.recent.push(cid);
        }
        first
    }

    fn keep(&mut self) {
        self.recent.clear();
    }

    fn forget(&mut self) {
        for cid in self.recent.drain(..) {
            self.seen.remove(&cid);
        }
    }
}

impl Engine {
    /// Looks at everything in the store, compares it with the index, and sets right what it may.
    pub async fn audit_store(
        &self,
        options: AuditOptions,
        listening: &Listening,
    ) -> Result<AuditReport, EngineError> {
        let op = if options.repair { Op::Repair } else { Op::Audit };
        let _turn = self.turn(op, &listening.by).await?;
        let begun = self.0.deps.clock.now();
        tracing::info!(job = op.job(), by = %listening.by, "store job started");
        let mut report = AuditReport::default();
        self.inspect(op, &options, listening, &mut report).await?;
        let compared = self.compare_all(op, &options, listening, &mut report);
        let outcome = tokio::select! {
            biased;
            () = listening.gone() => return Err(EngineError::Stopped(op)),
            outcome = compared => outcome,
        };
        match outcome {
            Ok(()) => {}
            Err(error @ EngineError::Stopped(_)) => return Err(error),
            Err(error) => report.drift_problem = error.to_string(),
        }
        let millis = self.0.deps.clock.now().0.saturating_sub(begun.0);
        report.millis = u64::try_from(millis).unwrap_or_default();
        tracing::info!(job = op.job(), records = report.records, found = ?report.found, repaired = ?report.repaired, "store job finished");
        Ok(report)
    }

    /// Compares store and index, and makes known what came of it. Tags that were lost are found by it.
    async fn compare_all(
        &self,
        op: Op,
        options: &AuditOptions,
        listening: &Listening,
        report: &mut AuditReport,
    ) -> Result<(), EngineError> {
        if options.repair && options.restore_lost_tags {
            self.restore_lost(op, listening, report).await?;
        }
        let now = self.0.deps.clock.now();
        Pace::new(op, "compare", now).tell(now, listening).await?;
        let reconcile = ReconcileOptions { repair: options.repair, ..options.reconcile };
        let (drift, gone) = self.compare(reconcile, Counting::All).await?;
        let drift = report.drift.insert(drift).clone();
        self.note(&Ok(drift), options.repair);
        if !options.repair {
            self.name_lost(op, gone, options.restore_lost_tags, listening, report).await?;
        }
        Ok(())
    }

    async fn inspect(
        &self,
        op: Op,
        options: &AuditOptions,
        listening: &Listening,
        report: &mut AuditReport,
    ) -> Result<(), EngineError> {
        let maintenance = self.maintenance(op)?;
        let clock = &self.0.deps.clock;
        let mut pace = Pace::new(op, "inspect", clock.now());
        let mut patience = Patience::new(op, options.from.clone());
        // While a conversion is unfinished a record may be in both places.
        let placed = maintenance.arrangement().await;
        let mut once = placed.is_ok_and(|placed| placed.leaving.is_some()).then(Once::default);
        loop {
            let mut items = maintenance.inspect(options.depth, patience.at.clone());
            // What was seen since the last mark is seen again after a failure: it counts with its mark.
            let mut since = AuditReport::default();
            let failed = loop {
                match items.next().await {
                    None => break None,
                    Some(Err(error)) => break Some(error),
                    Some(Ok(Inspected::Mark(mark))) => {
                        report.absorb(std::mem::take(&mut since));
                        once.iter_mut().for_each(Once::keep);
                        pace.mark = Some(mark.0.clone());
                        patience.reached(mark);
                        // Shards can be empty: a mark is a step as well.
                        pace.step(0, clock.now(), listening).await?;
                    }
                    Some(Ok(Inspected::Record(cid))) => {
                        since.records += u64::from(once.as_mut().is_none_or(|once| once.is_first(cid)));
                        pace.step(1, clock.now(), listening).await?;
                    }
                    Some(Ok(Inspected::Referrer)) => since.referrers += 1,
                    Some(Ok(Inspected::Finding(finding))) => {
                        self.found(op, finding, options.repair, listening, &mut since).await?;
                    }
                }
            };
            let Some(error) = failed else {
                report.absorb(since);
                return pace.tell(clock.now(), listening).await;
            };
            drop(items);
            once.iter_mut().for_each(Once::forget);
            patience.wait(error).await?;
        }
    }

    async fn found(
        &self,
        op: Op,
        finding: Finding,
        repair: bool,
        listening: &Listening,
        report: &mut AuditReport,
    ) -> Result<(), EngineError> {
        tracing::warn!(
            trouble = finding.trouble.name(),
            place = finding.place,
            tag = finding.tag,
            detail = finding.detail,
            "found in the store"
        );
        *report.found.entry(finding.trouble).or_default() += 1;
        let trouble = finding.trouble;
        if repair && trouble.is_repairable() {
            let done = self.maintenance(op)?.repair(&finding).await;
            if done.map_err(|e| EngineError::Store(op, String::new(), e))? {
                *report.repaired.entry(trouble).or_default() += 1;
            }
        }
        listening.tell(op, JobNews::Finding(finding)).await
    }

    /// Records that the index has and the store has not: their manifests are written anew where the content is there.
    async fn restore_lost(
        &self,
        op: Op,
        listening: &Listening,
        report: &mut AuditReport,
    ) -> Result<(), EngineError> {
        for cid in self.gone().await? {
            if self.restore(op, &cid).await? {
                *report.repaired.entry(Trouble::LostTag).or_default() += 1;
                lost(op, cid, "its manifest was written anew", listening, report).await?;
            }
        }
        Ok(())
    }

    /// Rows without a record whose content is still there: what a repair can bring back.
    async fn name_lost(
        &self,
        op: Op,
        gone: Vec<Cid>,
        planned: bool,
        listening: &Listening,
        report: &mut AuditReport,
    ) -> Result<(), EngineError> {
        let detail = if planned {
            "its content is there: its manifest would be written anew"
        } else {
            "its manifest is gone and its content is there: repair --restore-lost-tags writes the manifest anew"
        };
        let looked =
            stream::iter(gone).map(|cid| async move { self.holds(op, &cid).await.map(|held| (cid, held)) });
        let mut looked = std::pin::pin!(looked.buffered(self.0.config.rebuild_reads.max(1)));
        while let Some((cid, held)) = looked.try_next().await? {
            if held {
                lost(op, cid, detail, listening, report).await?;
            }
        }
        Ok(())
    }

    /// Whether the content of a record without a manifest is still there, and is what it should be.
    async fn holds(&self, op: Op, cid: &Cid) -> Result<bool, EngineError> {
        match self.0.deps.store.get(cid, Known::Live).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_) | StoreError::BlobMissing(_) | StoreError::Corrupt(_)) => Ok(false),
            Err(error) => Err(EngineError::Store(op, cid.to_string(), error)),
        }
    }

    async fn restore(&self, op: Op, cid: &Cid) -> Result<bool, EngineError> {
        let _turn = self.0.stripes.lock(cid).await;
        let row = self.0.deps.index.row(cid).await.map_err(|e| EngineError::Index(op, e))?;
        let Some(row) = row else { return Ok(false) };
        match self.maintenance(op)?.restore(cid, &row.facts, row.indexed_at).await {
            // What is left of it is not the record.
            Err(StoreError::Corrupt(_)) => Ok(false),
            restored => restored.map_err(|e| EngineError::Store(op, cid.to_string(), e)),
        }
    }
}

/// Counts a record whose tag was lost, and tells of it.
async fn lost(
    op: Op,
    cid: Cid,
    detail: &str,
    listening: &Listening,
    report: &mut AuditReport,
) -> Result<(), EngineError> {
    *report.found.entry(Trouble::LostTag).or_default() += 1;
    let (tag, detail) = (cid.to_string(), detail.to_owned());
    let (place, manifest) = (String::new(), String::new());
    let finding = Finding { trouble: Trouble::LostTag, place, tag, manifest, cid: Some(cid), detail };
    listening.tell(op, JobNews::Finding(finding)).await
}

impl AuditReport {
    fn absorb(&mut self, other: Self) {
        self.records += other.records;
        self.referrers += other.referrers;
        for (trouble, n) in other.found {
            *self.found.entry(trouble).or_default() += n;
        }
        for (trouble, n) in other.repaired {
            *self.repaired.entry(trouble).or_default() += n;
        }
    }
}
