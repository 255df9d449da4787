//! The index from the store: a background job that never stands in the way of pulls.

mod deletions;
mod pass;

use crate::{Engine, EngineError, Journaled, Op, RebuildJournal};
use deletions::Deletions;
use dir_core::index::Change;
use dir_core::json::Doc;
use dir_core::store::{Known, StoreError, Stored};
use dir_core::{Cid, Class, Classified, EventKind, Timestamp};
use parking_lot::Mutex;
use pass::Pass;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What an index can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildState {
    /// It holds every record.
    Ready,
    /// It may lack records, and nobody has begun to look.
    Pending,
    /// It may lack records; a rebuild is running.
    Rebuilding,
    /// It may lack records; the last rebuild ended with an error.
    Failed,
}

/// Progress of the last or running rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildStatus {
    /// What the index can be used for.
    pub state: RebuildState,
    /// Live records in the index.
    pub records: u64,
    /// Records seen in the store.
    pub walked: u64,
    /// Records added to the index.
    pub added: u64,
    /// Records that could not be taken: manifest or content unreadable, or not valid.
    pub skipped: u64,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// Mean rate, records seen per second.
    pub records_per_second: f64,
    /// One sentence for operators.
    pub detail: String,
}

struct Run {
    state: RebuildState,
    walked: u64,
    added: u64,
    skipped: u64,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    detail: String,
}

pub(crate) struct Progress {
    complete: AtomicBool,
    run: Mutex<Run>,
    deletions: Mutex<Deletions>,
}

impl Progress {
    pub(crate) fn new(incomplete: bool) -> Self {
        let state = if incomplete { RebuildState::Pending } else { RebuildState::Ready };
        let detail = if incomplete { "the index was not compared with the store yet" } else { "" };
        Self {
            complete: AtomicBool::new(!incomplete),
            run: Mutex::new(Run {
                state,
                walked: 0,
                added: 0,
                skipped: 0,
                started: None,
                ended: None,
                detail: detail.to_owned(),
            }),
            deletions: Mutex::default(),
        }
    }

    /// A record is about to be deleted. The caller keeps the rebuild away from it.
    pub(crate) fn note_deletion(&self, cid: &Cid) {
        self.deletions.lock().note(cid);
    }

    /// Whether a record that the index does not know is not there.
    pub(crate) fn complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    fn begin(&self, now: Timestamp) {
        self.complete.store(false, Ordering::Release);
        self.deletions.lock().begin();
        let detail = "reading records from the store".to_owned();
        let state = RebuildState::Rebuilding;
        *self.run.lock() =
            Run { state, walked: 0, added: 0, skipped: 0, started: Some(now), ended: None, detail };
    }

    fn end(&self, now: Timestamp, outcome: Result<(), &EngineError>) {
        self.deletions.lock().end();
        let mut run = self.run.lock();
        run.ended = Some(now);
        (run.state, run.detail) = match outcome {
            Ok(()) => (RebuildState::Ready, String::new()),
            Err(error) => (RebuildState::Failed, error.to_string()),
        };
        self.complete.store(outcome.is_ok(), Ordering::Release);
    }
}

/// One record of the store, ready for the index; the guard keeps a delete of it away until it is committed.
pub(crate) struct Found<'a> {
    pub(crate) change: Change,
    _turn: MutexGuard<'a, ()>,
}

impl Engine {
    /// Whether [`Engine::rebuild`] has something to do: the index is new or was set aside, or an earlier rebuild
    /// was not finished.
    pub fn needs_rebuild(&self, journal: &dyn RebuildJournal) -> bool {
        let unfinished = !matches!(journal.load(), Ok(Journaled::Finished));
        unfinished || !self.0.rebuild.complete()
    }

    /// Whether a record that the index does not know is not there.
    pub fn is_index_complete(&self) -> bool {
        self.0.rebuild.complete()
    }

    /// Progress of the last or running rebuild.
    pub fn rebuild_status(&self) -> RebuildStatus {
        let run = self.0.rebuild.run.lock();
        let until = run.ended.unwrap_or_else(|| self.0.deps.clock.now());
        let millis = run.started.map_or(0, |began| until.0.saturating_sub(began.0)).max(1);
        #[allow(clippy::cast_precision_loss)] // a rate for people
        let records_per_second = run.walked as f64 * 1000.0 / millis as f64;
        RebuildStatus {
            state: run.state,
            records: self.0.deps.index.len(),
            walked: run.walked,
            added: run.added,
            skipped: run.skipped,
            started_at: run.started,
            records_per_second,
            detail: run.detail.clone(),
        }
    }

    /// Walks the store and adds what the index lacks; serves everything else meanwhile. A store that does not
    /// answer is asked again, with growing pauses, from the last mark on. Ends early when `cancel` fires; the
    /// journal then knows where the next call goes on.
    pub async fn rebuild(
        &self,
        journal: &dyn RebuildJournal,
        cancel: &CancellationToken,
    ) -> Result<(), EngineError> {
        let clock = &self.0.deps.clock;
        self.0.rebuild.begin(clock.now());
        tracing::info!(records = self.0.deps.index.len(), "index rebuild started");
        let outcome = cancel.run_until_cancelled(self.rebuild_to_end(journal)).await;
        let Some(outcome) = outcome else {
            tracing::info!("index rebuild interrupted; it goes on at the next start");
            return Ok(());
        };
        self.0.rebuild.end(clock.now(), outcome.as_ref().copied());
        let status = self.rebuild_status();
        let (walked, added, skipped) = (status.walked, status.added, status.skipped);
        match &outcome {
            Ok(()) => tracing::info!(walked, added, skipped, "index rebuild finished"),
            Err(error) => {
                let detail = error.detail();
                tracing::error!(walked, added, skipped, %error, detail, "index rebuild failed");
            }
        }
        outcome
    }

    async fn rebuild_to_end(&self, journal: &dyn RebuildJournal) -> Result<(), EngineError> {
        let noted = |result: std::io::Result<()>| {
            if let Err(error) = result {
                tracing::warn!(%error, "rebuild journal not written; a restart begins anew");
            }
        };
        let mut from = match journal.load() {
            Ok(Journaled::At(mark)) => Some(mark),
            Ok(Journaled::Begun | Journaled::Finished) | Err(_) => None,
        };
        noted(journal.note(from.as_ref()));
        let mut pause = self.0.config.rebuild_pause;
        loop {
            let before = from.clone();
            let pass = self.pass(&mut from, |mark| noted(journal.note(Some(mark)))).await?;
            let Pass::Again(error) = pass else { break };
            if from != before {
                pause = self.0.config.rebuild_pause;
            }
            let detail = error.detail();
            tracing::warn!(%error, detail, ?pause, "index rebuild waits for the store");
            self.0.rebuild.run.lock().detail = format!("waiting for the store: {error}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        noted(journal.done());
        Ok(())
    }

    /// What the index needs to know of a record that a walk has just seen in the store; `None` when it knows it, or
    /// when the record cannot be taken.
    async fn find(&self, stored: Stored) -> Result<Option<Found<'_>>, EngineError> {
        let cid = stored.cid;
        let turn = self.0.stripes.lock(&cid).await;
        if self.0.deps.index.contains(&cid) {
            return Ok(None);
        }
        // The walk has read its manifest, and it was not deleted since: its content is all that is missing.
        let live = self.0.rebuild.deletions.lock().is_untouched(&cid);
        let known = if live { Known::Live } else { Known::Unknown };
        self.examine(&cid, known, stored.created, None, turn).await
    }

    /// The same of a name: the store is asked what it stands for. The last answer says whether it is a record.
    pub(crate) async fn find_named(&self, cid: &Cid) -> Result<(Option<Found<'_>>, bool), EngineError> {
        let turn = self.0.stripes.lock(cid).await;
        if self.0.deps.index.contains(cid) {
            return Ok((None, true));
        }
        let stored = match self.0.deps.store.resolve(cid).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok((None, false)),
            Err(error @ StoreError::BadManifest(_)) => return Ok((self.skip(cid, &error.to_string()), true)),
            Err(error) => return Err(EngineError::Store(Op::Reconcile, cid.to_string(), error)),
        };
        let event = Some(EventKind::RecordPushed);
        Ok((self.examine(cid, Known::Live, stored.created, event, turn).await?, true))
    }

    /// Reads a record and looks at it.
    async fn examine<'a>(
        &self,
        cid: &Cid,
        known: Known,
        created: Option<Timestamp>,
        event: Option<EventKind>,
        turn: MutexGuard<'a, ()>,
    ) -> Result<Option<Found<'a>>, EngineError> {
        let cid = *cid;
        let record = match self.0.deps.store.get(&cid, known).await {
            Ok(record) => record,
            // Deleted since the walk saw it.
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) if matches!(error.class(), Class::Unavailable | Class::Timeout) => {
                return Err(EngineError::Store(Op::Rebuild, cid.to_string(), error));
            }
            Err(error) => return Ok(self.skip(&cid, &error.to_string())),
        };
        let facts = Doc::parse(record.bytes())
            .map_err(|e| e.to_string())
            .and_then(|doc| self.0.deps.rules.facts(&doc).map_err(|e| e.to_string()));
        match facts {
            Ok(facts) => {
                let at = created.unwrap_or_else(|| self.0.deps.clock.now());
                let change = Change::Put { cid, facts: Arc::new(facts), at, event, owner: None };
                Ok(Some(Found { change, _turn: turn }))
            }
            Err(why) => Ok(self.skip(&cid, &why)),
        }
    }

    fn skip<T>(&self, cid: &Cid, why: &str) -> Option<T> {
        tracing::warn!(%cid, why, "record left out of the index");
        self.0.stats.rebuild_skipped.inc();
        self.0.rebuild.run.lock().skipped += 1;
        None
    }
}
