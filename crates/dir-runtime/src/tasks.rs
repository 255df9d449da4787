//! Supervised tasks: an end that nobody asked for is always noticed.

use futures::FutureExt;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts, Registry};
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What to do when a task ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The process cannot go on: [`Supervisor::failed`] wakes.
    Fatal,
    /// Start it again after a pause that doubles from `first` up to `most`.
    Restart {
        /// First pause.
        first: Duration,
        /// Longest pause.
        most: Duration,
    },
    /// A task with an end: a return is its success; a panic is logged and counted.
    Once,
}

impl OnEnd {
    /// Restart after 500 ms, doubling up to 30 s.
    pub const RESTART: OnEnd =
        OnEnd::Restart { first: Duration::from_millis(500), most: Duration::from_secs(30) };
}

/// Owns the background tasks of a process.
#[derive(Debug, Clone)]
pub struct Supervisor {
    stop: CancellationToken,
    failed: CancellationToken,
    cause: Arc<Mutex<Option<String>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    ends: IntCounterVec,
}

impl Supervisor {
    /// An empty supervisor that counts unasked ends in `directory_task_ends_total{task,how}`.
    pub fn new(metrics: &Registry) -> Result<Self, prometheus::Error> {
        let opts =
            Opts::new("directory_task_ends_total", "Background tasks that ended without being asked to.");
        let ends = IntCounterVec::new(opts, &["task", "how"])?;
        metrics.register(Box::new(ends.clone()))?;
        Ok(Self {
            stop: CancellationToken::new(),
            failed: CancellationToken::new(),
            cause: Arc::default(),
            tasks: Arc::default(),
            ends,
        })
    }

    /// Becomes cancelled when the tasks should stop at their next step boundary.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task. `make` is called again for each restart.
    pub fn spawn<F, Fut>(&self, name: &'static str, on_end: OnEnd, mut make: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        for how in ["returned", "panicked"] {
            self.ends.with_label_values(&[name, how]);
        }
        let this = self.clone();
        let run = async move {
            let mut pause = None;
            loop {
                let began = tokio::time::Instant::now();
                let how = match AssertUnwindSafe(make()).catch_unwind().await {
                    Ok(()) if this.stop.is_cancelled() || on_end == OnEnd::Once => return,
                    Ok(()) => "returned".to_owned(),
                    Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
                };
                let label = if how == "returned" { "returned" } else { "panicked" };
                this.ends.with_label_values(&[name, label]).inc();
                match on_end {
                    OnEnd::Once => return tracing::error!(task = name, how, "task failed"),
                    OnEnd::Fatal => return this.fail(name, &how),
                    OnEnd::Restart { first, most } => {
                        // A task that lived longer than the longest pause had recovered.
                        let last = pause.filter(|_| began.elapsed() < most);
                        let wait = last.map_or(first, |p: Duration| (p * 2).min(most));
                        pause = Some(wait);
                        tracing::error!(task = name, how, again_in = ?wait, "task ended, starting it again");
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            () = this.stop.cancelled() => return,
                        }
                    }
                }
            }
        };
        self.tasks.lock().spawn(run);
    }

    fn fail(&self, name: &'static str, how: &str) {
        tracing::error!(task = name, how, "task ended, the process cannot go on");
        self.cause.lock().get_or_insert_with(|| format!("task {name} {how}"));
        self.failed.cancel();
    }

    /// Waits until a fatal task has ended; answers which and how.
    pub async fn failed(&self) -> String {
        self.failed.cancelled().await;
        self.cause.lock().clone().unwrap_or_default()
    }

    /// Asks every task to stop and waits for them.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_is_started_again() {
        let metrics = Registry::new();
        let tasks = Supervisor::new(&metrics).unwrap();
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let stop = tasks.stopping().clone();
        tasks.spawn("flaky", OnEnd::RESTART, move || {
            let (run, tx, stop) = (runs.fetch_add(1, Ordering::Relaxed), tx.clone(), stop.clone());
            async move {
                tx.send(run).unwrap();
                assert!(run >= 2, "not yet");
                stop.cancelled().await;
            }
        });
        for run in 0..3 {
            assert_eq!(rx.recv().await, Some(run));
        }
        tasks.stop().await;
        assert_eq!(tasks.ends.with_label_values(&["flaky", "panicked"]).get(), 2);
    }

    #[tokio::test]
    async fn a_fatal_end_is_told() {
        let tasks = Supervisor::new(&Registry::new()).unwrap();
        tasks.spawn("accept", OnEnd::Fatal, || async { panic!("no more sockets") });
        assert_eq!(tasks.failed().await, "task accept panicked: no more sockets");
        tasks.stop().await;
    }

    #[tokio::test]
    async fn a_task_with_an_end_may_end() {
        let tasks = Supervisor::new(&Registry::new()).unwrap();
        tasks.spawn("rebuild", OnEnd::Once, || async {});
        tasks.stop().await;
        assert!(!tasks.failed.is_cancelled());
        assert_eq!(tasks.ends.with_label_values(&["rebuild", "returned"]).get(), 0);
    }
}
