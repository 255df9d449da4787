//! Changes from the event log: what was missed is replayed, then they come as they happen, none missing and none
//! twice. One task reads the log for all watches.

use crate::{Engine, EventFilter, Inner};
use dir_core::Event;
use dir_core::index::{IndexError, RecordIndex};
use futures::stream::{self, Stream};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

/// Events read from the log at a time.
const BATCH: usize = 256;

/// What a watch is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A change.
    Event(Arc<Event>),
    /// Nothing to report up to this sequence number.
    Bookmark(u64),
}

/// Why a watch ended. Each but the last names the sequence number to start again with.
#[derive(Debug, thiserror::Error)]
pub enum WatchEnd {
    /// The log does not reach back to the cursor.
    #[error("cursor {since} has expired: {}; read the records anew and resume with since={resume}", kept(.oldest.as_ref()))]
    Expired {
        /// As it was sent.
        since: u64,
        /// The earliest cursor that is answered, beside 0.
        resume: u64,
        /// The oldest change that is kept, if any is.
        oldest: Option<u64>,
    },
    /// The log has never been as far as the cursor.
    #[error(
        "cursor {since} is not of this log, which ends at {end}; read the records anew and resume with since={end}"
    )]
    Unknown {
        /// As it was sent.
        since: u64,
        /// The newest change.
        end: u64,
    },
    /// The reader fell behind by more than is kept for it.
    #[error("the reader is too slow and {missed} changes behind; resume with since={resume}")]
    Slow {
        /// Changes it did not get.
        missed: u64,
        /// The last change it got.
        resume: u64,
    },
    /// The index failed.
    #[error("failed to read the event log")]
    Index(#[source] IndexError),
}

fn kept(oldest: Option<&u64>) -> String {
    oldest.map_or_else(|| "no change is kept".to_owned(), |seq| format!("the oldest change kept is {seq}"))
}

/// The one reader of the log, and those who wait for what it reads.
pub(crate) struct Tail {
    sender: broadcast::Sender<Arc<Event>>,
    woken: Notify,
    running: Mutex<bool>,
}

impl Tail {
    pub(crate) fn new(buffer: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(buffer.max(1)),
            woken: Notify::new(),
            running: Mutex::new(false),
        }
    }

    /// The log has grown.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }
}

/// Committed events above a sequence number. The log may show events before they are durable: those are not told yet,
/// for a crash would give their numbers to others.
async fn committed(index: &dyn RecordIndex, after: u64) -> Result<Vec<Event>, IndexError> {
    let next = index.event_span().next;
    let mut events = index.events(after, BATCH).await?;
    events.retain(|event| event.seq < next);
    Ok(events)
}

/// Reads the log for as long as anybody watches.
async fn follow(inner: Weak<Inner>, tail: Arc<Tail>, mut at: u64) {
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            loop {
                match committed(inner.deps.index.as_ref(), at).await {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => {
                        for event in events {
                            at = event.seq;
                            // Fails only when the last watch has just gone.
                            drop(tail.sender.send(Arc::new(event)));
                        }
                        // Those who keep up take them before the next come: a burst makes nobody slow.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "event log not readable; watches wait for the next change");
                        break;
                    }
                }
            }
        }
        {
            let mut running = tail.running.lock();
            if tail.sender.receiver_count() == 0 {
                *running = false;
                return;
            }
        }
        tail.woken.notified().await;
    }
}

enum Phase {
    /// Reading the log; the receiver is there once the end was near.
    Replay(Option<broadcast::Receiver<Arc<Event>>>),
    Live(broadcast::Receiver<Arc<Event>>),
}

struct Watch {
    engine: Engine,
    filter: EventFilter,
    idle: Duration,
    /// The last event that was dealt with.
    at: u64,
    /// Whatever is kept will do to begin with, also when what was the oldest is removed before it is read.
    from_oldest: bool,
    read: VecDeque<Event>,
    phase: Phase,
    /// When a bookmark is due.
    due: Instant,
}

impl Engine {
    /// Changes after `since` that match, then changes as they happen. `None` is from now on; 0, which is the number of no
    /// change, is from the oldest that is kept. A bookmark says that everything kept was replayed, and is repeated
    /// whenever nothing was told for `idle`.
    pub fn watch(
        &self,
        since: Option<u64>,
        filter: EventFilter,
        idle: Duration,
    ) -> Result<impl Stream<Item = Result<Watched, WatchEnd>> + Send + use<>, WatchEnd> {
        let span = self.0.deps.index.event_span();
        let (begin, end) = (span.oldest.saturating_sub(1), span.next.saturating_sub(1));
        let at = match since {
            None => end,
            Some(0) => begin,
            Some(since) if since > end => return Err(WatchEnd::Unknown { since, end }),
            Some(since) if since < begin => {
                let oldest = (begin < end).then_some(span.oldest);
                return Err(WatchEnd::Expired { since, resume: begin, oldest });
            }
            Some(since) => since,
        };
        let watch = Watch {
            engine: self.clone(),
            filter,
            idle,
            at,
            from_oldest: since == Some(0),
            read: VecDeque::new(),
            phase: Phase::Replay(None),
            due: Instant::now() + idle,
        };
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(told) => {
                    watch.due = Instant::now() + watch.idle;
                    Some((Ok(told), Some(watch)))
                }
                Err(end) => Some((Err(end), None)),
            }
        }))
    }

    fn follow_log(&self) -> broadcast::Receiver<Arc<Event>> {
        let tail = &self.0.tail;
        let mut running = tail.running.lock();
        let receiver = tail.sender.subscribe();
        if !std::mem::replace(&mut *running, true) {
            let at = self.0.deps.index.event_span().next.saturating_sub(1);
            tokio::spawn(follow(Arc::downgrade(&self.0), tail.clone(), at));
        }
        receiver
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Watched, WatchEnd> {
        loop {
            let event = match self.read.pop_front() {
                Some(event) => Arc::new(event),
                None => match self.step().await? {
                    Some(Watched::Event(event)) => event,
                    Some(bookmark) => return Ok(bookmark),
                    None => continue,
                },
            };
            self.at = event.seq;
            if self.filter.matches(event.kind, &event.cid, &event.labels) {
                return Ok(Watched::Event(event));
            }
            if Instant::now() >= self.due {
                return Ok(Watched::Bookmark(self.at));
            }
        }
    }

    /// Waits for something; `None` when there is something to read.
    async fn step(&mut self) -> Result<Option<Watched>, WatchEnd> {
        let live = match std::mem::replace(&mut self.phase, Phase::Replay(None)) {
            Phase::Live(live) => live,
            Phase::Replay(near) => return self.replay(near).await,
        };
        self.listen(live).await
    }

    async fn replay(
        &mut self,
        near: Option<broadcast::Receiver<Arc<Event>>>,
    ) -> Result<Option<Watched>, WatchEnd> {
        let events = committed(self.engine.0.deps.index.as_ref(), self.at).await.map_err(WatchEnd::Index)?;
        let from_oldest = std::mem::take(&mut self.from_oldest);
        match (events.first(), near) {
            // Trimmed while it was being replayed.
            (Some(first), _) if first.seq != self.at + 1 && !from_oldest => {
                Err(WatchEnd::Expired { since: self.at, resume: first.seq - 1, oldest: Some(first.seq) })
            }
            (Some(_), near) => {
                self.read = events.into();
                self.phase = Phase::Replay(near);
                Ok(None)
            }
            // What comes between this read and the subscription is read once more.
            (None, None) => {
                self.phase = Phase::Replay(Some(self.engine.follow_log()));
                Ok(None)
            }
            (None, Some(live)) => {
                self.phase = Phase::Live(live);
                Ok(Some(Watched::Bookmark(self.at)))
            }
        }
    }

    async fn listen(
        &mut self,
        mut live: broadcast::Receiver<Arc<Event>>,
    ) -> Result<Option<Watched>, WatchEnd> {
        let told = match tokio::time::timeout_at(self.due, live.recv()).await {
            Err(_idle) => Some(Watched::Bookmark(self.at)),
            Ok(Ok(event)) if event.seq <= self.at => None,
            Ok(Ok(event)) if event.seq == self.at + 1 => Some(Watched::Event(event)),
            // The reader of the log began later than this watch: the log has what lies between.
            Ok(Ok(_) | Err(RecvError::Closed)) => return Ok(None),
            Ok(Err(RecvError::Lagged(missed))) => return Err(WatchEnd::Slow { missed, resume: self.at }),
        };
        self.phase = Phase::Live(live);
        Ok(told)
    }
}
