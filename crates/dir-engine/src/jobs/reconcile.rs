//! The comparison of index and store, both ways.
//!
//! What the store lists is compared with the rows of the index without reading any record. A name that the index
//! does not know is looked at and taken in; a row that the store does not list is asked for by itself, and only the
//! store's own word that there is no such record makes it go. An outage never looks like deletion: any error ends
//! the comparison without a change, a store that has lost its mark is another store, a listing that leaves out what
//! is there is no listing, and more removals than an operator has allowed wait for the operator.

use crate::{Engine, EngineError, Op};
use dir_core::{Cid, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

/// Rows asked of the index at a time.
const PAGE: usize = 4096;
/// Rows that the store has although it did not list them: so many make the listing worthless.
const UNLISTED_MAX: u64 = 64;
/// CIDs shown of each kind of drift.
pub(super) const SAMPLES: usize = 20;
/// Who asks for the comparisons that nobody asks for.
const SCHEDULE: &str = "the server's schedule";
/// Rows without a record are counted to here at least by a comparison on schedule, each for a question to the store;
/// a job that somebody asked for counts all of them.
const COUNTED: u64 = 1000;

/// What a comparison may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcileOptions {
    /// Takes records in and rows out; otherwise it only counts.
    pub repair: bool,
    /// Rows that may go in one comparison, in hundredths of all rows. More wait for an operator.
    pub max_removal_percent: u8,
    /// Rows that may always go, however few there are.
    pub max_removals: u64,
}

impl Default for ReconcileOptions {
    fn default() -> Self {
        Self { repair: true, max_removal_percent: 10, max_removals: 10 }
    }
}

impl ReconcileOptions {
    /// Rows of so many that one comparison may take out.
    fn allowance(&self, rows: u64) -> u64 {
        (rows.saturating_mul(u64::from(self.max_removal_percent)) / 100).max(self.max_removals)
    }
}

/// What a comparison found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Rows of the index.
    pub rows: u64,
    /// Names in the store: records, and referrers that have tags.
    pub names: u64,
    /// Records in the store that the index lacks.
    pub missing_in_index: u64,
    /// Rows of the index without a record in the store.
    pub missing_in_store: u64,
    /// There may be more of them: they were not counted to the end.
    pub and_more: bool,
    /// Records taken in.
    pub added: u64,
    /// Rows taken out.
    pub removed: u64,
    /// Records that cannot be taken in: unreadable, or not valid.
    pub skipped: u64,
    /// Nothing was taken out because it would have been too much.
    pub held: bool,
    /// Some of the records that the index lacks.
    pub samples_missing_in_index: Vec<Cid>,
    /// Some of the rows without a record.
    pub samples_missing_in_store: Vec<Cid>,
}

impl Drift {
    fn too_many(&self) -> String {
        let Self { rows, missing_in_store, and_more, .. } = self;
        let at_least = if *and_more { "at least " } else { "" };
        format!(
            "{at_least}{missing_in_store} of {rows} rows have no record in the store: too many to take out unasked"
        )
    }
}

/// How far rows without a record are counted that will not be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Until it is clear that they are too many, and a bit further.
    Enough,
    /// All of them: somebody wants to know.
    All,
}

impl Counting {
    const fn limit(self, allowance: u64) -> u64 {
        match self {
            Counting::All => u64::MAX,
            Counting::Enough if allowance < COUNTED => COUNTED,
            Counting::Enough => allowance + 1,
        }
    }
}

/// Rows whose records the store says it does not have.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) cids: Vec<Cid>,
    /// They were not counted to the end.
    and_more: bool,
}

/// The comparisons so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcileStatus {
    /// What the last complete one found.
    pub last: Option<Drift>,
    /// When it ended.
    pub last_success: Option<Timestamp>,
    /// Why the last one was not completed; empty when it was.
    pub problem: String,
}

/// Names in the store, small: half a digest tells them apart.
struct Names(Vec<u128>);

impl Names {
    fn key(cid: &Cid) -> u128 {
        let mut half = [0; 16];
        half.copy_from_slice(&cid.digest()[..16]);
        u128::from_be_bytes(half)
    }

    fn contains(&self, cid: &Cid) -> bool {
        self.0.binary_search(&Self::key(cid)).is_ok()
    }
}

impl Engine {
    /// The comparisons so far.
    pub fn reconcile_status(&self) -> ReconcileStatus {
        self.0.jobs.status.lock().clone()
    }

    /// Compares index and store. `cancel` ends it between two steps; what was set right stays so.
    pub async fn reconcile(
        &self,
        options: ReconcileOptions,
        cancel: &CancellationToken,
    ) -> Result<Drift, EngineError> {
        // Not compared because of another job is no failed comparison: nothing is to be said of index and store.
        let Some(_turn) = self.try_turn(Op::Reconcile, &SCHEDULE.into()) else {
            return Err(EngineError::Refused(Op::Reconcile, self.other_job()));
        };
        let compared = cancel.run_until_cancelled(self.compare(options, Counting::Enough));
        let outcome = tokio::select! {
            biased;
            () = self.0.jobs.wanted.notified() => {
                return Err(EngineError::Refused(Op::Reconcile, "another job goes first".to_owned()));
            }
            compared = compared => compared.unwrap_or(Err(EngineError::Stopped(Op::Reconcile))),
        };
        let outcome = outcome.map(|(drift, _)| drift);
        self.note(&outcome, options.repair);
        outcome
    }

    /// Ends when a comparison has changed what [`Engine::reconcile_status`] says, whoever asked for it.
    pub async fn compared(&self) {
        self.0.jobs.compared.notified().await;
    }

    /// Makes known what came of a comparison: of every one, whoever asked for it.
    pub(super) fn note(&self, outcome: &Result<Drift, EngineError>, repair: bool) {
        self.publish(outcome, repair);
        self.0.jobs.compared.notify_one();
    }

    fn publish(&self, outcome: &Result<Drift, EngineError>, repair: bool) {
        let stats = &self.0.stats;
        let mut now = self.0.jobs.status.lock();
        match outcome {
            Ok(drift) => {
                stats.reconcile_runs.inc();
                stats.reconcile_added.add(drift.added);
                stats.reconcile_removed.add(drift.removed);
                let (rows, names) = (drift.rows, drift.names);
                let (index_lacks, store_lacks) = (drift.missing_in_index, drift.missing_in_store);
                let (added, removed, skipped) = (drift.added, drift.removed, drift.skipped);
                let mut last = drift.clone();
                // A look takes nothing out: what waited for the operator goes on waiting.
                let waited = !repair && now.last.as_ref().is_some_and(|last| last.held);
                last.held = drift.held || (waited && store_lacks > 0);
                if drift.held {
                    tracing::error!(
                        rows,
                        store_lacks,
                        at_least = drift.and_more,
                        "so many records are gone from the store that their rows were left in the index: look at the \
                         store; if they were meant to go: dir-admin store repair --yes --max-removal-percent 100"
                    );
                }
                tracing::info!(
                    rows,
                    names,
                    index_lacks,
                    store_lacks,
                    added,
                    removed,
                    skipped,
                    "index and store compared"
                );
                let problem = if last.held { last.too_many() } else { String::new() };
                let last_success = Some(self.0.deps.clock.now());
                *now = ReconcileStatus { last: Some(last), last_success, problem };
            }
            Err(EngineError::Stopped(_)) => {}
            Err(error) => {
                stats.reconcile_failed.inc();
                tracing::warn!(%error, detail = error.detail(), "index and store were not compared; nothing was changed");
                now.problem = error.to_string();
            }
        }
    }

    /// The comparison itself, and the rows whose records are gone. The caller holds the turn.
    pub(super) async fn compare(
        &self,
        options: ReconcileOptions,
        counting: Counting,
    ) -> Result<(Drift, Vec<Cid>), EngineError> {
        if !self.0.rebuild.complete() {
            return Err(EngineError::Refused(Op::Reconcile, "the index is being rebuilt".to_owned()));
        }
        self.recognise().await?;
        let begun = self.0.deps.clock.now();
        let (names, unknown) = self.names().await?;
        let mut drift = Drift { names: names.0.len() as u64, ..Drift::default() };
        let (rows, unlisted) = self.unlisted(&names, begun).await?;
        drift.rows = rows;
        drop(names);
        let allowance = options.allowance(rows);
        let Gone { cids: gone, and_more } = self.confirm(unlisted, counting.limit(allowance)).await?;
        // Had the store been exchanged or emptied in the middle, it would not know itself now.
        self.recognise().await?;
        (drift.missing_in_store, drift.and_more) = (gone.len() as u64, and_more);
        drift.samples_missing_in_store = gone.iter().take(SAMPLES).copied().collect();
        drift.held = drift.missing_in_store > allowance;
        if options.repair && !drift.held {
            drift.removed = self.take_out(&gone).await?;
        }
        self.take_in(unknown, options.repair, &mut drift).await?;
        Ok((drift, gone))
    }

    /// Rows of the index whose records the store says it does not have.
    pub(super) async fn gone(&self) -> Result<Vec<Cid>, EngineError> {
        self.recognise().await?;
        let begun = self.0.deps.clock.now();
        let (names, _) = self.names().await?;
        let (_, unlisted) = self.unlisted(&names, begun).await?;
        Ok(self.confirm(unlisted, u64::MAX).await?.cids)
    }

    async fn recognise(&self) -> Result<(), EngineError> {
        let known = self.maintenance(Op::Reconcile)?.recognised().await;
        if known.map_err(|e| EngineError::Store(Op::Reconcile, String::new(), e))? {
            return Ok(());
        }
        let why = "the store has lost its mark: it was emptied, or another one is in its place; the index is left as it \
                   is. Bring the store back, or restart the server to accept this one";
        Err(EngineError::Refused(Op::Reconcile, why.to_owned()))
    }

    /// Everything that the store lists, and what of it the index does not know and has not been looked at in vain.
    async fn names(&self) -> Result<(Names, Vec<Cid>), EngineError> {
        let now = self.0.deps.clock.now();
        let (mut names, mut unknown) = (Vec::new(), Vec::new());
        let mut listed = self.maintenance(Op::Reconcile)?.names();
        while let Some(part) = listed.next().await {
            let part = part.map_err(|e| EngineError::Store(Op::Reconcile, String::new(), e))?;
            let memory = self.0.jobs.memory.lock();
            for cid in part {
                names.push(Names::key(&cid));
                if memory.wants(&cid, now) && !self.0.deps.index.contains(&cid) {
                    unknown.push(cid);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        unknown.sort_unstable();
        unknown.dedup();
        Ok((Names(names), unknown))
    }

    /// How many rows there are, and those that the store did not list. Rows that are younger than the listing count
    /// as listed.
    async fn unlisted(&self, names: &Names, begun: Timestamp) -> Result<(u64, Vec<Cid>), EngineError> {
        let failed = |e| EngineError::Index(Op::Reconcile, e);
        let (mut rows, mut unlisted, mut after) = (0, Vec::new(), None);
        loop {
            let page = self.0.deps.index.cids(after.as_ref(), PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { return Ok((rows, unlisted)) };
            after = Some(*last);
            rows += page.len() as u64;
            for cid in page.into_iter().filter(|cid| !names.contains(cid)) {
                let row = self.0.deps.index.row(&cid).await.map_err(failed)?;
                if row.is_some_and(|row| row.indexed_at < begun) {
                    unlisted.push(cid);
                }
            }
        }
    }

    /// Asks the store for each record that it did not list. Stops when so many are gone and there are more to ask for.
    async fn confirm(&self, unlisted: Vec<Cid>, limit: u64) -> Result<Gone, EngineError> {
        let (mut gone, mut there, mut left) = (Gone::default(), 0, unlisted.len());
        let asked =
            stream::iter(unlisted).map(|cid| async move { self.is_gone(&cid).await.map(|gone| (cid, gone)) });
        let mut asked = std::pin::pin!(asked.buffered(self.0.config.rebuild_reads.max(1)));
        while let Some((cid, is_gone)) = asked.try_next().await? {
            left -= 1;
            if is_gone {
                gone.cids.push(cid);
                if gone.cids.len() as u64 >= limit {
                    gone.and_more = left > 0;
                    break;
                }
            } else if self.0.deps.index.contains(&cid) {
                there += 1;
                if there >= UNLISTED_MAX {
                    let text = format!("the store's listing left out {there} records that are there");
                    return Err(EngineError::Refused(Op::Reconcile, text));
                }
            }
        }
        Ok(gone)
    }

    /// Whether the store itself says that a record is not there.
    pub(super) async fn is_gone(&self, cid: &Cid) -> Result<bool, EngineError> {
        let found = self.0.deps.store.resolve(cid).await;
        let found = found.map_err(|e| EngineError::Store(Op::Reconcile, cid.to_string(), e))?;
        Ok(found.is_none() && self.0.deps.index.contains(cid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_counts_far_enough_and_says_when_there_may_be_more() {
        for (allowance, limit) in [(0, 1000), (10, 1000), (999, 1000), (1000, 1001), (50_000, 50_001)] {
            assert_eq!(Counting::Enough.limit(allowance), limit);
            assert_eq!(Counting::All.limit(allowance), u64::MAX);
        }
        let drift =
            Drift { rows: 5000, missing_in_store: 1000, and_more: true, held: true, ..Drift::default() };
        assert!(drift.too_many().starts_with("at least 1000 of 5000 rows"), "{}", drift.too_many());
        let drift = Drift { and_more: false, ..drift };
        assert!(drift.too_many().starts_with("1000 of 5000 rows"), "{}", drift.too_many());
    }
}
