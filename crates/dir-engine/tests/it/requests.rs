//! What a rebuild and a comparison ask of a registry, and that what is deleted meanwhile stays out.

use crate::world::{cid, doc};
use dir_core::index::RecordIndex;
use dir_core::{Cid, Timestamp};
use dir_engine::{Deps, Engine, EngineConfig, MemoryJournal, ReconcileOptions};
use dir_index::MemoryIndex;
use dir_oasf::BuiltinRules;
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const RECORDS: usize = 30;

struct Noon;

impl dir_core::Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000)
    }
}

/// An engine with an empty index over the registry.
fn engine(registry: &FakeRegistry, layout: Layout) -> (Engine, Arc<MemoryIndex>) {
    let config = OciConfig { address: registry.address(), layout, parallel: 4, ..OciConfig::default() };
    let store = Arc::new(OciStore::new(&config).unwrap());
    let index = Arc::new(MemoryIndex::new());
    let rules = Arc::new(BuiltinRules::default());
    let deps = Deps { store: store.clone(), index: index.clone(), rules, clock: Arc::new(Noon) };
    let config = EngineConfig { exclusive_store: false, ..EngineConfig::default() };
    (Engine::new(deps, config).with_maintenance(store), index)
}

async fn filled(layout: Layout) -> FakeRegistry {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let (engine, _) = engine(&registry, layout);
    rebuild(&engine).await;
    for n in 0..RECORDS {
        engine.ingest(Some(doc(&format!("r{n}"))), 1000).await.unwrap();
    }
    registry
}

async fn rebuild(engine: &Engine) {
    engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn a_record_costs_a_rebuild_its_manifest_and_its_content() {
    for layout in [Layout::Single, Layout::Sharded] {
        let registry = filled(layout).await;
        let (engine, index) = engine(&registry, Layout::Auto);
        registry.reset_counts();
        rebuild(&engine).await;
        assert_eq!(index.len(), RECORDS as u64);
        let counts = registry.counts();
        assert_eq!(counts[&Kind::BlobGet], RECORDS, "{counts:?}");
        assert_eq!(counts[&Kind::ManifestGet], RECORDS + 1, "and the stamp: {counts:?}");
    }
}

#[tokio::test]
async fn a_record_costs_a_comparison_its_manifest_and_its_content() {
    let registry = filled(Layout::Sharded).await;
    let (engine, index) = engine(&registry, Layout::Auto);
    rebuild(&engine).await;
    for n in 0..RECORDS {
        let change =
            dir_core::index::Change::Delete { cid: cid(&format!("r{n}")), at: Timestamp(0), event: None };
        index.apply(vec![change]).await.unwrap();
    }
    registry.reset_counts();
    let drift = engine.reconcile(ReconcileOptions::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!((drift.added, index.len()), (RECORDS as u64, RECORDS as u64));
    let counts = registry.counts();
    assert_eq!(counts[&Kind::BlobGet], RECORDS, "{counts:?}");
    assert!(counts[&Kind::ManifestGet] <= RECORDS + 2, "and the stamp, before and after: {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_deleted_between_its_manifest_and_its_content_stays_out() {
    let registry = filled(Layout::Single).await;
    let (engine, index) = engine(&registry, Layout::Auto);
    registry.reset_counts();
    // The walk has read all manifests but the last, which holds up the others.
    registry.fail_after(Kind::ManifestGet, RECORDS, Fault::Slow(Duration::from_secs(4)));
    let behind = engine.clone();
    let job = tokio::spawn(async move { rebuild(&behind).await });
    while registry.counts().get(&Kind::ManifestGet).copied().unwrap_or_default() <= RECORDS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut names: Vec<Cid> = (0..RECORDS).map(|n| cid(&format!("r{n}"))).collect();
    names.sort_unstable_by_key(ToString::to_string);
    let (gone, again) = (names[0], names[1]);
    engine.delete(&gone).await.unwrap();
    engine.delete(&again).await.unwrap();
    let back = (0..RECORDS).map(|n| format!("r{n}")).find(|name| cid(name) == again).unwrap();
    engine.ingest(Some(doc(&back)), 1000).await.unwrap();
    assert!(registry.has_blob("dir", &gone), "contents outlive a deletion");
    job.await.unwrap();
    assert!(!index.contains(&gone));
    assert!(index.contains(&again));
    assert_eq!(index.len(), RECORDS as u64 - 1);
}
