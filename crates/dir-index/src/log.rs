//! The event log in memory: compact, because it keeps as many events as the log on disk.

use dir_core::event::{Event, EventKind};
use dir_core::index::EventSpan;
use dir_core::{Cid, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Events kept unless the configuration says otherwise.
pub const DEFAULT_EVENT_RETENTION: u64 = 100_000;

/// Where the log of an index that is made now begins: microseconds since the epoch. An index that was lost, or that
/// lives in memory, must not give the numbers of its last log to other events: a reader would resume in the wrong
/// place and never know. No log grows by more than an event a microsecond, so that a later one begins above it.
pub fn first_seq(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(1000).max(1)
}

/// The time before which events are too old, seen from the newest one.
pub(crate) fn horizon(newest: Timestamp, max_age: Option<Duration>) -> Option<Timestamp> {
    let age = i64::try_from(max_age?.as_millis()).unwrap_or(i64::MAX);
    Some(Timestamp(newest.0.saturating_sub(age)))
}

/// The newest events, oldest first.
#[derive(Debug)]
pub(crate) struct Log {
    events: VecDeque<Stored>,
    next_seq: u64,
    retention: usize,
    max_age: Option<Duration>,
    /// Texts of labels with the number of events that use each.
    labels: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Stored {
    at: Timestamp,
    kind: EventKind,
    cid: Cid,
    labels: Box<[Arc<str>]>,
}

impl Log {
    /// A log that keeps `retention` events, at least one, none much older than its newest, and begins with a number.
    pub(crate) fn new(retention: u64, max_age: Option<Duration>, first_seq: u64) -> Self {
        Self {
            events: VecDeque::new(),
            next_seq: first_seq.max(1),
            max_age,
            retention: usize::try_from(retention).unwrap_or(usize::MAX).max(1),
            labels: HashMap::new(),
        }
    }

    /// Writes an event; answers its sequence number.
    pub(crate) fn append(&mut self, at: Timestamp, kind: EventKind, cid: Cid, labels: Vec<String>) -> u64 {
        let labels = labels.into_iter().map(|label| self.intern(label)).collect();
        self.events.push_back(Stored { at, kind, cid, labels });
        let horizon = horizon(at, self.max_age);
        let too_many = |log: &Self| log.events.len() > log.retention;
        let too_old = |log: &Self| horizon > log.events.front().map(|oldest| oldest.at);
        while too_many(self) || too_old(self) {
            let Some(old) = self.events.pop_front() else { break };
            old.labels.iter().for_each(|label| self.release(label));
        }
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Which events there are.
    pub(crate) fn span(&self) -> EventSpan {
        EventSpan { oldest: self.next_seq - self.events.len() as u64, next: self.next_seq }
    }

    /// Events above a sequence number.
    pub(crate) fn read(&self, after: u64, max: usize) -> Vec<Event> {
        let first = self.next_seq - self.events.len() as u64;
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let stored = self.events.iter().zip(first..).skip(skip).take(max);
        stored
            .map(|(e, seq)| Event {
                seq,
                at: e.at,
                kind: e.kind,
                cid: e.cid,
                labels: e.labels.iter().map(ToString::to_string).collect(),
            })
            .collect()
    }

    fn intern(&mut self, label: String) -> Arc<str> {
        if let Some((text, _)) = self.labels.get_key_value(label.as_str()) {
            let text = text.clone();
            *self.labels.entry(text.clone()).or_default() += 1;
            return text;
        }
        let text: Arc<str> = label.into();
        self.labels.insert(text.clone(), 1);
        text
    }

    fn release(&mut self, label: &Arc<str>) {
        if let Some(uses) = self.labels.get_mut(label) {
            *uses -= 1;
            if *uses == 0 {
                self.labels.remove(label);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_and_forgets_unused_labels() {
        let mut log = Log::new(3, None, 1);
        for n in 0..5_u8 {
            let seq = log.append(
                Timestamp(1),
                EventKind::RecordPushed,
                Cid::of(&[n]),
                vec![format!("/skills/{n}")],
            );
            assert_eq!(seq, u64::from(n) + 1);
        }
        let seqs = |after, max| log.read(after, max).iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!(seqs(0, 10), [3, 4, 5]);
        assert_eq!(seqs(3, 1), [4]);
        assert_eq!(seqs(5, 10), [0_u64; 0]);
        assert_eq!(seqs(u64::MAX, 10), [0_u64; 0]);
        assert_eq!(log.labels.len(), 3);
        assert_eq!(log.read(4, 1)[0].labels, ["/skills/4"]);
    }

    #[test]
    fn the_log_forgets_what_is_older_than_its_age() {
        let mut log = Log::new(100, Some(Duration::from_millis(10)), 500);
        for at in [0, 5, 15, 16] {
            log.append(Timestamp(at), EventKind::RecordDeleted, Cid::of(b"x"), Vec::new());
        }
        assert_eq!(log.span(), EventSpan { oldest: 502, next: 504 });
        assert_eq!(log.read(0, 1)[0].at, Timestamp(15));
    }

    #[test]
    fn a_later_log_begins_above_an_earlier_one() {
        let (old, new) = (Timestamp(1_700_000_000_000), Timestamp(1_700_000_000_001));
        assert_eq!(first_seq(new) - first_seq(old), 1000);
        assert_eq!(first_seq(Timestamp(-5)), 1);
    }
}
