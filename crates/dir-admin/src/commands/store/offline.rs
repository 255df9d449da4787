//! The jobs on the data directory of a stopped registry: no server, no request.

use super::paths::{self, At};
use super::refusal::{AGAIN, failure, is_in_use, refused};
use super::summary::{Count, Done, Drift, Found, Summary};
use super::tell::{Progress, Tell};
use super::{AuditArgs, Layout, PlaceArgs, ReshardArgs};
use crate::commands::mark::Mark;
use crate::report::Failure;
use dir_client::exit;
use dir_core::index::RecordIndex;
use dir_core::maintenance::{Depth, Spread, StoreMaintenance};
use dir_core::store::WalkMark;
use dir_engine::{
    AuditOptions, AuditReport, Deps, Drift as EngineDrift, Engine, EngineConfig, EngineError, JobNews,
    Listening, MemoryJournal, RebuildStatus, ReconcileOptions, ReshardReport,
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

pub(super) async fn audit(args: &AuditArgs, dir: &Path, mark: &Mark) -> Result<Summary, Failure> {
    let store = store(&args.place, dir)?;
    let index = args.index.index.as_deref().map(|path| existing(dir, path)).transpose()?;
    let (layout, unfinished) = store.layout();
    let compared: Option<Arc<dyn RecordIndex>> = index.clone().map(|index| index as _);
    let engine = engine(store, compared.unwrap_or_else(nothing));
    let options = AuditOptions {
        depth: if args.contents { Depth::Contents } else { Depth::Manifests },
        repair: false,
        restore_lost_tags: false,
        reconcile: ReconcileOptions::default(),
        from: args.from.clone().map(WalkMark),
    };
    let mut job = Job::new("store audit", false, dir, mark);
    let report =
        job.listen(&engine, |engine, on| async move { engine.audit_store(options, &on).await }).await;
    let compared = index.is_some();
    if let Some(index) = index {
        // What it was closed with is written again.
        index.close().await.map_err(|e| refused(&e))?;
    }
    let report = report.map_err(|failure| match &args.from {
        Some(from) if failure.message.contains(&format!("mark {from:?}")) => {
            failure.advised("start without --from")
        }
        _ => failure,
    });
    Ok(job.done(audited(report?, compared, unfinished.then_some(layout))))
}

pub(super) async fn reshard(args: &ReshardArgs, dir: &Path, mark: &Mark) -> Result<Summary, Failure> {
    let engine = engine(store(&args.place, dir)?, nothing());
    let spread = match args.to {
        Layout::Sharded => Spread::Sharded,
        Layout::Single => Spread::Single,
    };
    let (to, dry_run) = (args.to.name(), args.dry_run);
    let mut job = Job::new("store reshard", dry_run, dir, mark);
    let run =
        |engine: Engine, on: Listening| async move { engine.reshard_store(spread, dry_run, None, &on).await };
    let ReshardReport { moved, referrers, left, remaining, done, .. } = job.listen(&engine, run).await?;
    Ok(job.done(Done::Reshard { to, moved, referrers: Some(referrers), left, remaining, done }))
}

/// Makes the index of a directory, or adds to one what it lacks. One that is not there yet appears when it is whole.
pub(super) async fn reindex(
    place: &PlaceArgs,
    dir: &Path,
    path: &Path,
    mark: &Mark,
) -> Result<Summary, Failure> {
    // Refused before anything is made.
    let store = store(place, dir)?;
    let fresh = paths::index(dir, path)? == At::Nothing;
    let at = if fresh { with(path, UNFINISHED) } else { path.to_owned() };
    paths::index(dir, &at)?;
    let mut job = Job::new("store reindex", false, dir, mark);
    let index = match SledIndex::open(SledConfig::new(&at)) {
        Ok(index) => Arc::new(index),
        Err(error) => {
            if fresh && !is_in_use(&error) {
                forget(&at);
            }
            return Err(refused(&error));
        }
    };
    let made = make(&mut job, store, index, path).await;
    if !fresh {
        return made.map(|done| job.done(done));
    }
    let moved = made.and_then(|done| {
        let text = |e| format!("cannot put the index at {}: {e}", path.display());
        std::fs::rename(&at, path).map_err(|e| failure(exit::CONFIG, text(e), "check the path"))?;
        Ok(done)
    });
    forget(&at);
    moved.map(|done| job.done(done))
}

/// Takes away what is left of an index that is not to be, or is elsewhere now.
fn forget(unfinished: &Path) {
    // Of no use any more, and of no harm.
    let _ = std::fs::remove_dir_all(unfinished);
    let _ = std::fs::remove_file(with(unfinished, ".lock"));
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Fills an index, and closes it whatever comes.
async fn make(
    job: &mut Job,
    store: DataDirStore,
    index: Arc<SledIndex>,
    path: &Path,
) -> Result<Done, Failure> {
    let filled = fill(job, store, index.clone()).await;
    let records = index.len();
    let closed = index.close().await.map_err(|e| refused(&e));
    let (status, drift) = filled?;
    closed?;
    Ok(Done::Reindex {
        index: path.display().to_string(),
        records,
        added: status.added + drift.added,
        removed: drift.removed,
        skipped: status.skipped,
        held: drift.held,
    })
}

async fn fill(
    job: &mut Job,
    store: DataDirStore,
    index: Arc<SledIndex>,
) -> Result<(RebuildStatus, EngineDrift), Failure> {
    let total = names(&store).await?;
    let engine = engine(store, index);
    let rebuilding = engine.clone();
    let rebuild =
        async move { rebuilding.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await };
    let mut rebuild = std::pin::pin!(rebuild);
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK_EVERY) => job.tell.progress(&rebuild_progress(&engine, Some(total))),
            done = &mut rebuild => break done.map_err(|e| refused(&e))?,
        }
    }
    job.tell.progress(&rebuild_progress(&engine, None));
    let status = engine.rebuild_status();
    let drift = engine.reconcile(ReconcileOptions::default(), &CancellationToken::new()).await;
    Ok((status, drift.map_err(|e| refused(&e))?))
}

/// How far a rebuild is, of so many tags; of them, referrers are no records. At its end it is known how many there were.
fn rebuild_progress(engine: &Engine, tags: Option<u64>) -> Progress {
    let status = engine.rebuild_status();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // for people
    let left = |total: u64, rate: f64| (total.saturating_sub(status.walked) as f64 / rate).ceil() as u64;
    let per_second = status.records_per_second;
    Progress {
        phase: "reindex".to_owned(),
        done: status.walked,
        total: Some(tags.unwrap_or(status.walked)),
        at_most: tags.is_some(),
        per_second,
        seconds_left: tags.filter(|_| per_second > 0.0).map(|total| left(total, per_second)),
        mark: String::new(),
    }
}

/// How many tags may be records.
async fn names(store: &DataDirStore) -> Result<u64, Failure> {
    let mut names = store.names();
    let mut total = 0;
    while let Some(part) = names.next().await {
        total += part.map_err(|e| refused(&e))?.len() as u64;
    }
    Ok(total)
}

fn store(place: &PlaceArgs, dir: &Path) -> Result<DataDirStore, Failure> {
    paths::data_dir(dir)?;
    let config = DataDirConfig {
        root: dir.to_owned(),
        repository: place.repository.clone(),
        limits: Limits::default(),
    };
    DataDirStore::open(config).map_err(|e| refused(&e))
}

fn engine(store: DataDirStore, index: Arc<dyn RecordIndex>) -> Engine {
    let store = Arc::new(store);
    let deps = Deps {
        store: store.clone(),
        index,
        rules: Arc::new(BuiltinRules::default()),
        clock: Arc::new(SystemClock),
    };
    let config = EngineConfig { cache_bytes: 0, rebuild_reads: READS, ..EngineConfig::default() };
    Engine::new(deps, config).with_maintenance(store)
}

/// An index that is there; none is made.
fn existing(dir: &Path, path: &Path) -> Result<Arc<SledIndex>, Failure> {
    if paths::index(dir, path)? == At::Nothing {
        let text = format!("there is no index at {}", path.display());
        return Err(failure(exit::CONFIG, text, "check the path; dir-admin store reindex makes an index"));
    }
    Ok(Arc::new(SledIndex::open(SledConfig::new(path)).map_err(|e| refused(&e))?))
}

fn nothing() -> Arc<dyn RecordIndex> {
    Arc::new(MemoryIndex::with_config(&MemoryConfig::default()))
}

/// Without an index there is nothing to compare, which is no fault.
fn audited(mut report: AuditReport, compared: bool, converting: Option<&'static str>) -> Done {
    if !compared {
        (report.drift, report.drift_problem) = (Some(EngineDrift::default()), "no --index".to_owned());
    }
    let clean = report.is_clean() && converting.is_none();
    report.drift = report.drift.filter(|_| compared);
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
        clean,
        converting,
        drift_problem: report.drift_problem,
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
    fn new(name: &'static str, dry_run: bool, dir: &Path, mark: &Mark) -> Self {
        let (target, begun, tell) = (dir.display().to_string(), Instant::now(), Tell::new(mark));
        Self { name, dry_run, target, begun, tell }
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
                    at_most: false,
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
        let ended = running.await.map_err(|e| failure(exit::GENERIC, e.to_string(), AGAIN))?;
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
