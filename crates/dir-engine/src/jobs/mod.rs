//! Jobs that look after index and store: the comparison of the two, the audit and repair of the store, and the
//! conversion of its layout. All of them may be stopped at any moment and run again.

mod audit;
mod reconcile;
mod reshard;
mod take;

pub use audit::{AuditOptions, AuditReport};
pub use reconcile::{Drift, ReconcileOptions, ReconcileStatus};
pub use reshard::ReshardReport;

use crate::error::is_lasting;
use crate::{Engine, EngineError, Op};
use dir_core::maintenance::{Finding, StoreMaintenance};
use dir_core::store::{StoreError, WalkMark};
use dir_core::{Classified, Timestamp};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use take::Memory;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// A store that does not answer is asked again this often without getting on, with growing pauses.
const ATTEMPTS: u32 = 6;
/// First of these pauses.
const PAUSE: Duration = Duration::from_millis(250);

/// What a running job says.
#[derive(Debug, Clone, PartialEq)]
pub enum JobNews {
    /// How far it is.
    Progress(JobProgress),
    /// Something that is wrong.
    Finding(Finding),
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub struct JobProgress {
    /// What it is doing.
    pub phase: &'static str,
    /// Things done in this phase.
    pub done: u64,
    /// Things there are, when that is known.
    pub total: Option<u64>,
    /// Rate of the last minute of this phase; of the whole phase when nothing was done in that minute.
    pub per_second: f64,
    /// Where the job can be taken up again, when it needs to be told.
    pub mark: Option<String>,
}

impl JobProgress {
    /// Seconds left at this rate, when the total is known.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // for people
    pub fn seconds_left(&self) -> Option<u64> {
        let left = self.total?.saturating_sub(self.done);
        (self.per_second > 0.0).then(|| (left as f64 / self.per_second).ceil() as u64)
    }
}

/// Who asked for a job, and where it says how it gets on. A job whose listener has gone stops at its next step.
#[derive(Debug, Clone)]
pub struct Listening {
    by: Arc<str>,
    news: mpsc::Sender<JobNews>,
}

impl Listening {
    /// `by` is told to others who want a job meanwhile. Nobody listens when the other end of `news` is dropped.
    pub fn new(by: impl Into<Arc<str>>, news: mpsc::Sender<JobNews>) -> Self {
        Self { by: by.into(), news }
    }

    /// Ends when nobody listens any more.
    async fn gone(&self) {
        self.news.closed().await;
    }

    async fn tell(&self, op: Op, news: JobNews) -> Result<(), EngineError> {
        self.news.send(news).await.map_err(|_gone| EngineError::Stopped(op))
    }
}

/// Counts a phase and says now and then how far it is.
struct Pace {
    op: Op,
    phase: &'static str,
    begun: Timestamp,
    done: u64,
    total: Option<u64>,
    mark: Option<String>,
    told: Timestamp,
    /// When how much was done, once a second of the last minute.
    recent: VecDeque<(Timestamp, u64)>,
}

/// Milliseconds between two lines of progress.
const TELL_EVERY: i64 = 1000;
/// Milliseconds that a rate is of.
const RATE_OF: i64 = 60_000;

impl Pace {
    fn new(op: Op, phase: &'static str, now: Timestamp) -> Self {
        let (total, mark, recent) = (None, None, VecDeque::new());
        Self { op, phase, begun: now, done: 0, total, mark, told: now, recent }
    }

    fn progress(&self, now: Timestamp) -> JobProgress {
        JobProgress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            per_second: self.rate(now),
            mark: self.mark.clone(),
        }
    }

    /// What the work costs changes on the way: the mean since the beginning would say little about what is left.
    #[allow(clippy::cast_precision_loss)] // a rate for people
    fn rate(&self, now: Timestamp) -> f64 {
        let (since, done) = self.recent.front().copied().unwrap_or((self.begun, 0));
        let (since, done) = if self.done > done { (since, done) } else { (self.begun, 0) };
        self.done.saturating_sub(done) as f64 * 1000.0 / now.0.saturating_sub(since.0).max(1) as f64
    }

    async fn step(&mut self, n: u64, now: Timestamp, listening: &Listening) -> Result<(), EngineError> {
        self.done += n;
        if now.0 - self.told.0 < TELL_EVERY {
            return Ok(());
        }
        self.tell(now, listening).await
    }

    async fn tell(&mut self, now: Timestamp, listening: &Listening) -> Result<(), EngineError> {
        self.told = now;
        while self.recent.front().is_some_and(|(at, _)| now.0 - at.0 > RATE_OF) {
            self.recent.pop_front();
        }
        let progress = self.progress(now);
        self.recent.push_back((now, self.done));
        tracing::info!(
            job = self.op.job(),
            phase = progress.phase,
            done = progress.done,
            total = progress.total,
            per_second = progress.per_second,
            seconds_left = progress.seconds_left(),
            "store job under way"
        );
        listening.tell(self.op, JobNews::Progress(progress)).await
    }
}

/// What the jobs share.
#[derive(Default)]
pub(crate) struct Jobs {
    maintenance: OnceLock<Arc<dyn StoreMaintenance>>,
    /// One job at a time touches the store; what it is, is held.
    turn: tokio::sync::Mutex<()>,
    running: Mutex<Option<Running>>,
    /// Somebody wants a job: a comparison on schedule makes way.
    wanted: Notify,
    /// A comparison has been made known.
    compared: Notify,
    memory: Mutex<Memory>,
    status: Mutex<ReconcileStatus>,
}

/// The job that has its turn.
#[derive(Debug, Clone)]
struct Running {
    op: Op,
    by: Arc<str>,
    since: Timestamp,
}

/// The right to be the only job.
struct Turn<'a>(#[allow(dead_code)] tokio::sync::MutexGuard<'a, ()>);

/// A comparison on schedule ends at once when somebody wants a job; it gets so long for it.
const COMPARISON_WAIT: Duration = Duration::from_secs(30);

impl Engine {
    /// Gives the jobs what they look after. Without it they are refused.
    #[must_use]
    pub fn with_maintenance(self, maintenance: Arc<dyn StoreMaintenance>) -> Self {
        // A second one cannot be meant.
        let _ = self.0.jobs.maintenance.set(maintenance);
        self
    }

    /// Runs a job in a task of its own, which [`Engine::settle`] waits for.
    pub fn start_job<R: Send + 'static>(
        &self,
        job: impl Future<Output = Result<R, EngineError>> + Send + 'static,
    ) -> JoinHandle<Result<R, EngineError>> {
        self.0.commits.spawn(job)
    }

    fn maintenance(&self, op: Op) -> Result<&Arc<dyn StoreMaintenance>, EngineError> {
        let missing = || EngineError::Refused(op, "this store cannot be looked after".to_owned());
        self.0.jobs.maintenance.get().ok_or_else(missing)
    }

    /// The turn of a job that somebody asked for; refused while another one runs.
    async fn turn(&self, op: Op, by: &Arc<str>) -> Result<Turn<'_>, EngineError> {
        if let Some(turn) = self.try_turn(op, by) {
            return Ok(turn);
        }
        let compares = || self.running_job().is_some_and(|job| job.op == Op::Reconcile);
        if compares() {
            self.0.jobs.wanted.notify_one();
        }
        if compares()
            && let Ok(turn) = tokio::time::timeout(COMPARISON_WAIT, self.0.jobs.turn.lock()).await
        {
            return Ok(self.begin(op, by, turn));
        }
        Err(EngineError::Refused(op, self.other_job()))
    }

    fn try_turn(&self, op: Op, by: &Arc<str>) -> Option<Turn<'_>> {
        self.0.jobs.turn.try_lock().ok().map(|turn| self.begin(op, by, turn))
    }

    fn begin<'a>(&self, op: Op, by: &Arc<str>, turn: tokio::sync::MutexGuard<'a, ()>) -> Turn<'a> {
        let since = self.0.deps.clock.now();
        *self.0.jobs.running.lock() = Some(Running { op, by: by.clone(), since });
        Turn(turn)
    }

    fn running_job(&self) -> Option<Running> {
        self.0.jobs.running.lock().clone()
    }

    /// Which job is in the way.
    fn other_job(&self) -> String {
        let Some(Running { op, by, since }) = self.running_job() else {
            return "another job is running".to_owned();
        };
        format!("another job is running: {}, begun {since} by {by}; try again when it is done", op.job())
    }
}

/// Tries of a job that goes on from marks.
struct Patience {
    op: Op,
    failures: u32,
    at: Option<WalkMark>,
}

impl Patience {
    fn new(op: Op, at: Option<WalkMark>) -> Self {
        Self { op, failures: 0, at }
    }

    /// The job has come to here.
    fn reached(&mut self, mark: WalkMark) {
        self.failures = 0;
        self.at = Some(mark);
    }

    /// Waits before another try; answers the error when there were enough of them.
    async fn wait(&mut self, error: StoreError) -> Result<(), EngineError> {
        self.failures += 1;
        if !error.class().is_transient() || is_lasting(&error) || self.failures >= ATTEMPTS {
            return Err(EngineError::Store(self.op, String::new(), error));
        }
        tracing::warn!(%error, failures = self.failures, job = self.op.job(), "store job waits for the store");
        tokio::time::sleep(PAUSE * 2_u32.pow(self.failures)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_lasts_is_not_waited_for() {
        let error = |kind: std::io::ErrorKind| StoreError::Unavailable {
            context: "write".to_owned(),
            source: std::io::Error::from(kind).into(),
        };
        let mut patience = Patience::new(Op::Reshard, None);
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::ReadOnlyFilesystem] {
            patience.failures = 0;
            assert!(patience.wait(error(kind)).await.is_err(), "{kind}");
        }
        patience.failures = 0;
        assert!(patience.wait(error(std::io::ErrorKind::ConnectionReset)).await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_is_that_of_the_last_minute() {
        let (news, mut told) = mpsc::channel(1000);
        let listening = Listening::new("test", news);
        let mut pace = Pace::new(Op::Reshard, "move", Timestamp(0));
        pace.total = Some(10_000);
        // Two minutes at one a second, then two at ten.
        for second in 1..=240 {
            let n = if second <= 120 { 1 } else { 10 };
            pace.step(n, Timestamp(second * 1000), &listening).await.unwrap();
        }
        let mut last = None;
        while let Ok(JobNews::Progress(progress)) = told.try_recv() {
            last = Some(progress);
        }
        let last = last.unwrap();
        assert_eq!((last.done, last.seconds_left()), (1320, Some(868)), "{last:?}");
        assert!((last.per_second - 10.0).abs() < 0.01, "{last:?}");
        // Nothing in the last minute: what is left takes as long as it has taken so far.
        pace.tell(Timestamp(1_320_000), &listening).await.unwrap();
        let Ok(JobNews::Progress(last)) = told.try_recv() else { panic!("progress") };
        assert!((last.per_second - 1.0).abs() < 0.01, "{last:?}");
    }
}
