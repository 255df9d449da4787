//! The jobs on the data directory of a stopped registry: no server, no request.

use super::summary::{Count, Done, Drift, Found, Summary};
use super::tell::{Progress, Tell};
use super::{Layout, PlaceArgs};
use crate::report::Failure;
use dir_client::exit;
use dir_core::index::RecordIndex;
use dir_core::maintenance::{Depth, Spread, StoreMaintenance};
use dir_core::store::WalkMark;
use dir_core::{Class, Classified};
use dir_engine::{
    AuditOptions, AuditReport, Deps, Engine, EngineConfig, EngineError, JobNews, Listening, MemoryJournal,
    ReconcileOptions, ReshardReport,
};
use dir_index::{MemoryConfig, MemoryIndex, SledConfig, SledIndex};
use dir_oasf::BuiltinRules;
use dir_runtime::SystemClock;
use dir_store::{DataDirConfig, DataDirStore, Limits};
use futures::StreamExt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Files are read by one thread; what is collected meanwhile is committed together.
const READS: usize = 256;
/// News that wait to be printed.
const NEWS_MAX: usize = 64;
/// A rebuild is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An index that is being made has this at the end of its name.
const UNFINISHED: &str = ".reindex";

pub(super) async fn audit(
    place: &PlaceArgs,
    dir: &Path,
    contents: bool,
    from: Option<String>,
) -> Result<Summary, Failure> {
    let index = place.index.as_deref().map(existing).transpose()?;
    let compared = index.is_some();
    let engine = open(place, dir, index.unwrap_or_else(nothing))?;
    let options = AuditOptions {
        depth: if contents { Depth::Contents } else { Depth::Manifests },
        repair: false,
        restore_lost_tags: false,
        reconcile: ReconcileOptions::default(),
        from: from.map(WalkMark),
    };
    let mut job = Job::new("store audit", false, dir);
    let report =
        job.listen(&engine, |engine, on| async move { engine.audit_store(options, &on).await }).await?;
    Ok(job.done(audited(report, compared)))
}

pub(super) async fn reshard(
    place: &PlaceArgs,
    dir: &Path,
    to: Layout,
    dry_run: bool,
) -> Result<Summary, Failure> {
    let engine = open(place, dir, nothing())?;
    let spread = match to {
        Layout::Sharded => Spread::Sharded,
        Layout::Single => Spread::Single,
    };
    let mut job = Job::new("store reshard", dry_run, dir);
    let run =
        |engine: Engine, on: Listening| async move { engine.reshard_store(spread, dry_run, None, &on).await };
    let ReshardReport { moved, referrers, left, remaining, done, .. } = job.listen(&engine, run).await?;
    Ok(job.done(Done::Reshard { to: to.name(), moved, referrers, left, remaining, done }))
}

/// Makes the index of a directory, or adds to one what it lacks. One that is not there yet appears when it is whole.
pub(super) async fn reindex(place: &PlaceArgs, dir: &Path, path: &Path) -> Result<Summary, Failure> {
    let fresh = !path.exists();
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let at = if fresh { PathBuf::from(unfinished) } else { path.to_owned() };
    let index = Arc::new(SledIndex::open(SledConfig::new(&at)).map_err(|e| refused(&e))?);
    let engine = open(place, dir, index.clone())?;
    let mut job = Job::new("store reindex", false, dir);
    let total = engine_names(place, dir).await?;
    let rebuilding = engine.clone();
    let rebuild =
        async move { rebuilding.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await };
    let mut rebuild = std::pin::pin!(rebuild);
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK_EVERY) => job.tell.progress(&rebuild_progress(&engine, total)),
            done = &mut rebuild => break done.map_err(|e| refused(&e))?,
        }
    }
    job.tell.progress(&rebuild_progress(&engine, total));
    let status = engine.rebuild_status();
    let drift = engine.reconcile(ReconcileOptions::default(), &CancellationToken::new()).await;
    let drift = drift.map_err(|e| refused(&e))?;
    let done = Done::Reindex {
        index: path.display().to_string(),
        records: index.len(),
        added: status.added + drift.added,
        removed: drift.removed,
        skipped: status.skipped,
        held: drift.held,
    };
    index.close().await.map_err(|e| refused(&e))?;
    drop((engine, index));
    if fresh {
        let moved = std::fs::rename(&at, path);
        moved.map_err(|e| {
            failure(exit::GENERIC, format!("cannot put the index at {}: {e}", path.display()))
        })?;
        let mut lock = at.into_os_string();
        lock.push(".lock");
        // Of no use any more, and of no harm.
        let _ = std::fs::remove_file(lock);
    }
    Ok(job.done(done))
}

fn rebuild_progress(engine: &Engine, total: u64) -> Progress {
    let status = engine.rebuild_status();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // for people
    let left = |rate: f64| (total.saturating_sub(status.walked) as f64 / rate).ceil() as u64;
    let per_second = status.records_per_second;
    Progress {
        phase: "reindex".to_owned(),
        done: status.walked,
        total: Some(total),
        per_second,
        seconds_left: (per_second > 0.0).then(|| left(per_second)),
        mark: String::new(),
    }
}

/// How many tags may be records.
async fn engine_names(place: &PlaceArgs, dir: &Path) -> Result<u64, Failure> {
    let store = store(place, dir)?;
    let mut names = store.names();
    let mut total = 0;
    while let Some(part) = names.next().await {
        total += part.map_err(|e| refused(&e))?.len() as u64;
    }
    Ok(total)
}

fn store(place: &PlaceArgs, dir: &Path) -> Result<DataDirStore, Failure> {
    let config = DataDirConfig {
        root: dir.to_owned(),
        repository: place.repository.clone(),
        limits: Limits::default(),
    };
    DataDirStore::open(config).map_err(|e| refused(&e))
}

fn open(place: &PlaceArgs, dir: &Path, index: Arc<dyn RecordIndex>) -> Result<Engine, Failure> {
    let store = Arc::new(store(place, dir)?);
    let deps = Deps {
        store: store.clone(),
        index,
        rules: Arc::new(BuiltinRules::default()),
        clock: Arc::new(SystemClock),
    };
    let config = EngineConfig { cache_bytes: 0, rebuild_reads: READS, ..EngineConfig::default() };
    Ok(Engine::new(deps, config).with_maintenance(store))
}

fn existing(path: &Path) -> Result<Arc<dyn RecordIndex>, Failure> {
    if !path.exists() {
        let text = format!("there is no index at {}: dir-admin store reindex makes one", path.display());
        return Err(failure(exit::CONFIG, text));
    }
    let index = SledIndex::open(SledConfig::new(path)).map_err(|e| refused(&e))?;
    Ok(Arc::new(index))
}

fn nothing() -> Arc<dyn RecordIndex> {
    Arc::new(MemoryIndex::with_config(&MemoryConfig::default()))
}

fn refused<E: Classified + std::error::Error>(error: &E) -> Failure {
    let code = match error.class() {
        Class::FailedPrecondition | Class::Invalid => exit::CONFIG,
        _ => exit::GENERIC,
    };
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        if !text.ends_with(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
        next = cause.source();
    }
    failure(code, text)
}

fn failure(code: u8, message: String) -> Failure {
    let (kind, next) = if code == exit::CONFIG { ("config", "") } else { ("internal", AGAIN) };
    Failure::new(kind, message, next.to_owned(), code)
}

const AGAIN: &str = "run it again: it goes on with what is left";

fn audited(report: AuditReport, compared: bool) -> Done {
    let clean = report.is_clean();
    let troubles = report.found.iter().map(|(trouble, found)| {
        let repaired = report.repaired.get(trouble).copied().unwrap_or_default();
        (trouble.name().to_owned(), Count { found: *found, repaired })
    });
    Done::Audit {
        records: report.records,
        referrers: report.referrers,
        troubles: troubles.collect(),
        drift: report.drift.map(|drift| Drift {
            rows: drift.rows,
            missing_in_index: drift.missing_in_index,
            missing_in_store: drift.missing_in_store,
            added: drift.added,
            removed: drift.removed,
            skipped: drift.skipped,
            held: drift.held,
        }),
        clean: clean && (!compared || report.drift_problem.is_empty()),
        drift_problem: if compared { report.drift_problem } else { "no --index".to_owned() },
    }
}

/// A job that is listened to.
struct Job {
    name: &'static str,
    dry_run: bool,
    target: String,
    begun: Instant,
    tell: Tell,
}

impl Job {
    fn new(name: &'static str, dry_run: bool, dir: &Path) -> Self {
        Self { name, dry_run, target: dir.display().to_string(), begun: Instant::now(), tell: Tell::new() }
    }

    async fn listen<R, F>(
        &mut self,
        engine: &Engine,
        job: impl FnOnce(Engine, Listening) -> F,
    ) -> Result<R, Failure>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, EngineError>> + Send + 'static,
    {
        let (tell, mut news) = mpsc::channel(NEWS_MAX);
        let running = engine.start_job(job(engine.clone(), Listening::new("dir-admin", tell)));
        while let Some(news) = news.recv().await {
            match news {
                JobNews::Progress(progress) => self.tell.progress(&Progress {
                    seconds_left: progress.seconds_left(),
                    phase: progress.phase.to_owned(),
                    done: progress.done,
                    total: progress.total,
                    per_second: progress.per_second,
                    mark: progress.mark.unwrap_or_default(),
                }),
                JobNews::Finding(found) => self.tell.finding(Found {
                    trouble: found.trouble.name().to_owned(),
                    place: found.place,
                    tag: found.tag,
                    manifest: found.manifest,
                    cid: found.cid.map(|cid| cid.to_string()).unwrap_or_default(),
                    detail: found.detail,
                }),
            }
        }
        let ended = running.await.map_err(|e| failure(exit::GENERIC, e.to_string()))?;
        ended.map_err(|error| {
            self.tell.close();
            let mut failure = refused(&error);
            if let Some(detail) = error.detail() {
                failure.message = format!("{error}: {detail}");
            }
            failure
        })
    }

    fn done(self, done: Done) -> Summary {
        Summary::new(self.name, self.target, self.dry_run, done, self.begun, self.tell)
    }
}
