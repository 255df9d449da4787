//! The one writer: a thread that takes all waiting changes, writes them in batches, flushes once, and only then
//! makes them visible and answers. Callers that wait at the same time share a flush.

use super::failure::from_sled;
use super::{keys, marker, owners, read_events, saved};
use crate::codec::{Summary, encode_event, encode_row, encode_summary, encode_usage};
use crate::core::Core;
use crate::log::horizon;
use crate::memory::labels_of;
use dir_core::index::{Applied, Change, EventSpan, IndexError, Usage};
use dir_core::{Cid, EventKind, RecordFacts, Timestamp};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Operations of one sled batch at most: larger ones cost memory out of proportion.
const BATCH_OPERATIONS: usize = 150;
/// Operations of one change at most: the row, under its key and that of earlier versions, the owner likewise, the
/// counters, the event.
const CHANGE_OPERATIONS: usize = 6;
/// Changes that share a flush at most: bounds the time until the first of them is answered.
const GROUP_CHANGES: usize = 2_048;
/// The log lets go of so many old events at a time.
const TRIM_EVENTS: u64 = 128;
/// They leave the disk so many at a time, while nobody waits.
const SWEPT_AT_ONCE: u64 = 16;
/// When more than so many wait for that, somebody has to wait for them.
const UNSWEPT_EVENTS: u64 = 1_024;

type Answer<T> = oneshot::Sender<Result<T, IndexError>>;

/// What the thread is asked.
pub(super) enum Request {
    Apply(Vec<Change>, Answer<Vec<Applied>>),
    Count(Vec<(Cid, Usage)>, Answer<()>),
    Close(Answer<()>),
}

pub(super) struct Writer {
    pub(super) db: sled::Db,
    pub(super) core: Arc<Core>,
    pub(super) summary: Summary,
    pub(super) oldest_seq: u64,
    /// Number of the oldest event on disk.
    pub(super) swept_seq: u64,
    pub(super) span: Arc<RwLock<EventSpan>>,
    pub(super) event_retention: u64,
    pub(super) event_max_age: Option<Duration>,
    /// The last event of the next batch to remove, and when it happened.
    pub(super) next_batch: Option<(u64, Timestamp)>,
    pub(super) path: PathBuf,
    /// Rows came or went since the index was opened.
    pub(super) rows_changed: bool,
    /// The first failure in words, for those who look after the process.
    pub(super) impaired: Arc<Mutex<Option<String>>>,
    /// Set by the first failure: what is on disk is then uncertain, and no later change may build on it.
    pub(super) failed: bool,
}

/// Changes on their way to disk.
#[derive(Default)]
struct Group {
    batch: sled::Batch,
    operations: usize,
    /// When rows came that earlier changes of the group make; `None` for those that they remove.
    rows: HashMap<Cid, Option<Timestamp>>,
}

impl Writer {
    /// Serves requests until closed, or until nobody can ask any more.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut group = Vec::new();
            let (mut close, mut count) = (None, None);
            let mut changes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Apply(list, answer) => {
                        changes += list.len();
                        group.push((list, answer));
                    }
                    Request::Count(counts, answer) => count = Some((counts, answer)),
                    Request::Close(answer) => close = Some(answer),
                }
                let full = changes >= GROUP_CHANGES || close.is_some() || count.is_some();
                next = if full { None } else { requests.try_recv().ok() };
            }
            self.commit(group);
            self.sweep(&requests);
            if let Some((counts, answer)) = count {
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(self.count(&counts));
            }
            if let Some(answer) = close {
                requests.close();
                let closed = self.close();
                drop(self);
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(closed);
                return;
            }
        }
    }

    fn commit(&mut self, group: Vec<(Vec<Change>, Answer<Vec<Applied>>)>) {
        if group.is_empty() {
            return;
        }
        let staged = if self.failed { Err(stopped()) } else { self.stage(&group) };
        match staged {
            Ok(results) => {
                *self.span.write() = EventSpan { oldest: self.oldest_seq, next: self.summary.next_seq };
                for ((changes, answer), applied) in group.into_iter().zip(results) {
                    self.rows_changed |= applied.iter().any(|applied| applied.changed);
                    self.show(changes);
                    let _ = answer.send(Ok(applied));
                }
            }
            Err(error) => {
                self.fail(&error);
                let mut first = Some(error);
                for (_, answer) in group {
                    let _ = answer.send(Err(first.take().unwrap_or_else(stopped)));
                }
            }
        }
    }

    fn fail(&mut self, error: &IndexError) {
        self.failed = true;
        tracing::error!(%error, "the index takes no further changes");
        *self.impaired.lock() = Some(error.to_string());
    }

    /// Adds to counters: on disk first, then where they are answered from.
    fn count(&mut self, counts: &[(Cid, Usage)]) -> Result<(), IndexError> {
        if self.failed {
            return Err(stopped());
        }
        let written = self.write_counts(counts);
        if let Err(error) = &written {
            self.fail(error);
        }
        written?;
        for (cid, more) in counts {
            self.core.add_usage(cid, *more);
        }
        Ok(())
    }

    fn write_counts(&self, counts: &[(Cid, Usage)]) -> Result<(), IndexError> {
        let mut sums: HashMap<&Cid, Usage> = HashMap::new();
        for (cid, more) in counts {
            if let Some(now) = self.core.usage(cid) {
                let sum = sums.entry(cid).or_insert(now);
                *sum = sum.plus(*more);
            }
        }
        let sums: Vec<(&Cid, Usage)> = sums.into_iter().collect();
        for some in sums.chunks(BATCH_OPERATIONS) {
            let mut batch = sled::Batch::default();
            for (cid, sum) in some {
                let key = keys::usage(cid);
                batch.insert(&key[..], encode_usage(&key, *sum));
            }
            self.db.apply_batch(batch).map_err(|e| from_sled("writing counters", e))?;
        }
        self.db.flush().map_err(|e| from_sled("flushing", e))?;
        Ok(())
    }

    /// Writes and flushes; on return everything is on disk.
    fn stage(
        &mut self,
        group: &[(Vec<Change>, Answer<Vec<Applied>>)],
    ) -> Result<Vec<Vec<Applied>>, IndexError> {
        let mut staged = Group::default();
        let mut results = Vec::with_capacity(group.len());
        for (changes, _) in group {
            let mut applied = Vec::with_capacity(changes.len());
            for change in changes {
                // The summary is the last operation of every batch.
                if staged.operations + CHANGE_OPERATIONS >= BATCH_OPERATIONS {
                    self.write(&mut staged)?;
                }
                applied.push(match change {
                    Change::Put { cid, facts, at, event, owner } => {
                        let applied = self.put(&mut staged, cid, facts, *at, *event);
                        if let Some(owner) = owner.as_deref().filter(|_| applied.changed) {
                            owners::put(&mut staged.batch, *at, cid, owner);
                            staged.operations += 1;
                        }
                        applied
                    }
                    Change::Delete { cid, at, event } => self.delete(&mut staged, cid, *at, *event),
                });
            }
            results.push(applied);
        }
        self.write(&mut staged)?;
        let newest = group.iter().flat_map(|(changes, _)| changes).filter_map(told_at).max();
        self.trim(newest)?;
        self.db.flush().map_err(|e| from_sled("flushing", e))?;
        Ok(results)
    }

    fn put(
        &mut self,
        staged: &mut Group,
        cid: &Cid,
        facts: &RecordFacts,
        at: Timestamp,
        event: Option<EventKind>,
    ) -> Applied {
        let present = self.came_at(staged, cid).is_some();
        if !present {
            let key = keys::row(at, cid);
            staged.batch.insert(&key[..], encode_row(&key, at, facts));
            staged.operations += 1;
            staged.rows.insert(*cid, Some(at));
            self.summary.add(cid);
        }
        let seq = event.map(|kind| {
            let labels = labels_of(kind, || facts.labels());
            self.event(staged, kind, at, cid, &labels)
        });
        Applied { seq, changed: !present }
    }

    fn delete(&mut self, staged: &mut Group, cid: &Cid, at: Timestamp, event: Option<EventKind>) -> Applied {
        let came = self.came_at(staged, cid);
        if let Some(came) = came {
            staged.batch.remove(&keys::row(came, cid)[..]);
            staged.batch.remove(&keys::old_row(cid)[..]);
            owners::remove(&mut staged.batch, came, cid);
            staged.operations += 4;
            if self.core.usage(cid).is_some_and(|usage| usage.total() > 0) {
                staged.batch.remove(&keys::usage(cid)[..]);
                staged.operations += 1;
            }
            staged.rows.insert(*cid, None);
            self.summary.take(cid);
        }
        let seq = event.map(|kind| self.event(staged, kind, at, cid, &[]));
        Applied { seq, changed: came.is_some() }
    }

    /// When a record came, as the changes before this one leave it.
    fn came_at(&self, staged: &Group, cid: &Cid) -> Option<Timestamp> {
        staged.rows.get(cid).copied().unwrap_or_else(|| self.core.came_at(cid))
    }

    fn event(
        &mut self,
        staged: &mut Group,
        kind: EventKind,
        at: Timestamp,
        cid: &Cid,
        labels: &[String],
    ) -> u64 {
        let seq = self.summary.next_seq;
        self.summary.next_seq += 1;
        let key = keys::event(seq);
        staged.batch.insert(&key[..], encode_event(&key, kind, at, cid, labels));
        staged.operations += 1;
        seq
    }

    /// One atomic batch: rows, events, and the summary that counts them.
    fn write(&mut self, staged: &mut Group) -> Result<(), IndexError> {
        if staged.operations == 0 {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut staged.batch);
        staged.operations = 0;
        batch.insert(keys::SUMMARY, encode_summary(keys::SUMMARY, self.summary));
        self.db.apply_batch(batch).map_err(|e| from_sled("writing", e))
    }

    /// Lets go of the oldest events once there are enough of them: too many, or too old.
    fn trim(&mut self, newest: Option<Timestamp>) -> Result<(), IndexError> {
        let horizon = newest.and_then(|newest| horizon(newest, self.event_max_age));
        while self.too_many() || self.too_old(horizon)? {
            self.oldest_seq += TRIM_EVENTS;
        }
        Ok(())
    }

    /// Removes from disk what the log has let go of, while nobody waits or when much has been left. A crash brings back
    /// what was not removed: events that are older than promised.
    fn sweep(&mut self, requests: &mpsc::Receiver<Request>) {
        while !self.failed && self.swept_seq < self.oldest_seq {
            if self.oldest_seq - self.swept_seq <= UNSWEPT_EVENTS && !requests.is_empty() {
                return;
            }
            let mut batch = sled::Batch::default();
            let end = self.oldest_seq.min(self.swept_seq + SWEPT_AT_ONCE);
            (self.swept_seq..end).for_each(|seq| batch.remove(&keys::event(seq)[..]));
            match self.db.apply_batch(batch) {
                Ok(()) => self.swept_seq = end,
                Err(error) => self.fail(&from_sled("trimming the event log", error)),
            }
        }
    }

    fn too_many(&self) -> bool {
        self.summary.next_seq - self.oldest_seq >= self.event_retention.saturating_add(TRIM_EVENTS)
    }

    /// Whether a whole batch lies before the horizon. Its last event is read once, not at every commit.
    fn too_old(&mut self, horizon: Option<Timestamp>) -> Result<bool, IndexError> {
        let (Some(horizon), last) = (horizon, self.oldest_seq + TRIM_EVENTS - 1) else { return Ok(false) };
        if last >= self.summary.next_seq {
            return Ok(false);
        }
        if self.next_batch.is_none_or(|(seq, _)| seq != last) {
            let event = read_events(&self.db, last - 1, 1)?;
            self.next_batch = event.first().map(|event| (event.seq, event.at));
        }
        Ok(self.next_batch.is_some_and(|(seq, at)| seq == last && at < horizon))
    }

    /// Makes committed changes visible.
    fn show(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put { cid, facts, at, .. } => self.core.put(cid, &facts, at),
                Change::Delete { cid, .. } => self.core.delete(&cid),
            };
        }
    }

    fn close(&mut self) -> Result<(), IndexError> {
        if self.failed {
            return Err(stopped());
        }
        self.db.flush().map_err(|e| from_sled("flushing", e))?;
        self.save_chunks()?;
        marker::write(&self.path, self.summary)
    }

    /// For a fast start. Without it the next one reads the tree; with an old one it must not.
    fn save_chunks(&self) -> Result<(), IndexError> {
        if !self.rows_changed && saved::exists(&self.path) {
            return Ok(());
        }
        saved::write(&self.path, self.summary, &self.core).or_else(|error| {
            tracing::warn!(%error, "chunks not saved; the next start takes longer");
            saved::remove(&self.path)
        })
    }
}

/// When a change that leaves an event happened.
fn told_at(change: &Change) -> Option<Timestamp> {
    match change {
        Change::Put { at, event, .. } | Change::Delete { at, event, .. } => event.map(|_| *at),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an earlier write failed, see the log; restart to recover what is on disk")]
struct Stopped;

fn stopped() -> IndexError {
    IndexError::Backend { context: "writing", source: Stopped.into() }
}
