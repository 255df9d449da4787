//! From producers to groups of listeners, in rounds.

use super::group::Group;
use super::{EventFilter, EventLogging, Pace, Told};
use crate::stats::Losses;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Events that wait for a round at most. Beyond, new ones are lost for everybody.
pub(super) const WAITING_MAX: usize = 4_096;
/// Between two rounds at least: what comes close together is told together.
const ROUND_GAP: Duration = Duration::from_millis(1);
/// Events that are handed to all listeners together in one round: some 20 ms of one CPU, so that calls wait no longer
/// for a burst. What is left comes with the next rounds.
const ROUND_DELIVERIES: u64 = 20_000;
/// So few listeners are told whatever it costs: a handful that keeps up shall lose nothing on a slow machine either.
pub(super) const UNPACED_LISTENERS: usize = 16;
/// An episode of loss is over when nothing was lost for so long.
pub(super) const EPISODE_END: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Hub {
    waiting: Mutex<Waiting>,
    news: Notify,
    groups: Mutex<Groups>,
    /// Kept apart from the groups, whose lock every pull would share.
    pub(super) counts: Counts,
    pub(super) pace: Arc<Pace>,
    pub(super) log: EventLogging,
    pub(super) losses: Arc<Losses>,
    buffer: usize,
    /// When events came faster than they can be told last.
    overrun: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Arc<Told>>,
    /// Events that came after them.
    passed: u64,
}

#[derive(Debug, Default)]
struct Groups {
    all: Vec<(Arc<Group>, usize)>,
    /// A task runs the rounds.
    running: bool,
    closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) all: AtomicUsize,
    /// Those that want to hear of pulls: without any, pulls stay on their fast path.
    pub(super) pulls: AtomicUsize,
}

impl Hub {
    pub(super) fn new(buffer: usize, log: EventLogging, losses: Arc<Losses>) -> Self {
        Self {
            waiting: Mutex::default(),
            news: Notify::new(),
            groups: Mutex::default(),
            counts: Counts::default(),
            pace: Arc::new(Pace::of_machine()),
            log,
            losses,
            buffer: buffer.max(1),
            overrun: Mutex::default(),
        }
    }

    /// An event from a producer.
    pub(super) fn take_in(&self, told: Arc<Told>) {
        let first = {
            let mut waiting = self.waiting.lock();
            if waiting.events.len() >= WAITING_MAX {
                waiting.passed += 1;
                return;
            }
            waiting.events.push(told);
            waiting.events.len() == 1
        };
        if first {
            self.news.notify_one();
        }
    }

    /// One more listener with a filter.
    pub(super) fn join(self: &Arc<Self>, filter: EventFilter) -> Arc<Group> {
        // Events from before are not for this listener.
        if !self.waiting.lock().events.is_empty() {
            self.round();
        }
        let mut groups = self.groups.lock();
        let known = groups.all.iter_mut().find(|(group, _)| group.filter == filter);
        let group = if let Some((group, listeners)) = known {
            *listeners += 1;
            group.clone()
        } else {
            let group = Arc::new(Group::new(filter, self.buffer));
            groups.all.push((group.clone(), 1));
            group
        };
        if !std::mem::replace(&mut groups.running, true) {
            tokio::spawn(self.clone().rounds());
        }
        group
    }

    /// One listener fewer.
    pub(super) fn leave(&self, group: &Arc<Group>) {
        let mut groups = self.groups.lock();
        let Some(at) = groups.all.iter().position(|(other, _)| Arc::ptr_eq(other, group)) else { return };
        groups.all[at].1 -= 1;
        if groups.all[at].1 == 0 {
            groups.all.swap_remove(at);
        }
        if groups.all.is_empty() {
            // The task looks, and ends.
            self.news.notify_one();
        }
    }

    pub(super) fn close(&self) {
        let mut groups = self.groups.lock();
        groups.closed = true;
        groups.all.iter().for_each(|(group, _)| group.close());
        self.news.notify_one();
    }

    /// Runs for as long as anybody listens.
    async fn rounds(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            let mut more = false;
            while more || !self.waiting.lock().events.is_empty() {
                if self.counts.all.load(Ordering::Relaxed) > UNPACED_LISTENERS {
                    self.pace.turn().await;
                }
                more = self.round();
                tokio::time::sleep(ROUND_GAP).await;
            }
            let mut groups = self.groups.lock();
            if groups.closed || groups.all.is_empty() {
                groups.running = false;
                return;
            }
        }
    }

    /// Hands what waits to the groups. Answers whether there is more to hand on.
    pub(super) fn round(&self) -> bool {
        let begun = std::time::Instant::now();
        let Waiting { events, passed } = std::mem::take(&mut *self.waiting.lock());
        let groups: Vec<Arc<Group>> = self.groups.lock().all.iter().map(|(group, _)| group.clone()).collect();
        let step = ROUND_DELIVERIES / self.counts.all.load(Ordering::Relaxed).max(1) as u64;
        let (mut lost, mut more) = (0, false);
        for group in groups {
            let left = group.round(&events, passed, step);
            lost = lost.max(left.lost);
            more |= left.more;
            self.losses.events.add(left.lost * left.listeners as u64 + left.missed);
            (0..left.slow).for_each(|_| self.fell_behind());
        }
        self.pace.spent(begun.elapsed());
        if lost > 0 {
            self.overran(lost);
        }
        more
    }

    /// A listener begins to lose events.
    fn fell_behind(&self) {
        if self.begin_episode() {
            tracing::warn!(
                "a listener reads too slowly and loses events; not said again until it has kept up for a while"
            );
        }
    }

    /// Counts an episode of loss; whether it is to be logged.
    fn begin_episode(&self) -> bool {
        self.losses.episodes.inc();
        self.log.slow
    }

    /// Events came faster than they can be told.
    fn overran(&self, lost: u64) {
        let now = Instant::now();
        let before = self.overrun.lock().replace(now);
        let begins = before.is_none_or(|before| now - before >= EPISODE_END);
        if begins && self.begin_episode() {
            let listeners = self.counts.all.load(Ordering::Relaxed);
            tracing::warn!(
                lost,
                listeners,
                "events come faster than they can be told to so many listeners, and some are lost; not said again until \
                 it was over"
            );
        }
    }
}
