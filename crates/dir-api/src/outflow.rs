//! Answers on their way out of one connection: how many bytes wait for the peer, and whether it takes them.
//!
//! HTTP/2 asks every answer for its next chunk, whether the peer wants one or not, and drops a chunk as it writes it: so
//! what is not dropped yet is what waits. Neither hyper nor `h2` bound that for a connection, and neither notices a peer
//! that takes nothing.

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Who takes less than this within the timeout, while more waits, takes nothing: a trickle keeps no connection.
const PROGRESS: u64 = 1024;
/// Records that are read from the store at once for one connection: each may be as large as a message.
const READS: usize = 16;
/// How often within the timeout a connection is looked at.
const LOOKS: u32 = 4;

/// The answers of one connection.
#[derive(Debug)]
pub(crate) struct Outflow {
    /// Bytes beyond which no more is produced.
    limit: usize,
    held: AtomicUsize,
    /// Bytes written so far.
    taken: AtomicU64,
    /// Those of them that tell of events.
    told: AtomicU64,
    /// Open calls that do.
    tellers: AtomicUsize,
    /// The socket takes no more.
    blocked: AtomicBool,
    /// Answers that wait for room.
    waiting: Mutex<Vec<Waker>>,
    /// Records that are being read for the peer, until they are among what is held.
    reads: Arc<Semaphore>,
}

impl Outflow {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            told: AtomicU64::new(0),
            tellers: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            waiting: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS)),
        })
    }

    /// Ready when more may be produced. Answers that find room at the same moment all produce: beyond the limit, at
    /// most one chunk for each thread of the process is held.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        // What was given back in between found nobody to wake.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        self.held.load(Ordering::SeqCst) < self.limit
    }

    /// A chunk that is counted until it is gone. `tells` when it tells of events.
    pub(crate) fn hold(self: &Arc<Self>, bytes: Bytes, tells: bool) -> Held {
        self.held.fetch_add(bytes.len(), Ordering::SeqCst);
        Held { bytes, tells, outflow: self.clone() }
    }

    /// A call that tells of events, until it is dropped.
    pub(crate) fn teller(self: &Arc<Self>) -> Teller {
        self.tellers.fetch_add(1, Ordering::Relaxed);
        Teller(self.clone())
    }

    /// Whether any call tells of events.
    pub(crate) fn tells(&self) -> bool {
        self.tellers.load(Ordering::Relaxed) > 0
    }

    /// Bytes written so far, and those of them that told of events.
    pub(crate) fn written(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.told.load(Ordering::Relaxed))
    }

    fn give_back(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::SeqCst);
        if before >= self.limit && before - bytes < self.limit {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Permission to read a record, asked for in the order of the answers. `None` only at the end of the process.
    pub(crate) fn read(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<> {
        let reads = self.reads.clone();
        async move { reads.acquire_owned().await.ok() }
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Whether anything waits for the peer.
    fn is_waiting(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
    }
}

/// A call that tells of events.
#[derive(Debug)]
pub(crate) struct Teller(Arc<Outflow>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.tellers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A chunk of an answer. What is written of it, and what is left when it is dropped, is given back.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Bytes,
    tells: bool,
    outflow: Arc<Outflow>,
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(into)
    }

    fn advance(&mut self, written: usize) {
        self.bytes.advance(written);
        self.outflow.taken.fetch_add(written as u64, Ordering::Relaxed);
        if self.tells {
            self.outflow.told.fetch_add(written as u64, Ordering::Relaxed);
        }
        self.outflow.give_back(written);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.outflow.give_back(self.bytes.len());
        }
    }
}

/// Notices a peer that takes nothing of what waits for it.
#[derive(Debug)]
pub(crate) struct Stall {
    timeout: Duration,
    since: Instant,
    taken: u64,
    look: Instant,
}

impl Stall {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, since: now, taken: 0, look: now + timeout / LOOKS }
    }

    /// When to look again.
    pub(crate) fn wake(&self) -> Instant {
        self.look
    }

    /// Whether the peer has taken nothing for too long.
    pub(crate) fn tick(&mut self, now: Instant, outflow: &Outflow) -> bool {
        if now < self.look {
            return false;
        }
        self.look = now + self.timeout / LOOKS;
        let taken = outflow.taken.load(Ordering::Relaxed);
        if !outflow.is_waiting() || taken - self.taken >= PROGRESS {
            (self.since, self.taken) = (now, taken);
            return false;
        }
        now >= self.since + self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn producing_waits_at_the_limit_and_goes_on_below_it() {
        let outflow = Outflow::new(100);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut first = outflow.hold(Bytes::from(vec![0; 99]), false);
        assert!(outflow.poll_room(&cx).is_ready(), "one below the limit");
        let second = outflow.hold(Bytes::from(vec![0; 41]), false);
        assert!(outflow.poll_room(&cx).is_pending() && outflow.poll_room(&cx).is_pending());
        first.advance(40);
        assert!(outflow.poll_room(&cx).is_pending(), "at the limit");
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        first.advance(1);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "woken once, however often it has asked");
        assert!(outflow.poll_room(&cx).is_ready());
        drop((first, second));
        assert_eq!(outflow.held.load(Ordering::SeqCst), 0);
        assert_eq!(outflow.taken.load(Ordering::SeqCst), 41, "what was dropped was not taken");
    }

    const TIMEOUT: Duration = Duration::from_secs(40);

    /// Looks every ten seconds; when the peer is given up, in seconds.
    fn given_up(outflow: &Arc<Outflow>, mut each: impl FnMut(u64)) -> Option<u64> {
        let start = Instant::now();
        let mut stall = Stall::new(TIMEOUT, start);
        (1..=20).map(|n| n * 10).find(|secs| {
            each(*secs);
            assert_eq!(stall.wake(), start + Duration::from_secs(*secs));
            stall.tick(start + Duration::from_secs(*secs), outflow)
        })
    }

    #[test]
    fn nothing_waits_for_a_quiet_peer() {
        let outflow = Outflow::new(100);
        assert_eq!(given_up(&outflow, |_| ()), None);
        drop(outflow.hold(Bytes::from_static(b"gone"), false));
        assert_eq!(given_up(&outflow, |_| ()), None);
    }

    #[test]
    fn whoever_takes_nothing_is_given_up() {
        let outflow = Outflow::new(100);
        let held = outflow.hold(Bytes::from_static(b"x"), false);
        assert_eq!(given_up(&outflow, |_| ()), Some(40), "a window that is shut, or a socket");
        drop(held);
        outflow.set_blocked(true);
        assert_eq!(given_up(&outflow, |_| ()), Some(40), "even control frames");
        outflow.set_blocked(false);
        assert_eq!(given_up(&outflow, |_| ()), None);
    }

    #[test]
    fn a_trickle_is_nothing_and_a_slow_reader_is_served() {
        let take = |each: usize| {
            let outflow = Outflow::new(1 << 20);
            let mut held = outflow.hold(Bytes::from(vec![0; 1 << 16]), false);
            given_up(&outflow, |_| held.advance(each))
        };
        assert_eq!(take(1), Some(40));
        assert_eq!(take(255), Some(40), "one byte below the least");
        assert_eq!(take(256), None);
    }

    #[test]
    fn time_begins_when_something_waits() {
        let outflow = Outflow::new(100);
        let mut held = None;
        let end = given_up(&outflow, |secs| {
            if secs == 100 {
                held = Some(outflow.hold(Bytes::from_static(b"late"), false));
            }
        });
        assert_eq!(end, Some(130));
    }
}
