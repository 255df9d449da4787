//! Opening what the node works with: identity first, then store and index.

use super::federation;
use super::identity::{self, Held};
use super::inspected::Counted;
use super::load::Base;
use super::registry;
use crate::config::given;
use crate::config::keys::{Config, DatabaseType, StoreProvider};
use crate::exit::{Failure, Status};
use dir_core::index::{IndexError, RecordIndex};
use dir_core::maintenance::StoreMaintenance;
use dir_core::store::{RecordStore, StoreError};
use dir_core::{Class, Classified, Clock};
use dir_engine::{FileJournal, MemoryJournal, RebuildJournal};
use dir_index::{MemoryConfig, MemoryIndex, SledConfig, first_seq, open_or_set_aside};
use dir_store::{
    CacheConfig, LayoutConfig, LayoutStore, Limits, MemoryStore, StackConfig, StoreMetrics, decorate,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that is open.
pub(super) struct Opened {
    pub(super) held: Option<Held>,
    /// Ends when dropped.
    pub(super) federation: Option<federation::Running>,
    pub(super) store: Arc<dyn RecordStore>,
    /// The same store without decorators, for jobs; what they find broken is counted.
    pub(super) maintenance: Arc<dyn StoreMaintenance>,
    /// Whether other processes may write to the same store.
    pub(super) shared_store: bool,
    pub(super) index: Arc<dyn RecordIndex>,
    /// The index was damaged and starts empty.
    pub(super) set_aside: bool,
    /// Where an unfinished rebuild got to.
    pub(super) journal: Arc<dyn RebuildJournal>,
}

/// Opens identity, store and index.
pub(super) async fn open(base: &Base) -> anyhow::Result<Opened> {
    let held = identity::obtain(base).await?;
    let federation = federation::start(base, held.as_ref()).await?;
    let (store, maintenance, shared_store) = store(base).await?;
    base.latches.index.starting("loading");
    let (index, set_aside) = index(base).await?;
    let journal = journal(base)?;
    if set_aside || index.is_empty() {
        // A mark of an earlier rebuild counts on rows that are not there any more.
        journal.note(None).map_err(|e| unusable("state_dir", &base.state_dir, &e))?;
    }
    Ok(Opened { held, federation, store, maintenance, shared_store, index, set_aside, journal })
}

/// The end of a node that cannot use a path of its configuration.
pub(super) fn unusable(key: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Status::Config, format!("cannot use {} ({key}): {error}", path.display()))
}

pub(super) fn refusal(error: &StoreError) -> Failure {
    let status = match error.class() {
        Class::Unavailable | Class::Timeout => Status::Unreachable,
        Class::FailedPrecondition | Class::Invalid => Status::Config,
        _ => Status::Generic,
    };
    Failure::new(status, format!("cannot open the store: {error}"))
}

/// The store with timeouts, retries, metrics and, in front of a registry, a cache; the same without all that, for
/// jobs; and whether others write to it.
async fn store(base: &Base) -> anyhow::Result<(Arc<dyn RecordStore>, Arc<dyn StoreMaintenance>, bool)> {
    let Adapter { store: adapter, maintenance, shared, cache } = adapter(base).await?;
    let metrics = StoreMetrics::register(&base.metrics)?;
    let stack = StackConfig { cache, ..StackConfig::default() };
    let maintenance = Arc::new(Counted::new(maintenance, adapter.clone(), &metrics));
    let store = blocking(move || decorate(adapter, &stack, &metrics)).await?;
    Ok((store.map_err(|e| refusal(&e))?, maintenance, shared))
}

/// A store as it is.
struct Adapter {
    store: Arc<dyn RecordStore>,
    maintenance: Arc<dyn StoreMaintenance>,
    shared: bool,
    cache: Option<CacheConfig>,
}

impl Adapter {
    fn new<S: RecordStore + StoreMaintenance + 'static>(store: S, shared: bool) -> Self {
        let store = Arc::new(store);
        Self { maintenance: store.clone(), store, shared, cache: None }
    }
}

async fn adapter(base: &Base) -> anyhow::Result<Adapter> {
    let config = &base.config;
    let oci = &config.store.oci;
    if config.store.provider == StoreProvider::Memory {
        tracing::warn!("records are kept in memory and are gone with the process");
        return Ok(Adapter::new(MemoryStore::new(Limits::default()), false));
    }
    if !given(&oci.local_dir) && !oci.registry_address.is_empty() {
        let (store, shared) = registry::open(oci).await?;
        return Ok(Adapter { cache: registry::cache(oci)?, ..Adapter::new(store, shared) });
    }
    let path =
        if given(&oci.local_dir) { std::path::absolute(&oci.local_dir)? } else { default_layout(base) };
    tracing::info!(path = %path.display(), "records in an OCI image layout");
    let opened = blocking(move || LayoutStore::open(&LayoutConfig::new(path))).await?;
    let refusal = |e: StoreError| {
        Failure::new(Status::Config, format!("cannot open the store (store.oci.local_dir): {e}"))
    };
    Ok(Adapter::new(opened.map_err(refusal)?, false))
}

/// Where records live when nothing is configured.
fn default_layout(base: &Base) -> PathBuf {
    PathBuf::from(&base.home).join(".dir/store")
}

async fn index(base: &Base) -> anyhow::Result<(Arc<dyn RecordIndex>, bool)> {
    let events = &base.config.events;
    let event_max_age = Some(events.max_age).filter(|age| !age.is_zero());
    let Some(path) = index_path(&base.config)? else {
        let config = MemoryConfig {
            event_retention: events.retention,
            event_max_age,
            first_seq: first_seq(base.clock.now()),
            ..MemoryConfig::default()
        };
        return Ok((Arc::new(MemoryIndex::with_config(&config)), false));
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| unusable("database.embedded.path", &path, &e))?;
    }
    let config = SledConfig { event_retention: events.retention, event_max_age, ..SledConfig::new(path) };
    let clock = base.clock.clone();
    let opened = blocking(move || open_or_set_aside(config, clock.as_ref())).await?;
    let opened = opened.map_err(|e: IndexError| {
        Failure::new(Status::Config, format!("cannot open the index (database.embedded.path): {e}"))
    })?;
    if let Some(aside) = &opened.set_aside {
        let moved_to = aside.path.display();
        tracing::error!(reason = aside.reason, %moved_to, "damaged index set aside; it is rebuilt while serving");
    }
    Ok((Arc::new(opened.index), opened.set_aside.is_some()))
}

/// Directory of the embedded index; `None` keeps it in memory.
fn index_path(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let database = &config.database;
    Ok(match database.r#type {
        DatabaseType::Memory => None,
        DatabaseType::Embedded => Some(std::path::absolute(&database.embedded.path)?),
        DatabaseType::Sqlite => {
            let path = std::path::absolute(&database.sqlite.path)?.with_file_name("index.sled");
            tracing::info!(path = %path.display(), "database.type sqlite is served by the embedded index");
            Some(path)
        }
        DatabaseType::Postgres => {
            return Err(Failure::new(
                Status::Config,
                "database.type postgres is not available in this build",
            )
            .into());
        }
    })
}

/// An unfinished rebuild of a durable index is remembered; that of an index in memory ends with the process.
fn journal(base: &Base) -> anyhow::Result<Arc<dyn RebuildJournal>> {
    if base.config.database.r#type == DatabaseType::Memory {
        return Ok(Arc::new(MemoryJournal::default()));
    }
    let path = base.state_dir.join("rebuild");
    std::fs::create_dir_all(&base.state_dir).map_err(|e| unusable("state_dir", &base.state_dir, &e))?;
    Ok(Arc::new(FileJournal::new(path)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
