//! Use cases over ports: ingest, pull, lookup, delete, search, events, and the jobs.
//!
//! Nothing here knows gRPC, a registry or a database. Every path that persists a record goes through
//! [`Engine::ingest`] (or its two halves, [`Engine::prepare`] and [`Engine::commit`]).

mod cache;
mod delete;
mod error;
mod events;
mod ingest;
mod jobs;
mod journal;
mod listing;
mod names;
mod read;
mod rebuild;
mod search;
mod stats;
mod stripes;
mod traits;
mod usage;
mod watch;

pub use error::{EngineError, Op};
pub use events::{
    Batch, EventFilter, EventLogging, Events, Listener, Notice, Pace, TELLING_IDLE_PERCENT, TELLING_PERCENT,
    Told,
};
pub use ingest::Prepared;
pub use jobs::{
    AuditOptions, AuditReport, Drift, JobNews, JobProgress, Listening, ReconcileOptions, ReconcileStatus,
    ReshardReport,
};
pub use journal::{FileJournal, Journaled, MemoryJournal, RebuildJournal};
pub use listing::{Emptiness, LISTED, SUMMARIES_DEFAULT, SUMMARIES_MAX, Summaries};
pub use names::Named;
pub use read::Meta;
pub use rebuild::{RebuildState, RebuildStatus};
pub use stats::{Counter, Losses, Stats};
pub use watch::{WatchEnd, Watched};

use cache::WireCache;
use dir_core::Clock;
use dir_core::index::RecordIndex;
use dir_core::rules::RecordRules;
use dir_core::store::RecordStore;
use std::sync::Arc;
use std::time::Duration;
use stripes::Stripes;
use tokio_util::task::TaskTracker;
use usage::UsageCounts;

/// Largest record on the wire, in bytes: the size of the whole `Record` message.
pub const MAX_RECORD_BYTES: usize = 4_194_304;

/// The ports that the engine works over.
pub struct Deps {
    /// Where the bytes live.
    pub store: Arc<dyn RecordStore>,
    /// What makes them findable.
    pub index: Arc<dyn RecordIndex>,
    /// What is a record.
    pub rules: Arc<dyn RecordRules>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Named limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Bytes of encoded records kept in memory for pulls. 0 keeps none.
    pub cache_bytes: usize,
    /// Largest record, in bytes of its wire message.
    pub max_record_bytes: usize,
    /// Nobody else writes to the same store: a record that a complete index does not know is absent, and is
    /// written without asking the store first.
    pub exclusive_store: bool,
    /// The index was set aside when it was opened: what it lacks is unknown until a rebuild is done.
    pub index_set_aside: bool,
    /// How long one page of a search, or one count, may take.
    pub query_timeout: Duration,
    /// Results asked of the index at a time.
    pub page_size: usize,
    /// Records of one search that are read from the store at the same time.
    pub search_reads: usize,
    /// Events kept for a slow listener.
    pub event_buffer: usize,
    /// Changes kept for a slow watch before it is cut.
    pub watch_buffer: usize,
    /// What of events goes to the log.
    pub event_logging: EventLogging,
    /// Records that a rebuild reads at the same time.
    pub rebuild_reads: usize,
    /// First pause of a rebuild whose store does not answer; doubles up to a minute.
    pub rebuild_pause: Duration,
    /// Index changes that wait for another try after the store took the record.
    pub repair_queue: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            max_record_bytes: MAX_RECORD_BYTES,
            exclusive_store: true,
            index_set_aside: false,
            query_timeout: Duration::from_secs(30),
            page_size: 256,
            search_reads: 16,
            event_buffer: 1024,
            watch_buffer: 4096,
            event_logging: EventLogging::default(),
            rebuild_reads: 16,
            rebuild_pause: Duration::from_secs(1),
            repair_queue: 1024,
        }
    }
}

/// The use cases. Cloning shares the engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    deps: Deps,
    config: EngineConfig,
    cache: WireCache,
    stripes: Stripes,
    events: Events,
    tail: Arc<watch::Tail>,
    stats: Stats,
    usage: UsageCounts,
    rebuild: rebuild::Progress,
    jobs: jobs::Jobs,
    commits: TaskTracker,
    repairs: tokio::sync::Semaphore,
}

impl Engine {
    /// An engine over `deps`. It starts nothing: a rebuild is run by whoever composes the process.
    pub fn new(deps: Deps, config: EngineConfig) -> Self {
        let incomplete = config.index_set_aside || deps.index.is_empty();
        let stats = Stats::default();
        Self(Arc::new(Inner {
            cache: WireCache::new(config.cache_bytes),
            stripes: Stripes::default(),
            events: Events::new(config.event_buffer, config.event_logging, stats.losses.clone()),
            tail: Arc::new(watch::Tail::new(config.watch_buffer)),
            stats,
            usage: UsageCounts::default(),
            rebuild: rebuild::Progress::new(incomplete),
            jobs: jobs::Jobs::default(),
            commits: TaskTracker::new(),
            repairs: tokio::sync::Semaphore::new(config.repair_queue),
            deps,
            config,
        }))
    }

    /// Counters of what happened so far.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Where events are listened to.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        self.0.deps.clock.as_ref()
    }

    /// Waits until every commit that has begun is done, repairs included. Call it when no more calls come in.
    pub async fn settle(&self) {
        self.0.commits.close();
        self.0.commits.wait().await;
    }
}
