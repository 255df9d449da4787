//! What stands in front of an adapter: time limits, retries, metrics, the content cache.

use crate::backend::{Corrupt, OciBackend};
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::store::{Known, Presence, RecordStore, StoreError};
use dir_core::{Cid, Class, Classified, Record};
use dir_store::{
    CacheConfig, CacheStore, Layout, Limits, MemoryStore, OciConfig, RetryConfig, StackConfig, StoreMetrics,
    TimeoutConfig, decorate,
};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use dir_testkit::store_conformance::{Backend, Plant, at, run, sample, sample_of_size};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

struct Decorated {
    backend: OciBackend<Arc<FakeRegistry>>,
    store: Arc<dyn RecordStore>,
    config: StackConfig,
    registry: prometheus::Registry,
    dir: tempfile::TempDir,
}

impl Decorated {
    async fn new(cache: bool) -> Self {
        let registry = Arc::new(FakeRegistry::start(Switches::zot()).await.unwrap());
        let shared = Arc::clone(&registry);
        let corrupt: Corrupt =
            Arc::new(move |repo, blob| shared.corrupt_blob(repo, blob, Bytes::from_static(b"damaged")));
        let config =
            OciConfig { address: registry.address(), layout: Layout::Single, ..OciConfig::default() };
        let backend = OciBackend::new(config, registry, corrupt);
        let dir = tempfile::tempdir().unwrap();
        let config = StackConfig {
            timeout: TimeoutConfig { call: Duration::from_secs(20), ..TimeoutConfig::default() },
            retry: RetryConfig { first_wait: Duration::from_millis(1), ..RetryConfig::default() },
            cache: cache.then(|| CacheConfig {
                memory_bytes: 64 << 10,
                dir: Some(dir.path().to_owned()),
                dir_bytes: 1 << 20,
            }),
        };
        let prometheus = prometheus::Registry::new();
        let metrics = StoreMetrics::register(&prometheus).unwrap();
        let store = decorate(backend.store.clone(), &config, &metrics).unwrap();
        Self { backend, store, config, registry: prometheus, dir }
    }

    async fn put(&self, n: usize) -> Record {
        let (record, facts) = sample(n);
        self.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        record
    }

    /// The same with nothing in memory.
    fn restart(&mut self) {
        self.registry = prometheus::Registry::new();
        let metrics = StoreMetrics::register(&self.registry).unwrap();
        self.store = decorate(self.backend.store.clone(), &self.config, &metrics).unwrap();
    }

    fn requests(&self) -> usize {
        self.backend.registry.counts().values().sum()
    }

    fn text(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

fn cached_file(dir: &Path, cid: &Cid) -> PathBuf {
    let hex = cid.oci_digest()["sha256:".len()..].to_owned();
    dir.join(&hex[..2]).join(&hex[2..])
}

#[async_trait]
impl Backend for Decorated {
    fn store(&self) -> Arc<dyn RecordStore> {
        Arc::clone(&self.store)
    }

    async fn reopen(&mut self) -> bool {
        self.backend.reopen().await;
        self.restart();
        true
    }

    async fn corrupt(&mut self, of: &Cid, blob: &Cid) -> bool {
        // Both in the registry and in the cache: neither may let it out.
        let path = cached_file(self.dir.path(), blob);
        if path.exists() {
            std::fs::write(path, b"damaged").unwrap();
        }
        self.backend.corrupt(of, blob).await && self.reopen().await
    }

    async fn has_blob(&self, of: &Cid, blob: &Cid) -> Option<bool> {
        self.backend.has_blob(of, blob).await
    }

    async fn plant(&mut self, of: &Cid, plant: Plant) -> bool {
        self.backend.plant(of, plant).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_behind_every_decorator() {
    assert_eq!(run(async || Decorated::new(true).await).await.skipped, Vec::<&str>::new());
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_no_more_often_than_allowed() {
    let world = Decorated::new(false).await;
    let record = world.put(1).await;
    let registry = &world.backend.registry;
    registry.fail_next(Kind::BlobGet, 2, Fault::Status(503));
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
    registry.fail_next(Kind::BlobGet, 3, Fault::Status(503));
    registry.reset_counts();
    let failed = world.store.get(&record.cid(), Known::Live).await.unwrap_err();
    assert_eq!(failed.class(), Class::Unavailable);
    assert_eq!(world.requests(), 3);
    registry.fail_next(Kind::BlobGet, 1, Fault::Status(403));
    registry.reset_counts();
    world.store.get(&record.cid(), Known::Live).await.unwrap_err();
    assert_eq!(world.requests(), 1, "a refusal is final");
    let text = world.text();
    assert!(text.contains(r#"directory_store_retries_total{operation="get"} 4"#), "{text}");
    assert!(
        text.contains(r#"directory_store_operations_total{operation="get",outcome="unavailable"} 2"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_push_that_was_done_but_not_answered_is_one_record() {
    let world = Decorated::new(false).await;
    world.put(1).await;
    world.backend.registry.fail_next(Kind::ManifestPut, 1, Fault::DoneBut(502));
    let record = world.put(2).await;
    assert_eq!(world.store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
    assert_eq!(world.backend.registry.manifests("dir"), 3, "two records and the stamp");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let mut world = Decorated::new(false).await;
    let record = world.put(1).await;
    world.config.timeout.call = Duration::from_millis(500);
    world.config.retry.attempts = 1000;
    world.restart();
    let registry = &world.backend.registry;
    // Whether one attempt hangs or many fail slowly: there is one limit for all of them.
    let slow = std::iter::repeat_n(Fault::DoneBut(503), 1000);
    for (n, faults) in [(1, vec![Fault::Hang]), (2, slow.collect())] {
        for fault in faults {
            registry.fail_next(Kind::BlobGet, 1, fault);
        }
        registry.reset_counts();
        let begun = std::time::Instant::now();
        let late = world.store.get(&record.cid(), Known::Live).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(late.class(), Class::Timeout);
        assert_eq!(late.to_string(), "store operation get: no answer within 500ms");
        assert!(world.requests() >= n);
        registry.heal();
    }
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
}

#[tokio::test]
async fn every_sample_has_a_label() {
    let world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.store.get(&record.cid(), Known::Live).await.unwrap();
    world.store.get(&Cid::of(b"x"), Known::Unknown).await.unwrap_err();
    let text = world.text();
    let samples: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(samples.len() > 50, "{text}");
    for sample in samples {
        assert!(sample.contains('{'), "{sample}");
    }
    assert!(text.contains(r#"directory_store_operations_total{operation="put",outcome="ok"} 1"#), "{text}");
    assert!(text.contains(r#"directory_store_cache_lookups_total{level="memory",result="hit"} 1"#), "{text}");
}

#[tokio::test]
async fn a_cached_record_costs_no_request_on_either_level() {
    let mut world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.restart();
    world.store.get(&record.cid(), Known::Live).await.unwrap();
    world.backend.registry.reset_counts();
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
    world.restart();
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
    assert_eq!(world.requests(), 0);
    let text = world.text();
    assert!(text.contains(r#"directory_store_cache_lookups_total{level="disk",result="hit"} 1"#), "{text}");
}

#[tokio::test]
async fn a_damaged_file_of_the_cache_is_removed_and_read_anew() {
    let mut world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.restart();
    world.store.get(&record.cid(), Known::Live).await.unwrap();
    let file = cached_file(world.dir.path(), &record.cid());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    world.restart();
    world.backend.registry.reset_counts();
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
    assert_eq!(world.requests(), 1);
    assert_eq!(std::fs::read(&file).unwrap(), record.bytes().to_vec());
    let text = world.text();
    assert!(text.contains(r#"directory_store_corrupt_total{source="cache"} 1"#), "{text}");
}

#[tokio::test]
async fn deleting_takes_the_entries_of_both_levels() {
    let mut world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.restart();
    world.store.get(&record.cid(), Known::Live).await.unwrap();
    let file = cached_file(world.dir.path(), &record.cid());
    assert!(file.exists());
    world.store.delete(&record.cid()).await.unwrap();
    assert!(!file.exists());
    let got = world.store.get(&record.cid(), Known::Unknown).await;
    assert!(matches!(got, Err(StoreError::NotFound(_))), "{got:?}");
}

#[tokio::test]
async fn a_record_that_was_deleted_elsewhere_is_not_served_on_the_word_of_the_cache() {
    let world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.backend.store.delete(&record.cid()).await.unwrap();
    let got = world.store.get(&record.cid(), Known::Unknown).await;
    assert!(matches!(got, Err(StoreError::NotFound(_))), "{got:?}");
}

#[tokio::test]
async fn corrupt_content_is_counted_and_not_cached() {
    let mut world = Decorated::new(true).await;
    let record = world.put(1).await;
    world.restart();
    world.backend.registry.fail_next(Kind::BlobGet, 1, Fault::Corrupt);
    let got = world.store.get(&record.cid(), Known::Live).await;
    assert!(matches!(got, Err(StoreError::Corrupt(_))), "{got:?}");
    assert!(world.text().contains(r#"directory_store_corrupt_total{source="backend"} 1"#));
    assert_eq!(world.store.get(&record.cid(), Known::Live).await.unwrap(), record);
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let metrics = StoreMetrics::register(&registry).unwrap();
    let memory = Arc::new(MemoryStore::new(Limits::default()));
    let config =
        CacheConfig { memory_bytes: 256 << 10, dir: Some(dir.path().to_owned()), dir_bytes: 100 << 10 };
    let cids = {
        let mut cids = Vec::new();
        for n in 0..200 {
            let (record, facts) = sample_of_size(n, 2 << 10);
            memory.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
            cids.push(record.cid());
        }
        cids
    };
    let cache = CacheStore::new(memory, &config, metrics).unwrap();
    for cid in &cids {
        cache.get(cid, Known::Live).await.unwrap();
    }
    let families = registry.gather();
    let bytes = families.iter().find(|f| f.name() == "directory_store_cache_bytes").unwrap();
    for sample in bytes.get_metric() {
        let limit = if sample.get_label()[0].value() == "memory" { 256 << 10 } else { 100 << 10 };
        let value = sample.get_gauge().get_value();
        assert!(value > f64::from(limit) / 2.0 && value <= f64::from(limit), "{value} of {limit}");
    }
    let files = walkdir(dir.path());
    assert!(files <= 100 << 10, "{files}");
}

/// Bytes in the files below a directory.
fn walkdir(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries.map(|e| if e.path().is_dir() { walkdir(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}
