//! Events to listeners, after the commit, in order, without ever making a producer wait.

use dir_core::{Cid, EventKind, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::broadcast;

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

/// The fan-out. Bounded: a listener that does not keep up loses the oldest events and learns how many.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Notice>,
    /// Kept apart from the channel, whose own count takes a lock that every pull would share.
    listeners: Arc<AtomicUsize>,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<Notice>,
    listeners: Arc<AtomicUsize>,
}

impl Events {
    pub(crate) fn new(buffer: usize) -> Self {
        Self { sender: broadcast::Sender::new(buffer.max(1)), listeners: Arc::default() }
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        let receiver = self.sender.subscribe();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Listener { receiver, listeners: self.listeners.clone() }
    }

    /// Whether anybody listens: building an event for nobody is left out.
    pub(crate) fn wanted(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn emit(&self, notice: Notice) {
        if self.wanted() {
            // Fails only when the last listener has just gone.
            drop(self.sender.send(notice));
        }
    }
}

impl Listener {
    /// The next event, or how many were lost since the last one. `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Result<Notice, u64>> {
        match self.receiver.recv().await {
            Ok(notice) => Some(Ok(notice)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
