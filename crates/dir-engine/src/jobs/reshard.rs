//! The conversion of the store's layout.

use super::{JobNews, Listening, Pace, Patience};
use crate::{Engine, EngineError, Op};
use dir_core::maintenance::{Arrangement, Reshard, Spread, StoreMaintenance};
use dir_core::store::StoreError;
use dir_core::{Cid, Clock};
use futures::StreamExt;
use std::collections::BTreeSet;

/// Rows asked of the index at a time.
const PAGE: usize = 4096;

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReshardReport {
    /// Records that are where they belong now. In a dry run: that would be moved.
    pub moved: u64,
    /// Referrers that went with them.
    pub referrers: u64,
    /// Records that cannot be moved and stay where they are.
    pub left: u64,
    /// Nothing is left to do. Otherwise the limit came first, and another run goes on.
    pub done: bool,
    /// Duration in milliseconds.
    pub millis: u64,
    /// Records that are still to be looked at, when the limit came first.
    pub remaining: u64,
}

impl Engine {
    /// Moves every record to where the layout `to` wants it, while everybody is served. `limit` ends it after so many
    /// records; the next run goes on.
    pub async fn reshard_store(
        &self,
        to: Spread,
        dry_run: bool,
        limit: Option<u64>,
        listening: &Listening,
    ) -> Result<ReshardReport, EngineError> {
        let op = Op::Reshard;
        let _turn = self.turn(op, &listening.by).await?;
        let maintenance = self.maintenance(op)?.as_ref();
        let clock = self.0.deps.clock.as_ref();
        let begun = clock.now();
        tracing::info!(%to, dry_run, limit, by = %listening.by, "store job started: reshard");
        let mut conversion = Conversion {
            clock,
            listening,
            limit,
            report: ReshardReport::default(),
            left: BTreeSet::new(),
            pace: Pace::new(op, "move", begun),
            patience: Patience::new(op, None),
        };
        let ages = self.ages(maintenance, to).await?;
        while let Some(error) = conversion.attempt(maintenance, to, dry_run, &ages).await? {
            conversion.patience.wait(error).await?;
        }
        let report = conversion.end(begun.0).await?;
        tracing::info!(%to, moved = report.moved, left = report.left, done = report.done, "store job finished: reshard");
        Ok(report)
    }

    /// The records that one repository holds, oldest first: so a large one finds them soonest. Elsewhere the order
    /// saves nothing.
    async fn ages(&self, maintenance: &dyn StoreMaintenance, to: Spread) -> Result<Vec<Cid>, EngineError> {
        let failed = |e| EngineError::Index(Op::Reshard, e);
        let known = maintenance.arrangement().await;
        let crowded = |a: Arrangement| a.now == Spread::Single || a.leaving == Some(Spread::Single);
        // A store that does not answer is met, with patience, by the conversion itself.
        if to == Spread::Single || !known.is_ok_and(crowded) {
            return Ok(Vec::new());
        }
        let (mut ages, mut after) = (Vec::new(), None);
        loop {
            let page = self.0.deps.index.cids(after.as_ref(), PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for cid in page {
                let row = self.0.deps.index.row(&cid).await.map_err(failed)?;
                ages.extend(row.map(|row| (row.indexed_at, cid)));
            }
        }
        ages.sort_unstable();
        Ok(ages.into_iter().map(|(_, cid)| cid).collect())
    }
}

/// What came of a step.
enum After {
    /// There is more.
    Step,
    /// Nothing is left, or the limit is reached.
    Over,
}

/// A conversion under way, over all its attempts.
struct Conversion<'a> {
    clock: &'a dyn Clock,
    listening: &'a Listening,
    limit: Option<u64>,
    report: ReshardReport,
    /// What cannot be moved; another pass sees it again.
    left: BTreeSet<(String, String)>,
    pace: Pace,
    patience: Patience,
}

impl Conversion<'_> {
    /// Goes on with what is left, to the end or to the store's first failure.
    async fn attempt(
        &mut self,
        maintenance: &dyn StoreMaintenance,
        to: Spread,
        dry_run: bool,
        ages: &[Cid],
    ) -> Result<Option<StoreError>, EngineError> {
        let mut steps = maintenance.reshard(to, dry_run, ages);
        let mut looked = 0;
        while let Some(step) = steps.next().await {
            match step {
                Ok(step) => {
                    if let After::Over = self.step(step, &mut looked).await? {
                        break;
                    }
                }
                Err(error) => {
                    // What was looked at in this attempt is looked at again, or gone.
                    self.pace.done = self.pace.done.saturating_sub(looked).max(self.report.moved);
                    return Ok(Some(error));
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self, step: Reshard, looked: &mut u64) -> Result<After, EngineError> {
        match step {
            Reshard::Total(total) => {
                *looked = 0;
                self.pace.total = Some(self.pace.done + total);
                self.pace.tell(self.clock.now(), self.listening).await?;
                return Ok(After::Step);
            }
            Reshard::Done => {
                self.report.done = true;
                return Ok(After::Over);
            }
            Reshard::Passed => {}
            Reshard::Moved(_, referrers) => {
                self.patience.failures = 0;
                self.report.moved += 1;
                self.report.referrers += referrers;
            }
            Reshard::Left(finding) => {
                if self.left.insert((finding.place.clone(), finding.tag.clone())) {
                    self.listening.tell(Op::Reshard, JobNews::Finding(finding)).await?;
                }
            }
        }
        *looked += 1;
        self.pace.step(1, self.clock.now(), self.listening).await?;
        let reached = self.limit.is_some_and(|limit| self.report.moved >= limit);
        Ok(if reached { After::Over } else { After::Step })
    }

    async fn end(mut self, begun: i64) -> Result<ReshardReport, EngineError> {
        self.pace.tell(self.clock.now(), self.listening).await?;
        let report = &mut self.report;
        report.left = self.left.len() as u64;
        if !report.done {
            report.remaining = self.pace.total.unwrap_or_default().saturating_sub(self.pace.done);
        }
        report.millis = u64::try_from(self.clock.now().0.saturating_sub(begun)).unwrap_or_default();
        Ok(self.report)
    }
}
