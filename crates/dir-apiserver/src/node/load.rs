//! What is there before anything else: logs, signals, health, the ops listener.

use super::health::Report;
use super::info::Services;
use super::listen;
use crate::about;
use crate::config::Loaded;
use crate::config::keys::Config;
use crate::config::layers::Source;
use crate::exit::{Failure, Status};
use dir_gateway::{About, OpsState};
use dir_runtime::tasks::{OnEnd, panic_text};
use dir_runtime::telemetry::{self, LogConfig, Writer};
use dir_runtime::{Health, Latch, Signals, Supervisor, SystemClock, process};
use prometheus::Registry;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What every later step builds on.
pub(super) struct Base {
    /// Typed configuration.
    pub(super) config: Config,
    /// Home directory of the user.
    pub(super) home: String,
    /// The keys that were written somewhere: see [`Base::is_set`].
    set: BTreeSet<String>,
    /// Absolute path of `state_dir`.
    pub(super) state_dir: PathBuf,
    /// Metrics of the process.
    pub(super) metrics: Registry,
    /// Health of the process.
    pub(super) health: Health,
    /// Its components.
    pub(super) latches: Latches,
    /// Signals to the process.
    pub(super) signals: Signals,
    /// Background tasks.
    pub(super) tasks: Supervisor,
    /// The clock.
    pub(super) clock: Arc<SystemClock>,
    /// The services, for those who ask what they are.
    pub(super) services: Services,
    /// The ops listener: it ends last.
    pub(super) ops: Ops,
}

impl Base {
    /// Whether a key was written in a file, a variable or a flag.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.set.contains(key)
    }
}

/// The running ops listener.
pub(super) struct Ops {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// One latch a component.
#[derive(Clone)]
pub(super) struct Latches {
    pub(super) svid: Latch,
    pub(super) index: Latch,
    pub(super) reconciler: Latch,
    pub(super) registry: Latch,
    pub(super) policy: Latch,
    pub(super) grpc: Latch,
}

/// Starts the log as the `DIRECTORY_LOGGER_*` variables say.
pub(super) fn logs(metrics: &Registry) -> anyhow::Result<Writer> {
    let config = LogConfig::from_vars(|name| std::env::var(name).ok())
        .map_err(|e| Failure::new(Status::Config, e.to_string()))?;
    let writer =
        telemetry::init(&config, metrics).map_err(|e| Failure::new(Status::Config, e.to_string()))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {}", panic_text(panic.payload()));
    }));
    Ok(writer)
}

/// Starts signals, health and the ops listener.
pub(super) fn load(loaded: &Loaded, metrics: Registry, log: &Writer) -> anyhow::Result<Base> {
    let config = loaded.config.clone();
    let version = about::LONG_VERSION;
    tracing::info!(version, file = ?loaded.file, profile = ?config.profile, "directory server starting");
    for problem in loaded.warnings() {
        tracing::warn!(key = problem.key, "{}", problem.text);
    }
    let signals = Signals::install()?;
    let health = Health::new();
    let latches = latches(&health, &config);
    let tasks = Supervisor::new(&metrics)?;
    process::register(&metrics, "apiserver")?;
    let services = Services::default();
    let ops = ops(&config, &metrics, &health, &services)?;
    reopen_log_on_reload(&signals, &tasks, log);
    let state_dir = std::path::absolute(&config.state_dir)?;
    let home = loaded.home.clone();
    let set = loaded.entries.iter().filter(|e| e.source != Source::Default).map(|e| e.key.clone()).collect();
    let clock = Arc::new(SystemClock);
    Ok(Base { config, home, set, state_dir, metrics, health, latches, signals, tasks, clock, services, ops })
}

fn latches(health: &Health, config: &Config) -> Latches {
    let registry = if config.ops.readiness.require_registry {
        health.gate("registry")
    } else {
        health.inform("registry")
    };
    let latches = Latches {
        svid: health.vital("svid"),
        index: health.gate("index"),
        reconciler: health.inform("reconciler"),
        registry,
        policy: health.gate("policy"),
        grpc: health.gate("grpc"),
    };
    health.seal();
    latches
}

fn ops(config: &Config, metrics: &Registry, health: &Health, services: &Services) -> anyhow::Result<Ops> {
    let listener = listen::bind("metrics.address", &config.metrics.address)?;
    let at = listener.local_addr()?;
    tracing::info!(address = %at, "ops listener up");
    let state = OpsState {
        health: Arc::new(Report(health.clone())),
        metrics: config.metrics.enabled.then(|| metrics.clone()),
        info: Arc::new(services.clone()),
        about: About {
            name: about::NAME,
            version: about::VERSION,
            git_sha: about::git_sha(),
            target: about::TARGET,
        },
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(dir_gateway::serve(listener, dir_gateway::router(state), stop.clone()));
    Ok(Ops { stop, task })
}

fn reopen_log_on_reload(signals: &Signals, tasks: &Supervisor, log: &Writer) {
    let (reloads, log, stop) = (signals.reloads(), log.clone(), tasks.stopping().clone());
    tasks.spawn("log-reload", OnEnd::RESTART, move || {
        let (mut reloads, log, stop) = (reloads.clone(), log.clone(), stop.clone());
        async move {
            while let Some(Ok(())) = stop.run_until_cancelled(reloads.changed()).await {
                log.reopen();
            }
        }
    });
}
