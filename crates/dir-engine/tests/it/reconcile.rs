//! Index and store compared, over a registry that fails as registries do.

use crate::world::{cid, doc};
use dir_core::index::RecordIndex;
use dir_core::maintenance::{Depth, Spread, StoreMaintenance, Trouble};
use dir_core::store::{Known, Presence, RecordStore, Referrer};
use dir_core::{Cid, Class, Classified, Event, EventKind, Record, RecordFacts, Timestamp};
use dir_engine::{
    AuditOptions, Deps, Drift, Engine, EngineConfig, EngineError, JobNews, Listening, MemoryJournal,
    ReconcileOptions,
};
use dir_index::MemoryIndex;
use dir_oasf::BuiltinRules;
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Hands(AtomicI64);

impl dir_core::Clock for Hands {
    fn now(&self) -> Timestamp {
        // Every look is a millisecond later, so that what came before is older.
        Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

struct Node {
    registry: FakeRegistry,
    store: Arc<OciStore>,
    index: Arc<MemoryIndex>,
    engine: Engine,
}

/// A node with so many records in one repository, and everything in order.
async fn node(records: usize) -> Node {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let config = OciConfig {
        address: registry.address(),
        layout: Layout::Single,
        parallel: 4,
        ..OciConfig::default()
    };
    let store = Arc::new(OciStore::new(&config).unwrap());
    let index = Arc::new(MemoryIndex::new());
    let deps = Deps {
        store: store.clone(),
        index: index.clone(),
        rules: Arc::new(BuiltinRules::default()),
        clock: Arc::new(Hands(AtomicI64::new(1_767_225_600_000))),
    };
    let config = EngineConfig { exclusive_store: false, ..EngineConfig::default() };
    let engine = Engine::new(deps, config).with_maintenance(store.clone());
    engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    for n in 0..records {
        engine.ingest(Some(doc(&format!("r{n}"))), 1000).await.unwrap();
    }
    Node { registry, store, index, engine }
}

impl Node {
    async fn compare(&self) -> Result<Drift, EngineError> {
        self.engine.reconcile(ReconcileOptions::default(), &CancellationToken::new()).await
    }

    /// A record that another process pushes.
    async fn foreign(&self, name: &str) -> Cid {
        let record = Record::from_doc(&doc(name)).unwrap();
        let at = Timestamp::from_secs(1_700_000_000);
        let facts = RecordFacts { schema_version: "0.8.0".into(), ..RecordFacts::default() };
        self.store.put(&record, &facts, at, Presence::Unknown).await.unwrap();
        record.cid()
    }

    async fn events(&self) -> Vec<Event> {
        self.index.events(0, 10_000).await.unwrap()
    }

    fn drop_tags(&self, names: std::ops::Range<usize>) {
        for n in names {
            assert!(self.registry.drop_tag("dir", &cid(&format!("r{n}")).to_string()));
        }
    }
}

#[tokio::test]
async fn damaged_manifests_keep_nobody_else_out_of_a_new_index() {
    let node = node(30).await;
    for (n, status) in [(3, 500), (20, 500), (7, 404)] {
        assert!(node.registry.damage_manifest("dir", &cid(&format!("r{n}")).to_string(), status));
    }
    let index = Arc::new(MemoryIndex::new());
    let deps = Deps {
        store: node.store.clone(),
        index: index.clone(),
        rules: Arc::new(BuiltinRules::default()),
        clock: Arc::new(Hands(AtomicI64::new(1_767_225_700_000))),
    };
    let engine = Engine::new(deps, EngineConfig::default()).with_maintenance(node.store.clone());
    engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    let status = engine.rebuild_status();
    assert_eq!((status.walked, status.added, status.skipped), (30, 27, 3));
    // They end no comparison either, and take no row away.
    let fresh = Node { index, engine, ..node };
    let drift = fresh.compare().await.unwrap();
    assert_eq!((drift.skipped, drift.missing_in_store, drift.added), (2, 0, 0), "{drift:?}");
    assert_eq!(fresh.index.len(), 27);
    // What is whole again comes in with the next rebuild.
    fresh.registry.mend_manifests("dir");
    fresh.engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(fresh.index.len(), 30);
}

#[tokio::test]
async fn what_others_pushed_and_deleted_is_found_told_and_set_right() {
    let node = node(30).await;
    assert_eq!(node.compare().await.unwrap(), Drift { rows: 30, names: 30, ..Drift::default() });
    let new = node.foreign("from elsewhere").await;
    node.store.delete(&cid("r3")).await.unwrap();
    // Without repair it only counts.
    let options = ReconcileOptions { repair: false, ..ReconcileOptions::default() };
    let seen = node.engine.reconcile(options, &CancellationToken::new()).await.unwrap();
    assert_eq!((seen.missing_in_index, seen.missing_in_store, seen.added, seen.removed), (1, 1, 0, 0));
    assert!(node.index.contains(&cid("r3")) && !node.index.contains(&new));

    let drift = node.compare().await.unwrap();
    assert_eq!((drift.missing_in_index, drift.added, drift.samples_missing_in_index), (1, 1, vec![new]));
    assert_eq!(
        (drift.missing_in_store, drift.removed, drift.samples_missing_in_store),
        (1, 1, vec![cid("r3")])
    );
    let row = node.index.row(&new).await.unwrap().unwrap();
    assert_eq!(row.indexed_at, Timestamp::from_secs(1_700_000_000), "as the store has it");
    assert!(!node.index.contains(&cid("r3")));
    // Whoever watches hears of both.
    let events = node.events().await;
    let last: Vec<_> = events[events.len() - 2..].iter().map(|e| (e.kind, e.cid)).collect();
    assert_eq!(last, [(EventKind::RecordDeleted, cid("r3")), (EventKind::RecordPushed, new)]);
    let after = node.compare().await.unwrap();
    assert_eq!((after.rows, after.missing_in_index, after.missing_in_store), (30, 0, 0));
    let status = node.engine.reconcile_status();
    assert_eq!((status.last, status.problem), (Some(after), String::new()));
}

#[tokio::test]
async fn a_comparison_in_order_reads_no_record_and_remembers_referrers() {
    let node = node(20).await;
    // As the public implementation tags them.
    let bytes = bytes::Bytes::from_static(b"{\"type\":\"agntcy.dir.sign.v1.PublicKey\"}");
    let referrer = Referrer {
        cid: Cid::of(&bytes),
        bytes: bytes.clone(),
        api_type: "agntcy.dir.sign.v1.PublicKey".into(),
        created_at: String::new(),
        annotations: std::collections::BTreeMap::new(),
    };
    let subject = node.store.resolve(&cid("r1")).await.unwrap().unwrap();
    let subject = dir_core::oci::Subject { digest: subject.manifest_digest, size: 1 };
    let manifest = dir_core::oci::referrer_manifest(&referrer, &subject, Timestamp::from_secs(1));
    node.registry.plant("dir", manifest, &[bytes], Some(&referrer.cid.to_string()));
    for _ in 0..2 {
        let drift = node.compare().await.unwrap();
        assert_eq!((drift.names, drift.missing_in_index, drift.skipped), (21, 0, 0));
    }
    node.registry.reset_counts();
    node.compare().await.unwrap();
    let counts = node.registry.counts();
    assert_eq!(counts.get(&Kind::Tags), Some(&1));
    assert_eq!(counts.get(&Kind::BlobGet), None);
    // The stamp, before and after.
    assert_eq!(counts.get(&Kind::ManifestGet), Some(&2));
}

/// Nothing was changed, and the comparison says why it was none.
async fn unharmed(node: &Node, what: &str) -> EngineError {
    let (rows, events) = (node.index.len(), node.events().await.len());
    let error = node.compare().await.expect_err(what);
    assert_eq!((node.index.len(), node.events().await.len()), (rows, events), "{what}");
    assert!(!node.engine.reconcile_status().problem.is_empty(), "{what}");
    error
}

#[tokio::test]
async fn an_outage_never_looks_like_deletion() {
    let node = node(200).await;
    node.registry.set(|s| s.page_size = Some(50));
    for status in [500, 502, 503, 429, 401, 403] {
        node.registry.fail_next(Kind::Tags, 1, Fault::Status(status));
        unharmed(&node, "the listing is refused").await;
    }
    for page in 0..4 {
        node.registry.fail_after(Kind::Tags, page, Fault::Status(500));
        unharmed(&node, "a page is refused").await;
        node.registry.heal();
        node.registry.fail_after(Kind::Tags, page, Fault::Cut);
        unharmed(&node, "a page is cut off").await;
        node.registry.heal();
        node.registry.fail_after(Kind::Tags, page, Fault::Corrupt);
        unharmed(&node, "a page is damaged").await;
        node.registry.heal();
    }
    // Each record that was not listed is there when it is asked for.
    node.registry.fail_next(Kind::Tags, 1, Fault::Short(20));
    let error = unharmed(&node, "a listing that ends early and says nothing").await;
    assert!(error.to_string().contains("left out 64 records"), "{error}");
    node.registry.fail_next(Kind::Tags, 1, Fault::Short(0));
    unharmed(&node, "an empty listing").await;
    // A few unlisted records are no reason to give up, and none to remove them.
    node.registry.set(|s| s.page_size = None);
    node.registry.fail_next(Kind::Tags, 1, Fault::Short(180));
    let drift = node.compare().await.unwrap();
    assert_eq!((drift.missing_in_store, drift.removed), (0, 0));
    // The listing is short, and then the registry goes away under the questions.
    node.registry.fail_next(Kind::Tags, 1, Fault::Short(180));
    node.registry.fail_after(Kind::ManifestGet, 5, Fault::Status(503));
    unharmed(&node, "questions are refused").await;
    node.registry.heal();
    assert_eq!(node.compare().await.unwrap().removed, 0);
    node.registry.stop().await;
    // Connections that are kept end one by one.
    for _ in 0..8 {
        unharmed(&node, "the registry stops").await;
    }
    let error = unharmed(&node, "connection refused").await;
    assert_eq!(error.class(), Class::Unavailable);
}

#[tokio::test]
async fn an_empty_registry_in_the_place_of_ours_is_not_believed() {
    let node = node(40).await;
    node.registry.wipe();
    let error = unharmed(&node, "an empty volume").await;
    assert!(error.to_string().contains("lost its mark"), "{error}");
    assert_eq!(error.class(), Class::FailedPrecondition);
}

#[tokio::test]
async fn more_removals_than_allowed_wait_for_an_operator() {
    let node = node(200).await;
    // Ten per cent of 200 rows may go.
    node.drop_tags(0..20);
    let drift = node.compare().await.unwrap();
    assert_eq!((drift.missing_in_store, drift.removed, drift.held), (20, 20, false));
    node.drop_tags(20..39);
    let drift = node.compare().await.unwrap();
    assert_eq!((drift.missing_in_store, drift.removed, drift.held), (19, 0, true), "18 of 180 rows may go");
    assert_eq!(node.index.len(), 180);
    assert!(node.engine.reconcile_status().problem.contains("too many"));
    let allowed = ReconcileOptions { max_removal_percent: 100, ..ReconcileOptions::default() };
    let drift = node.engine.reconcile(allowed, &CancellationToken::new()).await.unwrap();
    assert_eq!((drift.removed, node.index.len()), (19, 161));
}

#[tokio::test]
async fn a_few_rows_may_always_go() {
    let node = node(12).await;
    node.drop_tags(0..10);
    assert_eq!(node.compare().await.unwrap().removed, 10);
}

#[tokio::test]
async fn pushes_and_deletes_during_comparisons_are_left_alone() {
    let node = Arc::new(node(50).await);
    let (other, over) = (node.clone(), CancellationToken::new());
    let stop = over.clone();
    let comparing = tokio::spawn(async move {
        let mut runs = 0;
        while !stop.is_cancelled() || runs < 3 {
            let drift = other.compare().await.unwrap();
            assert_eq!((drift.removed, drift.added), (0, 0), "{drift:?}");
            runs += 1;
        }
    });
    for n in 0..150 {
        node.engine.ingest(Some(doc(&format!("new{n}"))), 1000).await.unwrap();
        if n % 3 == 0 {
            node.engine.delete(&cid(&format!("new{n}"))).await.unwrap();
        }
    }
    over.cancel();
    comparing.await.unwrap();
    assert_eq!(node.index.len(), 150);
}

async fn audit(node: &Node, options: AuditOptions) -> (dir_engine::AuditReport, Vec<JobNews>) {
    let (tell, mut hear) = mpsc::channel(10_000);
    let report = node.engine.audit_store(options, &Listening::new("somebody", tell)).await.unwrap();
    let mut news = Vec::new();
    while let Ok(one) = hear.try_recv() {
        news.push(one);
    }
    (report, news)
}

fn look() -> AuditOptions {
    AuditOptions {
        depth: Depth::Contents,
        repair: false,
        restore_lost_tags: false,
        reconcile: ReconcileOptions::default(),
        from: None,
    }
}

#[tokio::test]
async fn an_audit_reports_and_a_repair_sets_right() {
    let node = node(30).await;
    let (report, _) = audit(&node, look()).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.records, report.referrers), (30, 0));
    let new = node.foreign("from elsewhere").await;
    node.drop_tags(5..6);
    let gone = Record::from_doc(&doc("gone")).unwrap().cid();
    let bytes = bytes::Bytes::from_static(b"{\"type\":\"agntcy.dir.sign.v1.PublicKey\"}");
    let referrer = Referrer {
        cid: Cid::of(&bytes),
        bytes: bytes.clone(),
        api_type: "agntcy.dir.sign.v1.PublicKey".into(),
        created_at: String::new(),
        annotations: std::collections::BTreeMap::new(),
    };
    let subject = dir_core::oci::Subject { digest: gone.oci_digest(), size: 1 };
    let manifest = dir_core::oci::referrer_manifest(&referrer, &subject, Timestamp::from_secs(1));
    node.registry.plant("dir", manifest, &[bytes], Some(&referrer.cid.to_string()));

    // Looking changes nothing, once and again; it goes on from its last mark after a failure.
    for _ in 0..2 {
        node.registry.fail_after(Kind::ManifestGet, 12, Fault::Status(503));
        let (report, news) = audit(&node, look()).await;
        assert_eq!(report.records, 30);
        assert_eq!(report.found.get(&Trouble::Orphan), Some(&1));
        let drift = report.drift.clone().unwrap();
        assert_eq!((drift.missing_in_index, drift.missing_in_store), (1, 1));
        assert!(!report.is_clean());
        assert!(news.iter().any(|n| matches!(n, JobNews::Finding(f) if f.trouble == Trouble::Orphan)));
        assert!(news.iter().any(|n| matches!(n, JobNews::Progress(p) if p.done >= 30 && p.mark.is_some())));
    }
    let (report, _) = audit(&node, AuditOptions { repair: true, restore_lost_tags: true, ..look() }).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.repaired.get(&Trouble::LostTag), Some(&1));
    assert!(node.index.contains(&new) && node.index.contains(&cid("r5")));
    node.store.get(&cid("r5"), Known::Unknown).await.unwrap();
    let (report, _) = audit(&node, look()).await;
    assert!(report.is_clean() && report.found.is_empty(), "{report:?}");
}

#[tokio::test]
async fn all_that_is_missing_is_counted_and_every_comparison_is_made_known() {
    let node = node(90).await;
    node.drop_tags(0..90);
    let drift = node.compare().await.unwrap();
    assert_eq!((drift.missing_in_store, drift.and_more, drift.removed, drift.held), (90, false, 0, true));
    let status = || node.engine.reconcile_status();
    let held = "90 of 90 rows have no record in the store: too many to take out unasked";
    assert_eq!(status().problem, held);
    let compared = status().last_success;
    // A look, however much it would be allowed to take out, leaves that as it is, and is known to have been.
    let all = ReconcileOptions { max_removal_percent: 100, ..ReconcileOptions::default() };
    for reconcile in [ReconcileOptions::default(), all] {
        let (report, _) = audit(&node, AuditOptions { reconcile, ..look() }).await;
        assert_eq!(report.drift.map(|drift| drift.missing_in_store), Some(90));
        assert!(status().last_success > compared && status().problem == held, "{:?}", status());
        assert!(status().last.is_some_and(|last| last.held));
    }
    // A repair that the operator has allowed ends it.
    node.engine.compared().await;
    let (report, _) = audit(&node, AuditOptions { repair: true, reconcile: all, ..look() }).await;
    assert_eq!(report.drift.clone().map(|drift| drift.removed), Some(90));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((status().problem, status().last), (String::new(), report.drift));
    tokio::time::timeout(std::time::Duration::from_secs(5), node.engine.compared()).await.unwrap();
}

#[tokio::test]
async fn lost_tags_are_named_by_an_audit_and_by_the_plan_of_a_repair() {
    let node = node(30).await;
    node.drop_tags(0..4);
    // Of one of them the content is gone as well, of another it is not what it was.
    assert!(node.registry.drop_blob("dir", &cid("r1")));
    assert!(node.registry.corrupt_blob("dir", &cid("r2"), bytes::Bytes::from_static(b"{}")));
    let lost = |report: &dir_engine::AuditReport| report.found.get(&Trouble::LostTag).copied();
    for (restore_lost_tags, said) in [(false, "--restore-lost-tags"), (true, "would be written anew")] {
        let (report, news) = audit(&node, AuditOptions { restore_lost_tags, ..look() }).await;
        assert_eq!((lost(&report), report.is_clean()), (Some(2), false), "{report:?}");
        assert_eq!(report.drift.unwrap().missing_in_store, 4);
        let named = news.into_iter().filter_map(|news| match news {
            JobNews::Finding(found) if found.trouble == Trouble::LostTag => {
                assert!(found.detail.contains(said), "{found:?}");
                found.cid
            }
            _ => None,
        });
        let named: std::collections::BTreeSet<_> = named.collect();
        assert_eq!(named, [cid("r0"), cid("r3")].into());
    }
    assert_eq!(node.index.len(), 30, "nothing was changed");
    let (report, _) = audit(&node, AuditOptions { repair: true, restore_lost_tags: true, ..look() }).await;
    assert_eq!((lost(&report), report.drift.clone().unwrap().removed), (Some(2), 2), "{report:?}");
    assert!(report.is_clean() && node.index.len() == 28, "{report:?}");
}

#[tokio::test]
async fn a_layout_is_converted_with_progress_in_portions_and_one_job_at_a_time() {
    let node = Arc::new(node(30).await);
    let (tell, mut hear) = mpsc::channel(1);
    let (other, listening) = (node.clone(), Listening::new("somebody", tell));
    let job = tokio::spawn(async move {
        other.engine.reshard_store(Spread::Sharded, false, Some(10), &listening).await
    });
    // The first line of progress is not heard yet: the job is at work.
    let Some(JobNews::Progress(first)) = hear.recv().await else { panic!("progress first") };
    assert_eq!((first.total, first.done), (Some(30), 0));
    let busy = node.compare().await.unwrap_err();
    let now = node.engine.clock().now();
    let whose =
        format!("another job is running: store reshard, begun {now} by somebody; try again when it is done");
    assert!(busy.to_string().contains(&whose), "{busy}");
    assert_eq!(node.engine.reconcile_status().problem, "", "another job is no failed comparison");
    while hear.recv().await.is_some() {}
    let report = job.await.unwrap().unwrap();
    assert_eq!((report.moved, report.done), (10, false));
    assert!((1..=20).contains(&report.remaining), "{report:?}");
    for n in 0..30 {
        node.engine.pull(&cid(&format!("r{n}")), crate::world::message).await.unwrap();
    }
    // A listener that goes away stops it.
    let (tell, hear) = mpsc::channel(1);
    drop(hear);
    let stopped =
        node.engine.reshard_store(Spread::Sharded, false, None, &Listening::new("somebody", tell)).await;
    assert_eq!(stopped.unwrap_err().class(), Class::Cancelled);
    // A registry that stumbles does not.
    node.registry.fail_after(Kind::ManifestPut, 3, Fault::Status(500));
    let (tell, _hear) = mpsc::channel(1000);
    let report = node
        .engine
        .reshard_store(Spread::Sharded, false, None, &Listening::new("somebody", tell))
        .await
        .unwrap();
    assert!(report.done);
    assert_eq!(node.store.arrangement().await.unwrap().now, Spread::Sharded);
    let drift = node.compare().await.unwrap();
    assert_eq!((drift.rows, drift.missing_in_index, drift.missing_in_store), (30, 0, 0));
}
