//! A connection and its calls in one task: what has come is read, every call that can go on does, and all that they
//! answer is written at once. A task for each call costs two wake-ups, often of another thread, and a TLS record with a
//! system call for each frame: more than most calls do themselves.

use crate::cork::Cork;
use crate::meter::Meter;
use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use futures::{FutureExt, StreamExt};
use hyper::rt::Executor;
use parking_lot::Mutex;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where HTTP/2 puts the calls of one connection.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<New>);

#[derive(Default)]
struct New {
    calls: Mutex<Vec<Call>>,
    /// The next call gets a task of its own.
    apart: AtomicBool,
    /// There has been a call.
    any: AtomicBool,
}

impl Calls {
    /// The call that is handed over next may work for long without a pause: it gets a task of its own, so that the
    /// others of its connection do not wait.
    pub(crate) fn next_apart(&self) {
        self.0.apart.store(true, Ordering::Relaxed);
    }

    fn any(&self) -> bool {
        self.0.any.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.calls.lock())
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.any.store(true, Ordering::Relaxed);
        if self.0.apart.swap(false, Ordering::Relaxed) {
            tokio::spawn(call);
        } else {
            // As in a task of its own, a panic ends nothing but this call.
            self.0.calls.lock().push(Box::pin(AssertUnwindSafe(call).catch_unwind().map(drop)));
        }
    }
}

/// Remembers that something is due, and wakes the task unless it runs and will look anyway.
#[derive(Default)]
struct Due {
    due: AtomicBool,
    task: Arc<Task>,
}

#[derive(Default)]
struct Task {
    running: AtomicBool,
    waker: AtomicWaker,
}

impl Wake for Due {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.due.store(true, Ordering::SeqCst);
        if !self.task.running.load(Ordering::SeqCst) {
            self.task.waker.wake();
        }
    }
}

impl Due {
    fn of(task: &Arc<Task>) -> (Arc<Self>, Waker) {
        let due = Arc::new(Self { due: AtomicBool::new(true), task: task.clone() });
        (due.clone(), due.into())
    }

    fn take(&self) -> bool {
        self.due.swap(false, Ordering::SeqCst)
    }
}

/// HTTP/2 on a connection, and its calls.
pub(crate) struct Together<H> {
    http: Pin<Box<H>>,
    calls: Calls,
    open: FuturesUnordered<Call>,
    cork: Arc<Cork>,
    meter: Meter,
    task: Arc<Task>,
    http_due: (Arc<Due>, Waker),
    open_due: (Arc<Due>, Waker),
}

/// Turns of one poll after which others in the process come first.
const TURNS: usize = 32;

impl<H> Together<H> {
    /// `calls` is the executor of `http`, whose output goes through `cork`.
    pub(crate) fn new(http: H, calls: Calls, cork: Arc<Cork>, meter: Meter) -> Self {
        let task = Arc::<Task>::default();
        Self {
            http: Box::pin(http),
            calls,
            open: FuturesUnordered::new(),
            cork,
            meter,
            http_due: Due::of(&task),
            open_due: Due::of(&task),
            task,
        }
    }

    /// The connection, to be told of its end. It is looked at next.
    pub(crate) fn http(&mut self) -> Pin<&mut H> {
        self.http_due.0.due.store(true, Ordering::SeqCst);
        self.http.as_mut()
    }
}

impl<H: Future> Together<H> {
    /// Everything that is due, then what was gathered, until neither is there.
    fn turns(&mut self) -> Poll<H::Output> {
        for _ in 0..TURNS {
            let http = self.http_due.0.take();
            if http && let Poll::Ready(outcome) = self.poll_http() {
                return Poll::Ready(outcome);
            }
            let open = self.open_due.0.take();
            if open {
                let mut cx = Context::from_waker(&self.open_due.1);
                while let Poll::Ready(Some(())) = self.open.poll_next_unpin(&mut cx) {}
            }
            if !http && !open {
                if let Poll::Ready(outcome) = self.flush() {
                    return Poll::Ready(outcome);
                }
                if !self.is_due() {
                    return Poll::Pending;
                }
            }
        }
        self.flush()
    }

    fn poll_http(&mut self) -> Poll<H::Output> {
        let outcome = self.http.as_mut().poll(&mut Context::from_waker(&self.http_due.1));
        let new = self.calls.take();
        if !new.is_empty() {
            self.open.extend(new);
            self.open_due.0.due.store(true, Ordering::SeqCst);
        }
        // What comes before the first call, nobody waits for anything with.
        self.cork.set(self.calls.any());
        outcome
    }

    /// Writes what was gathered: HTTP/2 flushes whenever it is looked at.
    fn flush(&mut self) -> Poll<H::Output> {
        if !self.cork.holds() {
            return Poll::Pending;
        }
        self.cork.set(false);
        self.poll_http()
    }

    fn is_due(&self) -> bool {
        [&self.http_due, &self.open_due].iter().any(|(due, _)| due.due.load(Ordering::SeqCst))
    }
}

impl<H: Future> Future for Together<H> {
    type Output = H::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<H::Output> {
        let this = &mut *self;
        this.task.waker.register(cx.waker());
        this.task.running.store(true, Ordering::SeqCst);
        let begun = this.meter.begin();
        let outcome = this.turns();
        this.meter.end(begun);
        this.task.running.store(false, Ordering::SeqCst);
        // What came due since it was looked at last woke nobody.
        if outcome.is_pending() && this.is_due() {
            cx.waker().wake_by_ref();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;
    use tokio::sync::oneshot;

    /// Hands over a call whenever it is looked at, so many times; ends when all of them have.
    struct Many {
        calls: Calls,
        left: usize,
        apart: bool,
        ended: Arc<AtomicUsize>,
        all: usize,
        woken: Arc<AtomicWaker>,
    }

    impl Future for Many {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.woken.register(cx.waker());
            if self.left > 0 {
                self.left -= 1;
                let (ended, woken) = (self.ended.clone(), self.woken.clone());
                let (tell, told) = oneshot::channel();
                let number = self.left;
                // Somebody else answers, at once or a little later.
                std::thread::spawn(move || {
                    if number.is_multiple_of(3) {
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    let _ = tell.send(());
                });
                if self.apart && number.is_multiple_of(2) {
                    self.calls.next_apart();
                }
                self.calls.execute(async move {
                    let _ = told.await;
                    ended.fetch_add(1, Ordering::SeqCst);
                    woken.wake();
                    assert!(!number.is_multiple_of(5), "a call may panic on purpose");
                });
                cx.waker().wake_by_ref();
            }
            if self.ended.load(Ordering::SeqCst) == self.all { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn no_call_is_forgotten_whoever_wakes_it_and_panics_end_one() {
        for apart in [false, true] {
            let (calls, all) = (Calls::default(), 2000);
            let ended = Arc::new(AtomicUsize::new(0));
            let many = Many {
                calls: calls.clone(),
                left: all,
                apart,
                ended: ended.clone(),
                all,
                woken: Arc::default(),
            };
            let together = Together::new(many, calls, Arc::default(), Meter::idle());
            tokio::time::timeout(Duration::from_secs(60), together).await.expect("a wake-up was lost");
            assert_eq!(ended.load(Ordering::SeqCst), all);
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_always_busy_lets_others_run() {
        let calls = Calls::default();
        calls.execute(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let busy =
            tokio::spawn(Together::new(std::future::pending::<()>(), calls, Arc::default(), Meter::idle()));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        busy.abort();
        assert!(busy.await.unwrap_err().is_cancelled());
    }
}
