//! Jobs that look after index and store: the comparison of the two, the audit and repair of the store, and the
//! conversion of its layout. All of them may be stopped at any moment and run again.

mod audit;
mod reconcile;
mod reshard;

pub use audit::{AuditOptions, AuditReport};
pub use reconcile::{Drift, ReconcileOptions, ReconcileStatus};
pub use reshard::ReshardReport;

use crate::{Engine, EngineError, Op};
use dir_core::maintenance::{Finding, StoreMaintenance};
use dir_core::store::{StoreError, WalkMark};
use dir_core::{Classified, Timestamp};
use parking_lot::Mutex;
use reconcile::Memory;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

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
    /// Mean rate of this phase.
    pub per_second: f64,
    /// Where the job can be taken up again, when it needs to be told.
    pub mark: Option<String>,
}

impl JobProgress {
    /// Seconds left at the mean rate, when the total is known.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // for people
    pub fn seconds_left(&self) -> Option<u64> {
        let left = self.total?.saturating_sub(self.done);
        (self.per_second > 0.0).then(|| (left as f64 / self.per_second).ceil() as u64)
    }
}

/// Where a job says how it gets on. A job whose listener has gone stops at its next step.
#[derive(Debug, Clone)]
pub struct Listening(mpsc::Sender<JobNews>);

impl Listening {
    /// Nobody listens when the other end is dropped.
    pub fn new(news: mpsc::Sender<JobNews>) -> Self {
        Self(news)
    }

    async fn tell(&self, op: Op, news: JobNews) -> Result<(), EngineError> {
        self.0.send(news).await.map_err(|_gone| EngineError::Stopped(op))
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
}

/// Milliseconds between two lines of progress.
const TELL_EVERY: i64 = 1000;

impl Pace {
    fn new(op: Op, phase: &'static str, now: Timestamp) -> Self {
        Self { op, phase, begun: now, done: 0, total: None, mark: None, told: now }
    }

    fn progress(&self, now: Timestamp) -> JobProgress {
        #[allow(clippy::cast_precision_loss)] // a rate for people
        let per_second = self.done as f64 * 1000.0 / now.0.saturating_sub(self.begun.0).max(1) as f64;
        JobProgress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            per_second,
            mark: self.mark.clone(),
        }
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
        let progress = self.progress(now);
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
    /// One job at a time touches the store; its name is held.
    running: tokio::sync::Mutex<()>,
    name: Mutex<&'static str>,
    memory: Mutex<Memory>,
    status: Mutex<ReconcileStatus>,
}

/// The right to be the only job.
struct Turn<'a>(#[allow(dead_code)] tokio::sync::MutexGuard<'a, ()>);

impl Engine {
    /// Gives the jobs what they look after. Without it they are refused.
    #[must_use]
    pub fn with_maintenance(self, maintenance: Arc<dyn StoreMaintenance>) -> Self {
        // A second one cannot be meant.
        let _ = self.0.jobs.maintenance.set(maintenance);
        self
    }

    fn maintenance(&self, op: Op) -> Result<&Arc<dyn StoreMaintenance>, EngineError> {
        let missing = || EngineError::Refused(op, "this store cannot be looked after".to_owned());
        self.0.jobs.maintenance.get().ok_or_else(missing)
    }

    /// The turn of a job; refused while another one runs.
    fn turn(&self, op: Op) -> Result<Turn<'_>, EngineError> {
        let Ok(turn) = self.0.jobs.running.try_lock() else {
            let other = *self.0.jobs.name.lock();
            return Err(EngineError::Refused(
                op,
                format!("another job is running: {other}; try again when it is done"),
            ));
        };
        *self.0.jobs.name.lock() = op.job();
        Ok(Turn(turn))
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
        if !error.class().is_transient() || self.failures >= ATTEMPTS {
            return Err(EngineError::Store(self.op, String::new(), error));
        }
        tracing::warn!(%error, failures = self.failures, job = self.op.job(), "store job waits for the store");
        tokio::time::sleep(PAUSE * 2_u32.pow(self.failures)).await;
        Ok(())
    }
}
