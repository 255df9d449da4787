//! The index on sled: what survives is on disk, what answers is in memory.
//!
//! One tree holds rows and events. Every change is one atomic batch with the summary that counts it, flushed
//! before it is acknowledged. Opening checks every row and loads it, from what the last close has saved or else from
//! the tree; damage is reported, never answered from.

mod aside;
mod failure;
mod keys;
mod load;
mod lock;
mod marker;
mod owners;
mod rows;
mod saved;
mod writer;

pub use aside::{Opened, SetAside, open_or_set_aside};

use crate::codec::decode_event;
use crate::core::{CHUNK_RECORDS, Core};
use crate::cursor::Position;
use crate::log::DEFAULT_EVENT_RETENTION;
use async_trait::async_trait;
use dir_core::Cid;
use dir_core::event::Event;
use dir_core::index::{Applied, Change, Cursor, EventSpan, IndexError, Page, RecordIndex, Row, Usage, Work};
use dir_core::query::{Query, QueryKind};
use failure::from_sled;
use lock::Lock;
use parking_lot::{Mutex, RwLock};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use writer::{Request, Writer};

/// Cache of sled unless configured: rows are answered from memory, so that only writes pass through it.
pub const DEFAULT_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Smallest cache: a smaller configured one is raised to it.
pub const MIN_CACHE_BYTES: u64 = 1024 * 1024;

/// Calls of `apply` that wait for the writer at most; further ones wait for room.
const WAITING_REQUESTS: usize = 1_024;

/// Configuration of a [`SledIndex`].
#[derive(Debug, Clone)]
pub struct SledConfig {
    /// Directory of the index; created when absent. A file `<path>.lock` lies beside it.
    pub path: PathBuf,
    /// Cache of sled in bytes; default [`DEFAULT_CACHE_BYTES`], at least [`MIN_CACHE_BYTES`].
    pub cache_bytes: u64,
    /// Events kept; default [`DEFAULT_EVENT_RETENTION`]. Up to 128 more are kept between two trims.
    pub event_retention: u64,
    /// Events older than this, seen from the newest, are removed, 128 at a time; default: none is too old.
    pub event_max_age: Option<Duration>,
    /// Number of the first event of a new index; default 1. See [`crate::first_seq`]. [`open_or_set_aside`] raises it
    /// to what the clock says.
    pub first_seq: u64,
    /// Records a chunk; default 16,384. Smaller only to try the seams between chunks.
    pub chunk_records: usize,
}

impl SledConfig {
    /// The default configuration in a directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: DEFAULT_CACHE_BYTES,
            event_retention: DEFAULT_EVENT_RETENTION,
            event_max_age: None,
            first_seq: 1,
            chunk_records: CHUNK_RECORDS,
        }
    }
}

/// An index that survives its process.
pub struct SledIndex {
    core: Arc<Core>,
    requests: mpsc::Sender<Request>,
    /// Written by the writer after each commit.
    span: Arc<RwLock<EventSpan>>,
    /// Why no change is taken any more, once that is so.
    impaired: Arc<Mutex<Option<String>>>,
    /// For reading events; gone once closed.
    db: RwLock<Option<sled::Db>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SledIndex {
    /// Opens the index, or creates an empty one. Blocks while it loads: some seconds for a million records.
    ///
    /// [`IndexError::Damaged`]: the directory holds something that is not what was written; see
    /// [`open_or_set_aside`]. [`IndexError::Backend`]: it cannot be used now (in use, no permission, disk full).
    pub fn open(config: SledConfig) -> Result<Self, IndexError> {
        let lock = Lock::take(&config.path)?;
        Self::open_locked(config, Arc::new(lock))
    }

    fn open_locked(config: SledConfig, lock: Arc<Lock>) -> Result<Self, IndexError> {
        let loaded = load::load(&config)?;
        marker::remove(&config.path)?;
        let core = Arc::new(loaded.core);
        let (requests, inbox) = mpsc::channel(WAITING_REQUESTS);
        let span = EventSpan { oldest: loaded.oldest_seq, next: loaded.summary.next_seq };
        let span = Arc::new(RwLock::new(span));
        let impaired = Arc::default();
        let writer = Writer {
            impaired: Arc::clone(&impaired),
            span: span.clone(),
            db: loaded.db.clone(),
            core: core.clone(),
            summary: loaded.summary,
            oldest_seq: loaded.oldest_seq,
            swept_seq: loaded.oldest_seq,
            event_retention: config.event_retention.max(1),
            event_max_age: config.event_max_age,
            next_batch: None,
            path: config.path,
            rows_changed: false,
            failed: false,
        };
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || {
                writer.run(inbox);
                drop(lock);
            })
            .map_err(|e| failure::from_io("starting the writer", e))?;
        let (db, thread) = (RwLock::new(Some(loaded.db)), Mutex::new(Some(thread)));
        Ok(Self { core, requests, span, impaired, db, thread })
    }

    fn check_open(&self) -> Result<(), IndexError> {
        if self.db.read().is_some() { Ok(()) } else { Err(IndexError::Closed) }
    }
}

impl std::fmt::Debug for SledIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SledIndex({} records)", self.core.len())
    }
}

#[async_trait]
impl RecordIndex for SledIndex {
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, IndexError> {
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Apply(changes, answer)).await.map_err(|_closed| IndexError::Closed)?;
        result.await.map_err(|_closed| IndexError::Closed)?
    }

    async fn add_usage(&self, counts: Vec<(Cid, Usage)>) -> Result<(), IndexError> {
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Count(counts, answer)).await.map_err(|_closed| IndexError::Closed)?;
        result.await.map_err(|_closed| IndexError::Closed)?
    }

    async fn row(&self, cid: &Cid) -> Result<Option<Row>, IndexError> {
        self.check_open()?;
        Ok(self.core.row(cid))
    }

    async fn owner(&self, cid: &Cid) -> Result<Option<Arc<str>>, IndexError> {
        let (db, cid) = (self.db.read().clone().ok_or(IndexError::Closed)?, *cid);
        let at = self.core.came_at(&cid);
        tokio::task::spawn_blocking(move || owners::get(&db, at, &cid))
            .await
            .map_err(|e| IndexError::Backend { context: "reading an owner", source: e.into() })?
    }

    fn contains(&self, cid: &Cid) -> bool {
        self.core.contains(cid)
    }

    async fn search(&self, query: &Query, after: Option<&Cursor>, max: usize) -> Result<Page, IndexError> {
        self.check_open()?;
        let after = after.map(Position::try_from).transpose()?;
        self.core.search(query, after, max).await
    }

    async fn count(&self, query: &Query) -> Result<u64, IndexError> {
        self.check_open()?;
        self.core.count(query).await
    }

    async fn values(&self, kind: QueryKind) -> Result<Vec<String>, IndexError> {
        self.check_open()?;
        self.core.values(kind).await
    }

    async fn events(&self, after: u64, max: usize) -> Result<Vec<Event>, IndexError> {
        let db = self.db.read().clone().ok_or(IndexError::Closed)?;
        // What the log has let go of may still be on disk.
        let after = after.max(self.span.read().oldest.saturating_sub(1));
        tokio::task::spawn_blocking(move || read_events(&db, after, max))
            .await
            .map_err(|e| IndexError::Backend { context: "reading the event log", source: e.into() })?
    }

    fn event_span(&self) -> EventSpan {
        *self.span.read()
    }

    fn impairment(&self) -> Option<String> {
        self.impaired.lock().clone()
    }

    fn work(&self) -> Work {
        self.core.work()
    }

    fn len(&self) -> u64 {
        self.core.len()
    }

    async fn cids(&self, after: Option<&Cid>, max: usize) -> Result<Vec<Cid>, IndexError> {
        self.check_open()?;
        Ok(self.core.cids(after, max))
    }

    async fn close(&self) -> Result<(), IndexError> {
        if self.db.write().take().is_none() {
            return Ok(());
        }
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Close(answer)).await.map_err(|_closed| IndexError::Closed)?;
        let closed = result.await.map_err(|_closed| IndexError::Closed)?;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The writer has answered; its thread ends once sled has let go of its files.
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            debug_assert!(matches!(joined, Ok(Ok(()))));
        }
        closed
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        self.db.write().take();
        // Without senders the writer ends; waiting for it frees the directory for the next to open it.
        let (nobody, _) = mpsc::channel(1);
        self.requests = nobody;
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

fn read_events(db: &sled::Db, after: u64, max: usize) -> Result<Vec<Event>, IndexError> {
    let Some(from) = after.checked_add(1) else { return Ok(Vec::new()) };
    let mut events: Vec<Event> = Vec::new();
    for item in db.range(keys::event(from)..=keys::event(u64::MAX)).take(max) {
        let (key, value) = item.map_err(|e| from_sled("reading the event log", e))?;
        let bad = || IndexError::Damaged("an event is unreadable".into());
        let seq = keys::event_seq(&key).ok_or_else(bad)?;
        let event = decode_event(&key, seq, &value).map_err(|_malformed| bad())?;
        if events.last().is_some_and(|last| last.seq + 1 != seq) {
            return Err(IndexError::Damaged(format!("the event before {seq} is missing")));
        }
        events.push(event);
    }
    Ok(events)
}
