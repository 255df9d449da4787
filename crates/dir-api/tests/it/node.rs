//! The node under test.

use async_trait::async_trait;
use bytes::Bytes;
use dir_api::{App, AppConfig, AppDeps, Authorization, Conn, ServeConfig, ServeEnd, plain_incoming, serve};
use dir_core::identity::IdentityStatus;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Clock, Record, RecordFacts, Timestamp};
use dir_engine::{Deps, Engine, EngineConfig};
use dir_index::MemoryIndex;
use dir_oasf::BuiltinRules;
use dir_proto::agntcy::dir::core::v1 as core;
use dir_proto::agntcy::dir::store::v1::store_service_client::StoreServiceClient;
use dir_store::{Limits, MemoryStore};
use futures::{Stream, StreamExt};
use prometheus::Registry;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test when something does not happen.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("did not happen in time")
}

/// Waits until `holds`.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A clock that stands still until it is set.
pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// What the store does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Mood {
    Works,
    Unavailable,
    Slow,
    Panics,
    Unsupported,
    Garbage,
}

const MOODS: [Mood; 6] =
    [Mood::Works, Mood::Unavailable, Mood::Slow, Mood::Panics, Mood::Unsupported, Mood::Garbage];

/// A memory store that can fail, wait and count.
pub(crate) struct TestStore {
    pub(crate) inner: MemoryStore,
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    mood: AtomicUsize,
    /// Reads take one permit each, so that a test can hold them.
    pub(crate) reads: Semaphore,
    /// Reads that wait for their permit, and the most there ever were.
    reading: AtomicU64,
    pub(crate) reading_most: AtomicU64,
    /// Writes take one permit each.
    pub(crate) writes: Semaphore,
    /// Writes that wait for their permit, and the most there ever were.
    pub(crate) waiting: AtomicU64,
    pub(crate) waiting_most: AtomicU64,
}

impl TestStore {
    fn new() -> Self {
        Self {
            inner: MemoryStore::new(Limits::default()),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            mood: AtomicUsize::new(0),
            reads: Semaphore::new(Semaphore::MAX_PERMITS),
            reading: AtomicU64::new(0),
            reading_most: AtomicU64::new(0),
            writes: Semaphore::new(Semaphore::MAX_PERMITS),
            waiting: AtomicU64::new(0),
            waiting_most: AtomicU64::new(0),
        }
    }

    /// Takes over a record that another store has.
    pub(crate) async fn adopt(&self, other: &TestStore, cid: &str, value: &serde_json::Value) {
        let record = other.inner.get(&cid.parse().unwrap(), Known::Unknown).await.unwrap();
        let doc = dir_core::json::Doc::parse(value.to_string().as_bytes()).unwrap();
        let facts = dir_oasf::facts(&doc).unwrap();
        self.inner.put(&record, &facts, Timestamp(0), Presence::Unknown).await.unwrap();
    }

    pub(crate) fn reading(&self) -> u64 {
        self.reading.load(Ordering::SeqCst)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.mood.store(mood as usize, Ordering::SeqCst);
    }

    fn feel(&self) -> Result<(), StoreError> {
        match MOODS[self.mood.load(Ordering::SeqCst)] {
            Mood::Works => Ok(()),
            Mood::Unavailable => Err(StoreError::Unavailable {
                context: "GET http://10.9.8.7:5000/v2/".into(),
                source: "connection refused (secret-host)".into(),
            }),
            Mood::Slow => {
                Err(StoreError::Timeout { context: "GET".into(), limit: Duration::from_secs(1) })
            }
            Mood::Panics => panic!("the store panics on purpose"),
            Mood::Unsupported => Err(StoreError::Unsupported(
                "registry does not support OCI delete API; use the registry's web UI or native API to delete packages"
                    .into(),
            )),
            Mood::Garbage => Err(StoreError::BadManifest("manifest has no layers for CID x".into())),
        }
    }
}

#[async_trait]
impl RecordStore for TestStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.waiting_most.fetch_max(waiting, Ordering::SeqCst);
        self.writes.acquire().await.unwrap().forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.feel()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.inner.put(record, facts, at, presence).await
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.reading_most.fetch_max(reading, Ordering::SeqCst);
        self.reads.acquire().await.unwrap().forget();
        self.reading.fetch_sub(1, Ordering::SeqCst);
        self.feel()?;
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get(cid, known).await
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.feel()?;
        self.inner.resolve(cid).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.feel()?;
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
        self.inner.walk(from)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.feel()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

/// What a node is made with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) app: AppConfig,
    pub(crate) serve: ServeConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) identity: Option<Arc<dyn IdentityStatus>>,
    /// With authorization; its policy is put in force by the test.
    pub(crate) authorized: bool,
}

/// A node, and the ends to pull.
pub(crate) struct Node {
    pub(crate) app: App,
    pub(crate) addr: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<TestStore>,
    pub(crate) index: Arc<MemoryIndex>,
    pub(crate) clock: Arc<Hands>,
    pub(crate) registry: Registry,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) drain: CancellationToken,
    pub(crate) kill: CancellationToken,
    pub(crate) served: JoinHandle<ServeEnd>,
    pub(crate) authorization: Option<Authorization>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let (listener, clock) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), hands());
        let addr = listener.local_addr().unwrap();
        let incoming = plain_incoming(listener, clock.clone());
        Self::on(setup, addr, clock, incoming)
    }

    /// A node whose connections have `shape` given to them, as an acceptor with identities would.
    pub(crate) async fn shaped(
        setup: Setup,
        shape: impl Fn(&Hands, Conn<TcpStream>) -> Conn<TcpStream> + Send + 'static,
    ) -> Self {
        let (listener, clock) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), hands());
        let addr = listener.local_addr().unwrap();
        let hands = clock.clone();
        let incoming = plain_incoming(listener, clock.clone()).map(move |conn| shape(&hands, conn));
        Self::on(setup, addr, clock, incoming)
    }

    fn on(
        setup: Setup,
        addr: SocketAddr,
        clock: Arc<Hands>,
        incoming: impl Stream<Item = Conn<TcpStream>> + Send + 'static,
    ) -> Self {
        let store = Arc::new(TestStore::new());
        let index = Arc::new(MemoryIndex::new());
        let deps = Deps {
            store: store.clone(),
            index: index.clone(),
            rules: Arc::new(BuiltinRules::default()),
            clock: clock.clone(),
        };
        let engine = Engine::new(deps, setup.engine);
        let registry = Registry::new();
        let (ready, readiness) = watch::channel(true);
        let authorization = setup.authorized.then(|| Authorization::new(&registry).unwrap());
        let deps = AppDeps {
            engine: engine.clone(),
            identity: setup.identity,
            authorization: authorization.clone(),
            ready: readiness,
            clock: clock.clone(),
            registry: &registry,
        };
        let app = App::new(deps, setup.app).unwrap();
        let (drain, kill) = (CancellationToken::new(), CancellationToken::new());
        let served = tokio::spawn(serve(incoming, app.clone(), setup.serve, drain.clone(), kill.clone()));
        Self { app, addr, engine, store, index, clock, registry, ready, drain, kill, served, authorization }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.addr);
        soon(Channel::from_shared(uri).unwrap().connect()).await.unwrap()
    }

    pub(crate) async fn store_client(&self) -> StoreServiceClient<Channel> {
        StoreServiceClient::new(self.channel().await).max_encoding_message_size(64 << 20)
    }

    /// The value of a sample on the metrics page, found by parts of its line.
    pub(crate) fn sample(&self, parts: &[&str]) -> Option<f64> {
        let page = self.page();
        let line =
            page.lines().find(|line| !line.starts_with('#') && parts.iter().all(|p| line.contains(p)))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    pub(crate) fn page(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

fn hands() -> Arc<Hands> {
    Arc::new(Hands(AtomicI64::new(1_767_225_600_000)))
}

/// A valid record with this name, as JSON.
pub(crate) fn json(name: &str) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "version": "v1.0.0",
        "schema_version": "0.8.0",
        "description": "An agent for tests.",
        "authors": ["A <a@example.org>"],
        "created_at": "2026-01-01T00:00:00Z",
        "annotations": {"team": "blue"},
        "skills": [{"id": 10201, "name": "natural_language_processing/text_completion"}],
        "domains": [{"id": 101, "name": "technology"}],
        "locators": [{"type": "docker_image", "url": "https://example.org/image"}],
        "modules": [],
    })
}

/// A record message with this object as its data.
pub(crate) fn message(value: &serde_json::Value) -> core::Record {
    let doc = dir_core::json::Doc::parse(value.to_string().as_bytes()).unwrap();
    core::Record { data: Some(dir_proto::wire::struct_from_doc(&doc).unwrap()) }
}

pub(crate) fn record(name: &str) -> core::Record {
    message(&json(name))
}

/// The CID of a record with this object as its data.
pub(crate) fn cid(value: &serde_json::Value) -> String {
    let doc = dir_core::json::Doc::parse(value.to_string().as_bytes()).unwrap();
    Record::from_doc(&doc).unwrap().cid().to_string()
}

pub(crate) fn reference(cid: &str) -> core::RecordRef {
    core::RecordRef { cid: cid.to_owned() }
}

/// Pushes records and answers their CIDs.
pub(crate) async fn push(node: &Node, records: Vec<core::Record>) -> Vec<String> {
    let mut client = node.store_client().await;
    let answers = soon(client.push(futures::stream::iter(records))).await.unwrap().into_inner();
    soon(answers.map(|answer| answer.unwrap().cid).collect::<Vec<_>>()).await
}

/// A future that resolves when the token fires, as [`Conn::revoked`] wants it.
pub(crate) fn when(token: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { token.cancelled().await })
}
