//! Messages that have begun to come and have not ended: their bytes are held until they do, and a peer that never
//! ends them would fill the memory. Windows of HTTP/2 do not bound that: what is taken out of them is what is held.

use crate::status;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tonic::Status;

/// What is held of a message before it counts as large. The last quarter of what the process holds is for small ones:
/// whoever begins many large messages does not keep ordinary records out.
const SMALL: usize = 64 * 1024;
/// Less than this within the timeout is nothing: a trickle keeps no memory.
const PROGRESS: usize = 1024;

/// Messages that were ended for what they hold, by the limit.
pub(crate) struct InflowMetrics {
    connection: IntCounter,
    process: IntCounter,
    stalled: IntCounter,
}

impl InflowMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "unfinished_messages_refused_total",
            "Messages whose receipt was ended: too many unfinished bytes on the connection or in the process, or the rest did not come.",
        );
        let refused = IntCounterVec::new(opts, &["limit"])?;
        registry.register(Box::new(refused.clone()))?;
        let of = |limit: &str| refused.with_label_values(&[limit]);
        Ok(Self { connection: of("connection"), process: of("process"), stalled: of("stalled") })
    }
}

/// What all connections hold together.
#[derive(Debug)]
pub(crate) struct Total {
    held: AtomicUsize,
    limit: usize,
}

/// What one connection holds.
#[derive(Debug)]
pub(crate) struct Inflow {
    held: AtomicUsize,
    limit: usize,
    total: Arc<Total>,
    stalled_timeout: Duration,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Connection,
    Process,
}

impl Total {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }
}

impl Inflow {
    pub(crate) fn new(limit: usize, total: Arc<Total>, stalled_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit, total, stalled_timeout })
    }

    /// Takes `more` bytes of a message that has `all` then.
    fn take(&self, more: usize, all: usize) -> Result<(), Full> {
        let total = &*self.total;
        let most = if all > SMALL { total.limit - total.limit / 4 } else { total.limit };
        if self.held.fetch_add(more, Ordering::Relaxed) + more > self.limit {
            self.held.fetch_sub(more, Ordering::Relaxed);
            return Err(Full::Connection);
        }
        if total.held.fetch_add(more, Ordering::Relaxed) + more > most {
            self.give_back(more);
            return Err(Full::Process);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.total.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one call holds.
pub(crate) struct Unfinished {
    inflow: Arc<Inflow>,
    held: usize,
    /// What came since the clock was started.
    progress: usize,
    /// While a message is unfinished and nothing comes.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Unfinished {
    pub(crate) fn new(inflow: Arc<Inflow>) -> Self {
        Self { inflow, held: 0, progress: 0, clock: None }
    }

    /// `came` bytes have come, after which `held` are held.
    pub(crate) fn set(&mut self, came: usize, held: usize, metrics: &InflowMetrics) -> Result<(), Status> {
        self.progress = self.progress.saturating_add(came);
        if held > self.held {
            self.inflow.take(held - self.held, held).map_err(|full| match full {
                Full::Connection => {
                    metrics.connection.inc();
                    status::too_many_unfinished("connection")
                }
                Full::Process => {
                    metrics.process.inc();
                    status::too_many_unfinished("server")
                }
            })?;
        } else if held < self.held {
            self.inflow.give_back(self.held - held);
        }
        self.held = held;
        if held == 0 {
            self.clock = None;
        }
        Ok(())
    }

    /// Ready when the rest of a message has not come for too long. Asked while nothing comes.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>, metrics: &InflowMetrics) -> Poll<Status> {
        if self.held == 0 {
            return Poll::Pending;
        }
        let timeout = self.inflow.stalled_timeout;
        loop {
            let clock = self.clock.get_or_insert_with(|| {
                self.progress = 0;
                Box::pin(tokio::time::sleep(timeout))
            });
            std::task::ready!(clock.as_mut().poll(cx));
            if self.progress < PROGRESS {
                metrics.stalled.inc();
                return Poll::Ready(status::rest_missing(timeout));
            }
            self.progress = 0;
            clock.as_mut().reset(Instant::now() + timeout);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.inflow.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> InflowMetrics {
        InflowMetrics::new(&Registry::new()).unwrap()
    }

    #[test]
    fn a_connection_holds_as_much_as_its_limit_and_the_process_as_much_as_its_own() {
        let (metrics, total) = (metrics(), Total::new(400));
        let connection = || Inflow::new(100, total.clone(), Duration::from_secs(30));
        let first = connection();
        let (mut a, mut b) = (Unfinished::new(first.clone()), Unfinished::new(first.clone()));
        a.set(60, 60, &metrics).unwrap();
        b.set(40, 40, &metrics).unwrap();
        let refused = b.set(1, 41, &metrics).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!((metrics.connection.get(), metrics.process.get()), (1, 0));
        a.set(100, 0, &metrics).unwrap();
        b.set(60, 100, &metrics).unwrap();
        let others: Vec<_> = (0..3)
            .map(|_| {
                let mut other = Unfinished::new(connection());
                other.set(100, 100, &metrics).unwrap();
                other
            })
            .collect();
        let mut last = Unfinished::new(connection());
        assert!(last.set(1, 1, &metrics).is_err());
        assert_eq!((metrics.connection.get(), metrics.process.get()), (1, 1));
        drop(others);
        last.set(1, 1, &metrics).unwrap();
        drop((a, b, last));
        assert_eq!(total.held.load(Ordering::Relaxed), 0);
        assert_eq!(first.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_quarter_is_for_small_messages() {
        let (metrics, total) = (metrics(), Total::new(SMALL * 8));
        let inflow = Inflow::new(usize::MAX, total, Duration::from_secs(30));
        let mut large = Unfinished::new(inflow.clone());
        large.set(0, SMALL * 6, &metrics).unwrap();
        assert!(large.set(1, SMALL * 6 + 1, &metrics).is_err());
        let mut small: Vec<_> = (0..3).map(|_| Unfinished::new(inflow.clone())).collect();
        small[0].set(0, SMALL, &metrics).unwrap();
        assert!(small[0].set(0, SMALL + 1, &metrics).is_err(), "large from here on");
        small[1].set(0, SMALL, &metrics).unwrap();
        assert!(small[2].set(0, 1, &metrics).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_whose_rest_does_not_come_is_ended_and_a_slow_one_is_not() {
        let (metrics, timeout) = (metrics(), Duration::from_secs(30));
        let inflow = || Inflow::new(usize::MAX, Total::new(usize::MAX), timeout);
        for (each, ends) in [(0, true), (PROGRESS / 2 - 1, true), (PROGRESS, false)] {
            let mut message = Unfinished::new(inflow());
            message.set(100, 100, &metrics).unwrap();
            let begun = Instant::now();
            let mut ended = None;
            for n in 1..=8 {
                let wait = std::future::poll_fn(|cx| message.poll_stalled(cx, &metrics));
                if tokio::time::timeout(timeout / 2, wait).await.is_ok() {
                    ended = Some(begun.elapsed());
                    break;
                }
                message.set(each, 100 + n * each, &metrics).unwrap();
            }
            assert_eq!(ended, ends.then_some(timeout), "{each} bytes in half of the timeout");
        }
        assert_eq!(metrics.stalled.get(), 2);
    }
}
