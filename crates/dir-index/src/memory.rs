//! The index in memory only: for tests, trials and nodes that rebuild at every start.

use crate::core::{CHUNK_RECORDS, Core};
use crate::cursor::Position;
use crate::log::{DEFAULT_EVENT_RETENTION, Log};
use async_trait::async_trait;
use dir_core::event::Event;
use dir_core::index::{Applied, Change, Cursor, EventSpan, IndexError, Page, RecordIndex, Row, Usage, Work};
use dir_core::query::{Query, QueryKind};
use dir_core::{Cid, EventKind};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Configuration of a [`MemoryIndex`].
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// Events kept; default [`DEFAULT_EVENT_RETENTION`], at least 1.
    pub event_retention: u64,
    /// Events older than this, seen from the newest, are not kept.
    pub event_max_age: Option<Duration>,
    /// Number of the first event; default 1. See [`crate::first_seq`].
    pub first_seq: u64,
    /// Records a chunk; default 16,384. Smaller only to try the seams between chunks.
    pub chunk_records: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            event_retention: DEFAULT_EVENT_RETENTION,
            event_max_age: None,
            first_seq: 1,
            chunk_records: CHUNK_RECORDS,
        }
    }
}

/// An index that lives as long as the process.
pub struct MemoryIndex {
    core: Core,
    /// Writers take turns on this lock; readers of records never touch it.
    log: Mutex<Log>,
    owners: RwLock<HashMap<Cid, Arc<str>>>,
    closed: AtomicBool,
}

impl MemoryIndex {
    /// An empty index with the default configuration.
    pub fn new() -> Self {
        Self::with_config(&MemoryConfig::default())
    }

    /// An empty index.
    pub fn with_config(config: &MemoryConfig) -> Self {
        Self {
            core: Core::new(config.chunk_records),
            log: Mutex::new(Log::new(config.event_retention, config.event_max_age, config.first_seq)),
            owners: RwLock::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Result<(), IndexError> {
        if self.closed.load(Ordering::Acquire) { Err(IndexError::Closed) } else { Ok(()) }
    }
}

impl Default for MemoryIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryIndex({} records)", self.core.len())
    }
}

#[async_trait]
impl RecordIndex for MemoryIndex {
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, IndexError> {
        let mut log = self.log.lock();
        self.open()?;
        let mut done = Vec::with_capacity(changes.len());
        for change in changes {
            done.push(match change {
                Change::Put { cid, facts, at, event, owner } => {
                    let new = self.core.put(cid, &facts, at);
                    if let Some(owner) = owner.filter(|_| new) {
                        self.owners.write().insert(cid, owner);
                    }
                    let seq = event.map(|kind| log.append(at, kind, cid, labels_of(kind, || facts.labels())));
                    Applied { seq, changed: new }
                }
                Change::Delete { cid, at, event } => {
                    let present = self.core.delete(&cid);
                    self.owners.write().remove(&cid);
                    let seq = event.map(|kind| log.append(at, kind, cid, Vec::new()));
                    Applied { seq, changed: present }
                }
            });
        }
        Ok(done)
    }

    async fn add_usage(&self, counts: Vec<(Cid, Usage)>) -> Result<(), IndexError> {
        let _turn = self.log.lock();
        self.open()?;
        for (cid, more) in &counts {
            self.core.add_usage(cid, *more);
        }
        Ok(())
    }

    async fn row(&self, cid: &Cid) -> Result<Option<Row>, IndexError> {
        self.open()?;
        Ok(self.core.row(cid))
    }

    async fn owner(&self, cid: &Cid) -> Result<Option<Arc<str>>, IndexError> {
        self.open()?;
        Ok(self.owners.read().get(cid).cloned())
    }

    fn contains(&self, cid: &Cid) -> bool {
        self.core.contains(cid)
    }

    async fn search(&self, query: &Query, after: Option<&Cursor>, max: usize) -> Result<Page, IndexError> {
        self.open()?;
        let after = after.map(Position::try_from).transpose()?;
        self.core.search(query, after, max).await
    }

    async fn count(&self, query: &Query) -> Result<u64, IndexError> {
        self.open()?;
        self.core.count(query).await
    }

    async fn values(&self, kind: QueryKind) -> Result<Vec<String>, IndexError> {
        self.open()?;
        self.core.values(kind).await
    }

    async fn events(&self, after: u64, max: usize) -> Result<Vec<Event>, IndexError> {
        self.open()?;
        Ok(self.log.lock().read(after, max))
    }

    fn event_span(&self) -> EventSpan {
        self.log.lock().span()
    }

    fn work(&self) -> Work {
        self.core.work()
    }

    fn len(&self) -> u64 {
        self.core.len()
    }

    async fn cids(&self, after: Option<&Cid>, max: usize) -> Result<Vec<Cid>, IndexError> {
        self.open()?;
        Ok(self.core.cids(after, max))
    }

    async fn close(&self) -> Result<(), IndexError> {
        let _writers_have_finished = self.log.lock();
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

/// Events about a record that is gone or no longer announced carry no labels.
pub(crate) fn labels_of(kind: EventKind, labels: impl FnOnce() -> Vec<String>) -> Vec<String> {
    match kind {
        EventKind::RecordDeleted | EventKind::RecordUnpublished => Vec::new(),
        _ => labels(),
    }
}
