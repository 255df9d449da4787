//! Listeners that want the same: their filter is asked once for each event, what they have not taken yet is kept once,
//! and what they take together is encoded once.

use super::hub::EPISODE_END;
use super::{EventFilter, Told};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;

/// Events that are handed over together at most.
const BATCH: u64 = 256;

/// Events on their way to listeners, which share one encoded form.
#[derive(Debug)]
pub struct Batch {
    from: u64,
    to: u64,
    pub(super) events: Vec<Arc<Told>>,
    message: OnceLock<Bytes>,
}

impl Batch {
    /// The events, oldest first.
    pub fn events(&self) -> &[Arc<Told>] {
        &self.events
    }

    /// The events as the bytes that are sent: made by the first listener, shared by the others.
    pub fn message(&self, make: impl FnOnce(&[Arc<Told>]) -> Bytes) -> Bytes {
        self.message.get_or_init(|| make(&self.events)).clone()
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) filter: EventFilter,
    ring: Mutex<Ring>,
    buffer: usize,
}

#[derive(Debug, Default)]
struct Ring {
    /// What somebody has not taken yet, of those who keep up.
    events: VecDeque<Arc<Told>>,
    /// Events so far.
    end: u64,
    /// Events so far that may be taken: the others are for later rounds.
    shown: u64,
    /// Events so far that came when there was no room for them.
    lost: u64,
    places: Vec<Place>,
    free: Vec<usize>,
    /// Listeners for whom events are kept.
    waited_for: usize,
    last: Option<Arc<Batch>>,
    closed: bool,
}

/// One listener.
#[derive(Debug, Default)]
struct Place {
    waker: Option<Waker>,
    at: At,
    /// Events that were lost for everybody, as far as this one knows.
    known: u64,
    /// Events that it lost for its own slowness and does not know of.
    missed: u64,
    /// When it lost some last.
    slow: Option<Instant>,
    /// It has had everything since.
    caught_up: bool,
}

/// What a listener will hear next.
#[derive(Debug, Default)]
enum At {
    #[default]
    Nobody,
    /// The event with a number, and those after it.
    Ring(u64),
    /// These: it was as far behind as it may be when others came, which are not for it.
    Aside(VecDeque<Arc<Told>>),
}

/// What a round leaves behind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Events that nobody can have, although everybody took what came before.
    pub(super) lost: u64,
    /// Events that slow listeners lost, together.
    pub(super) missed: u64,
    /// Listeners that began to lose events.
    pub(super) slow: usize,
    /// Listeners.
    pub(super) listeners: usize,
    /// There are more for the next round.
    pub(super) more: bool,
}

/// What a listener finds.
#[derive(Debug)]
pub(super) enum Found {
    Batch(Arc<Batch>),
    /// So many were lost.
    Lost(u64),
    Closed,
}

/// Where a listener is.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) group: Arc<Group>,
    place: usize,
}

impl Group {
    pub(super) fn new(filter: EventFilter, buffer: usize) -> Self {
        Self { filter, ring: Mutex::default(), buffer: buffer.max(1) }
    }

    /// A round of events; `passed` more came after them and are gone. Each listener may take `step` more than before.
    /// Whoever is as far behind as the buffer is long has what it did not take yet, and misses what is new.
    pub(super) fn round(&self, events: &[Arc<Told>], passed: u64, step: u64) -> Left {
        let wanted = |told: &&Arc<Told>| {
            let notice = &told.notice;
            self.filter.matches(notice.kind, &notice.cid, &notice.labels)
        };
        let mut ring = self.ring.lock();
        let mut new: Vec<Arc<Told>> = events.iter().filter(wanted).cloned().collect();
        let nothing = new.is_empty() && passed == 0 && ring.shown == ring.end;
        if nothing || ring.listeners() == 0 {
            return Left::default();
        }
        let hidden = usize::try_from(ring.end - ring.shown).unwrap_or(usize::MAX);
        let lost = passed + new.len().saturating_sub(self.buffer.saturating_sub(hidden)) as u64;
        new.truncate(self.buffer.saturating_sub(hidden));
        let mut left = Left { lost, listeners: ring.listeners(), ..Left::default() };
        ring.lost += lost;
        ring.add(&new, self.buffer, &mut left);
        ring.shown = ring.end.min(ring.shown.max(ring.start()) + step.max(1));
        left.more = ring.shown < ring.end;
        let wake = ring.sleepers();
        drop(ring);
        wake.into_iter().for_each(Waker::wake);
        left
    }

    pub(super) fn close(&self) {
        let mut ring = self.ring.lock();
        ring.closed = true;
        ring.shown = ring.end;
        let wake = ring.sleepers();
        drop(ring);
        wake.into_iter().for_each(Waker::wake);
    }

    /// A listener from here on.
    pub(super) fn join(self: Arc<Self>) -> Reader {
        let mut ring = self.ring.lock();
        let place = ring.free.pop().unwrap_or_else(|| {
            ring.places.push(Place::default());
            ring.places.len() - 1
        });
        let (at, known) = (At::Ring(ring.end), ring.lost);
        ring.places[place] = Place { at, known, caught_up: true, ..Place::default() };
        drop(ring);
        Reader { group: self, place }
    }

    /// Events that are kept for somebody.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.ring.lock().events.len()
    }
}

impl Ring {
    fn listeners(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The number of the oldest event that is kept.
    fn start(&self) -> u64 {
        self.end - self.events.len() as u64
    }

    fn sleepers(&mut self) -> Vec<Waker> {
        self.places.iter_mut().filter_map(|place| place.waker.take()).collect()
    }

    /// More events, of which those do not hear who are too far behind.
    fn add(&mut self, new: &[Arc<Told>], buffer: usize, left: &mut Left) {
        if new.is_empty() {
            return;
        }
        let start = self.start();
        self.events.extend(new.iter().cloned());
        self.end += new.len() as u64;
        self.last = None;
        self.waited_for = 0;
        for place in &mut self.places {
            let missed = match &mut place.at {
                At::Nobody => continue,
                At::Ring(at) if self.end - *at <= buffer as u64 => {
                    self.waited_for += 1;
                    continue;
                }
                At::Ring(at) => {
                    let from = usize::try_from(*at - start).unwrap_or(usize::MAX);
                    let missed = self.events.len() - from - buffer;
                    place.at = At::Aside(self.events.range(from..from + buffer).cloned().collect());
                    missed
                }
                At::Aside(events) => {
                    let room = new.len().min(buffer - events.len());
                    events.extend(new[..room].iter().cloned());
                    new.len() - room
                }
            };
            left.slow += usize::from(place.miss(missed as u64));
            left.missed += missed as u64;
        }
        let old = self.events.len().saturating_sub(buffer);
        self.events.drain(..old);
        self.forget();
    }

    /// What everybody has is kept for nobody.
    fn forget(&mut self) {
        if self.waited_for == 0 {
            self.events = VecDeque::new();
            self.last = None;
        }
    }

    /// The events from a number on, as those have them who ask for the same.
    fn batch(&mut self, from: u64) -> Arc<Batch> {
        let (start, to) = (self.start(), self.shown.min(from + BATCH));
        if let Some(last) = self.last.as_ref().filter(|last| (last.from, last.to) == (from, to)) {
            return last.clone();
        }
        let range = |n: u64| usize::try_from(n - start).unwrap_or(usize::MAX);
        let events = self.events.range(range(from)..range(to)).cloned().collect();
        let batch = Arc::new(Batch { from, to, events, message: OnceLock::new() });
        self.last = Some(batch.clone());
        batch
    }
}

impl Place {
    /// It loses so many for its own slowness; whether that is the first time for a while.
    fn miss(&mut self, missed: u64) -> bool {
        if missed == 0 {
            return false;
        }
        self.missed += missed;
        let begins = self.slow.is_none_or(|last| self.caught_up && last.elapsed() >= EPISODE_END);
        (self.slow, self.caught_up) = (Some(Instant::now()), false);
        begins
    }
}

impl Reader {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Found> {
        let ring = &mut *self.group.ring.lock();
        let place = &mut ring.places[self.place];
        if let At::Aside(events) = &mut place.at {
            if !events.is_empty() {
                let events: Vec<_> = std::mem::take(events).into();
                let (from, to) = (0, events.len() as u64);
                return Poll::Ready(Found::Batch(Arc::new(Batch {
                    from,
                    to,
                    events,
                    message: OnceLock::new(),
                })));
            }
            // It has what was kept for it, and goes on with what is to come.
            place.at = At::Ring(ring.end);
        }
        let At::Ring(at) = place.at else { return Poll::Ready(Found::Closed) };
        if at < ring.shown {
            let batch = ring.batch(at);
            ring.places[self.place].at = At::Ring(batch.to);
            if batch.to == ring.end {
                ring.waited_for -= 1;
                ring.forget();
            }
            return Poll::Ready(Found::Batch(batch));
        }
        let lost = ring.lost - place.known + std::mem::take(&mut place.missed);
        place.known = ring.lost;
        if lost > 0 {
            return Poll::Ready(Found::Lost(lost));
        }
        place.caught_up = true;
        if ring.closed {
            return Poll::Ready(Found::Closed);
        }
        if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            place.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.group.ring.lock();
        let place = std::mem::take(&mut ring.places[self.place]);
        ring.free.push(self.place);
        if matches!(place.at, At::Ring(at) if at < ring.end) {
            ring.waited_for -= 1;
        }
        ring.forget();
    }
}
