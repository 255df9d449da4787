//! Events to listeners, after the commit, in order, without ever making a producer wait.

use crate::stats::Counter;
use bytes::Bytes;
use dir_core::{Cid, EventKind, Timestamp};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

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

/// Which events a listener wants: AND between the members, OR inside each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// These kinds; `None` for all.
    pub kinds: Option<Vec<EventKind>>,
    /// About these records; `None` for all.
    pub cids: Option<HashSet<Cid>>,
    /// With a label that contains one of these texts, case-sensitively; `None` for all. An event without labels
    /// never matches.
    pub labels: Option<Vec<String>>,
}

impl EventFilter {
    /// Whether events of a kind can match.
    pub fn takes(&self, kind: EventKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether an event matches.
    pub fn matches(&self, kind: EventKind, cid: &Cid, labels: &[String]) -> bool {
        let labelled =
            |wanted: &Vec<String>| wanted.iter().any(|text| labels.iter().any(|l| l.contains(text.as_str())));
        self.takes(kind)
            && self.cids.as_ref().is_none_or(|cids| cids.contains(cid))
            && self.labels.as_ref().is_none_or(labelled)
    }
}

/// The fan-out. Bounded: a listener that does not keep up loses the oldest events and learns how many.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Told>>,
    /// Kept apart from the channel, whose own count takes a lock that every pull would share.
    counts: Arc<Counts>,
    log: EventLogging,
    dropped: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    /// Those that want to hear of pulls: without any, pulls stay on their fast path.
    pulls: AtomicUsize,
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

/// One listener.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<Arc<Told>>,
    counts: Arc<Counts>,
    filter: EventFilter,
    log_slow: bool,
    dropped: Arc<Counter>,
    /// Events are being lost: from the first loss until it has caught up.
    behind: bool,
}

impl Events {
    pub(crate) fn new(buffer: usize, log: EventLogging, dropped: Arc<Counter>) -> Self {
        Self { sender: broadcast::Sender::new(buffer.max(1)), counts: Arc::default(), log, dropped }
    }

    /// Listens to everything from now on.
    pub fn listen(&self) -> Listener {
        self.listen_to(EventFilter::default())
    }

    /// Listens to what matches, from now on.
    pub fn listen_to(&self, filter: EventFilter) -> Listener {
        let receiver = self.sender.subscribe();
        self.counts.all.fetch_add(1, Ordering::Relaxed);
        if filter.takes(EventKind::RecordPulled) {
            self.counts.pulls.fetch_add(1, Ordering::Relaxed);
        }
        Listener {
            receiver,
            counts: self.counts.clone(),
            filter,
            log_slow: self.log.slow,
            dropped: self.dropped.clone(),
            behind: false,
        }
    }

    /// Number of listeners.
    pub fn listeners(&self) -> usize {
        self.counts.all.load(Ordering::Relaxed)
    }

    /// Whether anybody listens for a kind: building an event for nobody is left out.
    pub(crate) fn wanted(&self, kind: EventKind) -> bool {
        let counts = &self.counts;
        let listeners = if kind == EventKind::RecordPulled { &counts.pulls } else { &counts.all };
        self.log.every || listeners.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn emit(&self, notice: Notice) {
        if self.log.every {
            tracing::info!(kind = ?notice.kind, cid = %notice.cid, seq = notice.seq, "event");
        }
        if self.wanted(notice.kind) {
            // Fails only when the last listener has just gone.
            drop(self.sender.send(Arc::new(Told { notice, message: OnceLock::new() })));
        }
    }
}

impl Listener {
    /// The next event, or how many were lost since the last one. `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Result<Notice, u64>> {
        Some(self.next_or_loss().await?.map(|told| told.notice.clone()))
    }

    /// The next event; losses are counted, and logged once until the listener has caught up.
    pub async fn told(&mut self) -> Option<Arc<Told>> {
        loop {
            if let Ok(told) = self.next_or_loss().await? {
                return Some(told);
            }
        }
    }

    async fn next_or_loss(&mut self) -> Option<Result<Arc<Told>, u64>> {
        loop {
            let received = match self.receiver.try_recv() {
                Ok(told) => Ok(told),
                Err(TryRecvError::Lagged(lost)) => Err(RecvError::Lagged(lost)),
                Err(TryRecvError::Closed) => Err(RecvError::Closed),
                Err(TryRecvError::Empty) => {
                    self.behind = false;
                    self.receiver.recv().await
                }
            };
            match received {
                Ok(told) => {
                    let Notice { kind, cid, labels, .. } = &told.notice;
                    if self.filter.matches(*kind, cid, labels) {
                        return Some(Ok(told));
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    self.lost(lost);
                    return Some(Err(lost));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn lost(&mut self, lost: u64) {
        self.dropped.add(lost);
        let begins = !std::mem::replace(&mut self.behind, true);
        if begins && self.log_slow {
            tracing::warn!(
                lost,
                "a listener reads too slowly and loses events; not said again until it has caught up"
            );
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if self.filter.takes(EventKind::RecordPulled) {
            self.counts.pulls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: EventKind, name: &[u8]) -> Notice {
        let labels = vec![format!("/skills/{}", String::from_utf8_lossy(name))].into();
        Notice { seq: None, at: Timestamp(0), kind, cid: Cid::of(name), labels }
    }

    #[tokio::test]
    async fn an_episode_of_loss_is_one_whatever_is_lost_in_it() {
        let dropped = Arc::new(Counter::default());
        let events = Events::new(2, EventLogging::default(), dropped.clone());
        let mut slow = events.listen();
        let pushed = EventKind::RecordPushed;
        for n in 0..5_u8 {
            events.emit(notice(pushed, &[n]));
        }
        assert_eq!(slow.next().await, Some(Err(3)));
        assert!(slow.behind);
        assert_eq!(slow.next().await, Some(Ok(notice(pushed, &[3]))));
        for n in 5..9_u8 {
            events.emit(notice(pushed, &[n]));
        }
        assert_eq!(slow.told().await.unwrap().notice, notice(pushed, &[7]));
        assert!(slow.behind, "still the same episode");
        assert_eq!(slow.next().await, Some(Ok(notice(pushed, &[8]))));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, slow.next()).await.is_err());
        assert!(!slow.behind, "it has caught up");
        assert_eq!(dropped.get(), 6);
    }

    #[test]
    fn kinds_of_nobody_are_not_built() {
        let events = Events::new(2, EventLogging::default(), Arc::default());
        assert!(!events.wanted(EventKind::RecordPushed));
        let only = EventFilter { kinds: Some(vec![EventKind::RecordPushed]), ..EventFilter::default() };
        let pushes = events.listen_to(only);
        assert!(events.wanted(EventKind::RecordPushed) && !events.wanted(EventKind::RecordPulled));
        let all = events.listen();
        assert!(events.wanted(EventKind::RecordPulled));
        drop(all);
        assert!(!events.wanted(EventKind::RecordPulled));
        drop(pushes);
        assert_eq!(events.listeners(), 0);
    }

    #[test]
    fn filters_are_and_between_or_inside() {
        let labels = ["/skills/a/b".to_owned(), "/domains/c".to_owned()];
        let cid = Cid::of(b"x");
        let matches = |filter: &EventFilter| filter.matches(EventKind::RecordPushed, &cid, &labels);
        let text = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let filter = EventFilter::default();
        assert!(matches(&filter));
        assert!(matches(&EventFilter { labels: text(&["zzz", "ills/a"]), ..filter.clone() }));
        assert!(!matches(&EventFilter { labels: text(&["ILLS/a"]), ..filter.clone() }), "case matters");
        assert!(matches(&EventFilter { labels: text(&[""]), ..filter.clone() }));
        let any = EventFilter { labels: text(&[""]), ..filter.clone() };
        assert!(!any.matches(EventKind::RecordDeleted, &cid, &[]), "an event without labels never matches");
        assert!(!matches(&EventFilter { kinds: Some(vec![]), ..filter.clone() }));
        assert!(!matches(&EventFilter { cids: Some(HashSet::from([Cid::of(b"y")])), ..filter.clone() }));
        let both = HashSet::from([Cid::of(b"y"), cid]);
        assert!(matches(&EventFilter { cids: Some(both), labels: text(&["/domains/"]), ..filter }));
    }
}
