//! Events to listeners, after the commit, in order, without ever making a producer wait.
//!
//! A producer leaves an event where it is taken from in rounds: the first at once, those that come while a round is
//! under way, or while the telling has had its share of the machine, together in the next. So a thousand listeners are
//! woken once for many events and not once for each.

mod filter;
mod group;
mod hub;
mod listener;
mod pace;

pub use filter::EventFilter;
pub use group::Batch;
pub use listener::Listener;
pub use pace::{Pace, TELLING_IDLE_PERCENT, TELLING_PERCENT};

use crate::stats::Losses;
use bytes::Bytes;
use dir_core::{Cid, EventKind, Timestamp};
use hub::Hub;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Position in the event log; absent for events that are not written there (pulls).
    pub seq: Option<u64>,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// The record concerned.
    pub cid: Cid,
    /// Its labels as they were.
    pub labels: Arc<[String]>,
}

/// A notice on its way to all listeners, which share one encoded form.
#[derive(Debug)]
pub struct Told {
    /// What happened.
    pub notice: Notice,
    message: OnceLock<Bytes>,
}

impl Told {
    /// The notice as the message that is sent: made by the first listener, shared by the others.
    pub fn message(&self, make: impl FnOnce(&Notice) -> Bytes) -> Bytes {
        self.message.get_or_init(|| make(&self.notice)).clone()
    }
}

/// What of events goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLogging {
    /// A line when a listener begins to lose events (`events.log_slow_consumers`).
    pub slow: bool,
    /// A line for every event (`events.log_published_events`).
    pub every: bool,
}

impl Default for EventLogging {
    fn default() -> Self {
        Self { slow: true, every: false }
    }
}

/// The fan-out. Bounded: a listener that does not keep up has what came first and does not hear what is new.
#[derive(Debug)]
pub struct Events(Arc<Hub>);

impl Events {
    pub(crate) fn new(buffer: usize, log: EventLogging, losses: Arc<Losses>) -> Self {
        Self(Arc::new(Hub::new(buffer, log, losses)))
    }

    /// Listens to everything from now on.
    pub fn listen(&self) -> Listener {
        self.listen_to(EventFilter::default())
    }

    /// Listens to what matches, from now on. Must be called on a runtime.
    pub fn listen_to(&self, filter: EventFilter) -> Listener {
        Listener::new(&self.0, filter)
    }

    /// Number of listeners.
    pub fn listeners(&self) -> usize {
        self.0.counts.all.load(Ordering::Relaxed)
    }

    /// What telling may cost: whoever sends events to listeners says here how much work that was.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.0.pace
    }

    /// Whether anybody listens for a kind: building an event for nobody is left out.
    pub(crate) fn wanted(&self, kind: EventKind) -> bool {
        let counts = &self.0.counts;
        let listeners = if kind == EventKind::RecordPulled { &counts.pulls } else { &counts.all };
        self.0.log.every || listeners.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn emit(&self, notice: Notice) {
        if self.0.log.every {
            tracing::info!(kind = ?notice.kind, cid = %notice.cid, seq = notice.seq, "event");
        }
        if self.wanted(notice.kind) {
            self.0.take_in(Arc::new(Told { notice, message: OnceLock::new() }));
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
