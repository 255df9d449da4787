//! Listeners that want the same: their filter is asked once for each event, what they have not taken yet is kept once,
//! and what they take together is encoded once.

use super::{EventFilter, Told};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

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
    /// What somebody has not taken yet.
    events: VecDeque<Arc<Told>>,
    /// Events so far.
    end: u64,
    /// Events so far that may be taken: the others are for later rounds.
    shown: u64,
    /// Those before the last round: whoever had not taken them when it came reads too slowly.
    offered: u64,
    /// One for each listener.
    places: Vec<Place>,
    free: Vec<usize>,
    /// Listeners that have taken everything.
    done: usize,
    last: Option<Arc<Batch>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Place(Option<Waker>);

/// What a round leaves behind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Events that nobody can have any more although everybody took what came before.
    pub(super) lost: u64,
    /// There are more for the next round.
    pub(super) more: bool,
}

/// What a listener finds.
#[derive(Debug)]
pub(super) enum Found {
    Batch(Arc<Batch>),
    /// So many were lost; so many of them because it reads too slowly.
    Lost {
        all: u64,
        own: u64,
    },
    Closed,
}

/// Where a listener is.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) group: Arc<Group>,
    place: usize,
    at: u64,
}

impl Group {
    pub(super) fn new(filter: EventFilter, buffer: usize) -> Self {
        Self { filter, ring: Mutex::default(), buffer: buffer.max(1) }
    }

    /// A round of events; `passed` more came before them and are gone. Each listener may take `step` more than before.
    pub(super) fn round(&self, passed: u64, events: &[Arc<Told>], step: u64) -> Left {
        let wanted = |told: &&Arc<Told>| {
            let notice = &told.notice;
            self.filter.matches(notice.kind, &notice.cid, &notice.labels)
        };
        let mut ring = self.ring.lock();
        let mut new: Vec<Arc<Told>> = events.iter().filter(wanted).cloned().collect();
        let news = passed + new.len() as u64;
        if news == 0 && ring.shown == ring.end || ring.listeners() == 0 {
            return Left::default();
        }
        if news > 0 {
            ring.end += news;
            ring.done = 0;
        }
        ring.last = None;
        if passed > 0 {
            // What lies before them would seem to be where they were.
            ring.events.clear();
        }
        let over = new.len().saturating_sub(self.buffer);
        new.drain(..over);
        let keep = self.buffer - new.len();
        let old = ring.events.len().saturating_sub(keep);
        ring.events.drain(..old);
        ring.events.extend(new);
        // What was there to be shown and is gone, nobody was too slow for.
        let hidden = ring.start().saturating_sub(ring.shown);
        ring.offered = ring.shown;
        ring.shown = ring.end.min(ring.shown.max(ring.start()) + step.max(1));
        let left = Left { lost: hidden, more: ring.shown < ring.end };
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
        ring.done += 1;
        let at = ring.end;
        drop(ring);
        Reader { group: self, place, at }
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
        self.places.iter_mut().filter_map(|place| place.0.take()).collect()
    }

    /// What everybody has is kept for nobody.
    fn forget(&mut self) {
        if self.done == self.listeners() {
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

impl Reader {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Found> {
        let mut ring = self.group.ring.lock();
        if self.at == ring.shown {
            if ring.closed {
                return Poll::Ready(Found::Closed);
            }
            let waker = &mut ring.places[self.place].0;
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let start = ring.start();
        if self.at < start {
            let own = ring.offered.min(start).saturating_sub(self.at);
            let all = start - self.at;
            self.at = start;
            self.count(&mut ring);
            return Poll::Ready(Found::Lost { all, own });
        }
        let batch = ring.batch(self.at);
        self.at = batch.to;
        self.count(&mut ring);
        Poll::Ready(Found::Batch(batch))
    }

    /// It has moved.
    fn count(&self, ring: &mut Ring) {
        if self.at == ring.end {
            ring.done += 1;
            ring.forget();
        }
    }

    /// Whether it has everything.
    pub(super) fn has_all(&self) -> bool {
        self.at == self.group.ring.lock().shown
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.group.ring.lock();
        ring.places[self.place] = Place::default();
        ring.free.push(self.place);
        if self.at == ring.end {
            ring.done -= 1;
        }
        ring.forget();
    }
}
