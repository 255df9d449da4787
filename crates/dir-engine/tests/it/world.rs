//! An engine, and adapters that count and fail.

use async_trait::async_trait;
use bytes::Bytes;
use dir_core::event::Event;
use dir_core::index::{Applied, Change, Cursor, EventSpan, IndexError, Page, RecordIndex, Row, Usage, Work};
use dir_core::json::Doc;
use dir_core::query::{Query, QueryKind};
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Clock, Record, RecordFacts, Timestamp};
use dir_engine::{Deps, Engine, EngineConfig, EngineError};
use dir_index::MemoryIndex;
use dir_oasf::BuiltinRules;
use dir_store::{Limits, MemoryStore};
use futures::StreamExt;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn set(&self, secs: i64) {
        self.0.store(secs * 1000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A memory store that counts, and fails as often as it is told to.
pub(crate) struct Store {
    pub(crate) inner: MemoryStore,
    pub(crate) puts: Mutex<Vec<Presence>>,
    pub(crate) gets: Mutex<Vec<Known>>,
    /// So many walks are cut off after so many items.
    pub(crate) cut_walks: AtomicU64,
    pub(crate) walk_items: AtomicU64,
    pub(crate) walks: Mutex<Vec<Option<WalkMark>>>,
    /// So many reads fail.
    pub(crate) fail_gets: AtomicU64,
}

fn gone() -> StoreError {
    StoreError::Unavailable { context: "GET".into(), source: "refused".into() }
}

fn spend(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[async_trait]
impl RecordStore for Store {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        self.puts.lock().unwrap().push(presence);
        tokio::task::yield_now().await;
        self.inner.put(record, facts, at, presence).await
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        self.gets.lock().unwrap().push(known);
        tokio::task::yield_now().await;
        if spend(&self.fail_gets) {
            return Err(gone());
        }
        self.inner.get(cid, known).await
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.inner.resolve(cid).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        self.inner.delete(cid).await
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.inner.put_referrer(subject, referrer, at).await
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        self.inner.referrers(subject).await
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.inner.referrer_bytes(subject, referrer).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        self.inner.delete_referrer(subject, referrer).await
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        self.walks.lock().unwrap().push(from.clone());
        let walk = self.inner.walk(from);
        if spend(&self.cut_walks) {
            let items = usize::try_from(self.walk_items.load(Ordering::SeqCst)).unwrap();
            return Box::pin(walk.take(items).chain(futures::stream::iter([Err(gone())])));
        }
        walk
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

/// A memory index whose changes fail as often as it is told to.
pub(crate) struct Index {
    pub(crate) inner: MemoryIndex,
    pub(crate) fail_applies: AtomicU64,
}

#[async_trait]
impl RecordIndex for Index {
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, IndexError> {
        tokio::task::yield_now().await;
        if spend(&self.fail_applies) {
            return Err(IndexError::Backend { context: "commit", source: "disk full".into() });
        }
        self.inner.apply(changes).await
    }

    async fn add_usage(&self, counts: Vec<(Cid, Usage)>) -> Result<(), IndexError> {
        if spend(&self.fail_applies) {
            return Err(IndexError::Backend { context: "counters", source: "disk full".into() });
        }
        self.inner.add_usage(counts).await
    }

    async fn row(&self, cid: &Cid) -> Result<Option<Row>, IndexError> {
        self.inner.row(cid).await
    }

    async fn owner(&self, cid: &Cid) -> Result<Option<Arc<str>>, IndexError> {
        self.inner.owner(cid).await
    }

    fn contains(&self, cid: &Cid) -> bool {
        self.inner.contains(cid)
    }

    async fn search(&self, query: &Query, after: Option<&Cursor>, max: usize) -> Result<Page, IndexError> {
        self.inner.search(query, after, max).await
    }

    async fn count(&self, query: &Query) -> Result<u64, IndexError> {
        self.inner.count(query).await
    }

    async fn values(&self, kind: QueryKind) -> Result<Vec<String>, IndexError> {
        self.inner.values(kind).await
    }

    async fn events(&self, after: u64, max: usize) -> Result<Vec<Event>, IndexError> {
        self.inner.events(after, max).await
    }

    fn event_span(&self) -> EventSpan {
        self.inner.event_span()
    }

    fn work(&self) -> Work {
        self.inner.work()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    async fn cids(&self, after: Option<&Cid>, max: usize) -> Result<Vec<Cid>, IndexError> {
        self.inner.cids(after, max).await
    }

    async fn close(&self) -> Result<(), IndexError> {
        self.inner.close().await
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<Store>,
    pub(crate) index: Arc<Index>,
    pub(crate) clock: Arc<Hands>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(EngineConfig::default())
    }

    pub(crate) fn with(config: EngineConfig) -> Self {
        let store = Arc::new(Store {
            inner: MemoryStore::new(Limits::default()),
            puts: Mutex::default(),
            gets: Mutex::default(),
            cut_walks: AtomicU64::new(0),
            walk_items: AtomicU64::new(0),
            walks: Mutex::default(),
            fail_gets: AtomicU64::new(0),
        });
        Self::over(store, config)
    }

    /// A new index over a store that is there.
    pub(crate) fn over(store: Arc<Store>, config: EngineConfig) -> Self {
        let index = Arc::new(Index { inner: MemoryIndex::new(), fail_applies: AtomicU64::new(0) });
        let clock = Arc::new(Hands(AtomicI64::new(1_767_225_600_000)));
        let deps = Deps {
            store: store.clone(),
            index: index.clone(),
            rules: Arc::new(BuiltinRules::default()),
            clock: clock.clone(),
        };
        Self { engine: Engine::new(deps, config), store, index, clock }
    }

    pub(crate) async fn push(&self, name: &str) -> Result<Cid, EngineError> {
        self.engine.ingest(Some(doc(name)), 1000).await
    }

    pub(crate) async fn pull(&self, cid: &Cid) -> Result<Bytes, EngineError> {
        self.engine.pull(cid, message).await
    }

    pub(crate) async fn found(&self) -> Vec<Cid> {
        let pages: Vec<_> = self.engine.search(Query::default()).collect().await;
        pages.into_iter().flat_map(Result::unwrap).collect()
    }
}

/// Stands for the wire message, in the shape of an encoder.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn message(record: &Record) -> Result<Bytes, Infallible> {
    Ok(Bytes::from([&b"message of "[..], record.bytes()].concat()))
}

pub(crate) fn doc(name: &str) -> Doc {
    let text = format!(
        r#"{{"name":"{name}","version":"v1","schema_version":"0.8.0","description":"d","authors":["a"],
        "created_at":"2026-01-01T00:00:00Z","skills":[{{"name":"a/b"}}],"domains":[{{"name":"c"}}],
        "modules":[],"locators":[{{"type":"source_code","url":"https://example.org"}}]}}"#
    );
    Doc::parse(text.as_bytes()).unwrap()
}

pub(crate) fn cid(name: &str) -> Cid {
    Record::from_doc(&doc(name)).unwrap().cid()
}
