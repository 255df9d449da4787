//! The store in a registry, against a registry that behaves as told.

use crate::backend::{Corrupt, OciBackend, repository};
use bytes::Bytes;
use dir_core::oci::{EMPTY_CONFIG_BYTES, KEY_KIND, record_manifest};
use dir_core::store::{Known, Presence, Put, RecordStore, StoreError};
use dir_core::{Cid, Class, Classified, Record};
use dir_store::{Credentials, Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{Access, FakeRegistry, Fault, Kind, Switches};
use dir_testkit::store_conformance::{at, run, sample, sample_referrer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn config(registry: &FakeRegistry, layout: Layout) -> OciConfig {
    OciConfig { address: registry.address(), layout, parallel: 32, ..OciConfig::default() }
}

async fn backend(switches: Switches, layout: Layout) -> OciBackend<Arc<FakeRegistry>> {
    let registry = Arc::new(FakeRegistry::start(switches).await.unwrap());
    let shared = Arc::clone(&registry);
    let corrupt: Corrupt =
        Arc::new(move |repo, blob| shared.corrupt_blob(repo, blob, Bytes::from_static(b"damaged")));
    OciBackend::new(config(&registry, layout), registry, corrupt)
}

async fn conforms(switches: Switches, layout: Layout) {
    let report = run(async || backend(switches.clone(), layout).await).await;
    assert_eq!(report.skipped, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_sharded_like_zot() {
    conforms(Switches::zot(), Layout::Sharded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_single_like_zot() {
    conforms(Switches::zot(), Layout::Single).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_single_like_distribution() {
    conforms(Switches::distribution(), Layout::Single).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_single_like_go_containerregistry() {
    conforms(Switches::go_containerregistry(), Layout::Single).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_single_with_pages_of_five() {
    conforms(Switches { page_size: Some(5), listing_annotations: false, ..Switches::zot() }, Layout::Single)
        .await;
}

fn counted(pairs: &[(Kind, usize)]) -> BTreeMap<Kind, usize> {
    pairs.iter().copied().collect()
}

#[tokio::test]
async fn a_push_in_steady_state_is_one_upload_and_one_manifest() {
    for layout in [Layout::Single, Layout::Sharded] {
        let backend = backend(Switches::zot(), layout).await;
        let store = &backend.store;
        // Another record of the same repository, so that the repository has been written to by this process.
        let (record, facts) = sample(1);
        let neighbour = (2..1_000_000).map(sample).find(|(r, _)| {
            repository(&backend.config, &r.cid()) == repository(&backend.config, &record.cid())
        });
        let (neighbour, its_facts) = neighbour.unwrap();
        store.put(&neighbour, &its_facts, at(0), Presence::Absent).await.unwrap();
        backend.registry.reset_counts();
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        let push = counted(&[(Kind::UploadPost, 1), (Kind::ManifestPut, 1)]);
        assert_eq!(backend.registry.counts(), push, "{layout:?}");

        backend.registry.reset_counts();
        store.get(&record.cid(), Known::Live).await.unwrap();
        assert_eq!(backend.registry.counts(), counted(&[(Kind::BlobGet, 1)]), "a pull is one blob");

        backend.registry.reset_counts();
        store.get(&record.cid(), Known::Unknown).await.unwrap();
        assert_eq!(backend.registry.counts(), counted(&[(Kind::ManifestGet, 1), (Kind::BlobGet, 1)]));

        backend.registry.reset_counts();
        let again = store.put(&record, &facts, at(9), Presence::Absent).await.unwrap();
        assert_eq!(again, Put::Existed);
        assert_eq!(backend.registry.counts(), counted(&[(Kind::ManifestGet, 1)]), "a repeat only looks");
    }
}

#[tokio::test]
async fn pushes_that_begin_at_once_share_the_upload_of_the_config() {
    let backend = backend(Switches::zot(), Layout::Single).await;
    backend.store.ping().await.unwrap();
    backend.registry.reset_counts();
    let samples: Vec<_> = (0..32).map(sample).collect();
    let puts =
        samples.iter().map(|(record, facts)| backend.store.put(record, facts, at(0), Presence::Absent));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap(), Put::Stored);
    }
    assert_eq!(backend.registry.counts(), counted(&[(Kind::UploadPost, 33), (Kind::ManifestPut, 32)]));
}

#[tokio::test]
async fn a_registry_that_wants_two_requests_gets_the_content_once() {
    let backend = backend(Switches::distribution(), Layout::Single).await;
    for n in 0..2 {
        let (record, facts) = sample(n);
        backend.registry.reset_counts();
        backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    }
    let push = counted(&[(Kind::UploadPost, 1), (Kind::UploadPut, 1), (Kind::ManifestPut, 1)]);
    assert_eq!(backend.registry.counts(), push);
}

#[tokio::test]
async fn blobs_that_garbage_collection_took_are_uploaded_again() {
    let backend = backend(Switches::zot(), Layout::Single).await;
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    assert!(backend.registry.drop_blob("dir", &Cid::of(EMPTY_CONFIG_BYTES)));
    backend.registry.reset_counts();
    let (next, facts) = sample(2);
    backend.store.put(&next, &facts, at(0), Presence::Absent).await.unwrap();
    let counts = backend.registry.counts();
    assert_eq!(counts, counted(&[(Kind::UploadPost, 3), (Kind::ManifestPut, 2)]));
    assert_eq!(backend.store.get(&next.cid(), Known::Unknown).await.unwrap(), next);
}

#[tokio::test]
async fn records_live_in_the_shard_of_their_digest_and_referrers_with_their_record() {
    let backend = backend(Switches::zot(), Layout::Sharded).await;
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    let referrer = sample_referrer(&record.cid(), "x");
    backend.store.put_referrer(&record.cid(), &referrer, at(1)).await.unwrap();
    let shard = repository(&backend.config, &record.cid());
    assert_eq!(backend.registry.repositories(), ["dir".to_owned(), shard.clone()]);
    assert_eq!(backend.registry.tags(&shard), [record.cid().to_string()]);
    assert_eq!(backend.registry.manifests(&shard), 2);
    assert_eq!(backend.registry.tags("dir"), ["directory.layout"]);
}

#[tokio::test]
async fn auto_follows_the_stamp_and_another_layout_is_refused() {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    OciStore::new(&config(&registry, Layout::Auto)).unwrap().ping().await.unwrap();
    OciStore::new(&config(&registry, Layout::Sharded)).unwrap().ping().await.unwrap();
    let store = OciStore::new(&config(&registry, Layout::Single)).unwrap();
    let refused = store.ping().await.unwrap_err();
    assert_eq!(refused.class(), Class::FailedPrecondition);
    let text = refused.to_string();
    let convert = "`dir-admin store reshard --to single`";
    for part in
        ["\"single\"", "\"sharded\"", "store.oci.layout to", "or \"auto\"", &registry.address(), convert]
    {
        assert!(text.contains(part), "{text}");
    }
    let (record, facts) = sample(1);
    assert!(store.put(&record, &facts, at(0), Presence::Absent).await.is_err(), "nothing is written either");
}

#[tokio::test]
async fn a_registry_that_others_filled_is_served_as_it_is() {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let (record, facts) = sample(1);
    let manifest = record_manifest(&record.cid(), record.bytes().len() as u64, &facts, at(0));
    registry.plant("dir", manifest, &[record.bytes().clone()], Some(&record.cid().to_string()));
    // Before the stamp is written, an explicit layout that would lose sight of the records is refused.
    let refused = OciStore::new(&config(&registry, Layout::Sharded)).unwrap().ping().await.unwrap_err();
    assert!(matches!(refused, StoreError::Layout(_)), "{refused}");
    for part in ["\"sharded\"", "\"single\"", "`dir-admin store reshard --to sharded`"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let store = OciStore::new(&config(&registry, Layout::Auto)).unwrap();
    assert_eq!(store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
    assert!(registry.tags("dir").contains(&"directory.layout".to_owned()));
    OciStore::new(&config(&registry, Layout::Single)).unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn credentials() {
    let with = |registry: &FakeRegistry, credentials: Credentials| {
        OciStore::new(&OciConfig { credentials, ..config(registry, Layout::Sharded) }).unwrap()
    };
    let basic =
        |password: &str| Credentials::Basic { username: "ann".into(), password: password.to_owned().into() };
    let user = || ("ann".to_owned(), "hunter2".to_owned());
    let cases = [
        (Access::Basic(user().0, user().1), vec![basic("hunter2")]),
        (Access::BasicToWrite(user().0, user().1), vec![basic("hunter2")]),
        (
            Access::Token(user().0, user().1),
            vec![basic("hunter2"), Credentials::RefreshToken("hunter2".to_owned().into())],
        ),
        (
            Access::Token(user().0, user().1),
            vec![Credentials::AccessToken("fake-registry-token".to_owned().into())],
        ),
    ];
    let (record, facts) = sample(1);
    for (access, accepted) in cases {
        for credentials in accepted {
            let registry =
                FakeRegistry::start(Switches { access: access.clone(), ..Switches::zot() }).await.unwrap();
            let store = with(&registry, credentials);
            store.ping().await.unwrap();
            store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
            assert_eq!(store.get(&record.cid(), Known::Live).await.unwrap(), record);
            assert!(store.delete(&record.cid()).await.unwrap());
        }
        let registry =
            FakeRegistry::start(Switches { access: access.clone(), ..Switches::zot() }).await.unwrap();
        for wrong in
            [Credentials::Anonymous, basic("s3cret"), Credentials::AccessToken("s3cret".to_owned().into())]
        {
            let store = with(&registry, wrong);
            let refused = store.put(&record, &facts, at(0), Presence::Absent).await.unwrap_err();
            assert_eq!(refused.class(), Class::Unavailable, "{refused}");
            let shown = format!("{refused} {refused:?} {store:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains(&registry.address()), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_a_repository() {
    let access = Access::Token("ann".into(), "hunter2".into());
    let registry = FakeRegistry::start(Switches { access, ..Switches::zot() }).await.unwrap();
    let credentials = Credentials::Basic { username: "ann".into(), password: "hunter2".to_owned().into() };
    let store = OciStore::new(&OciConfig { credentials, ..config(&registry, Layout::Single) }).unwrap();
    let (record, facts) = sample(1);
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    registry.reset_counts();
    let (next, facts) = sample(2);
    store.put(&next, &facts, at(0), Presence::Absent).await.unwrap();
    assert_eq!(registry.counts(), counted(&[(Kind::UploadPost, 1), (Kind::ManifestPut, 1)]));
}

#[tokio::test]
async fn a_registry_without_deletes_says_so_and_loses_nothing() {
    let backend = backend(Switches { delete: false, ..Switches::zot() }, Layout::Single).await;
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    let refused = backend.store.delete(&record.cid()).await.unwrap_err();
    assert_eq!(refused.class(), Class::Unimplemented);
    assert!(refused.to_string().starts_with("registry does not support OCI delete API"), "{refused}");
    assert_eq!(backend.store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
}

#[tokio::test]
async fn content_that_changed_on_the_way_does_not_leave() {
    let backend = backend(Switches::zot(), Layout::Single).await;
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    backend.registry.fail_next(Kind::BlobGet, 1, Fault::Corrupt);
    let got = backend.store.get(&record.cid(), Known::Live).await;
    assert!(matches!(&got, Err(StoreError::Corrupt(m)) if m.expected == record.cid()), "{got:?}");
    assert_eq!(backend.store.get(&record.cid(), Known::Live).await.unwrap(), record);
}

#[tokio::test]
async fn failures_name_registry_repository_and_operation_and_are_never_absence() {
    let backend = backend(Switches::zot(), Layout::Single).await;
    backend.store.ping().await.unwrap();
    let (record, facts) = sample(1);
    for status in [500, 503, 403, 401] {
        backend.registry.fail_next(Kind::ManifestGet, 4, Fault::Status(status));
        let failed = backend.store.resolve(&record.cid()).await.unwrap_err();
        assert_eq!(failed.class(), Class::Unavailable);
        let expected =
            format!("read a manifest at registry {}, repository dir: HTTP {status}", backend.config.address);
        assert!(failed.to_string().starts_with(&expected), "{failed}");
        let put = backend.store.put(&record, &facts, at(0), Presence::Unknown).await;
        assert!(put.is_err(), "a failed look is no absence");
        backend.registry.heal();
    }
    assert_eq!(backend.registry.tags("dir"), ["directory.layout"]);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let config = OciConfig { read_timeout: Duration::from_millis(50), ..config(&registry, Layout::Single) };
    let store = OciStore::new(&config).unwrap();
    store.ping().await.unwrap();
    registry.fail_next(Kind::BlobGet, 1, Fault::Hang);
    let failed = store.get(&Cid::of(b"x"), Known::Live).await.unwrap_err();
    assert_eq!(failed.class(), Class::Timeout, "{failed}");
    drop(registry);
    let gone = store.get(&Cid::of(b"x"), Known::Live).await.unwrap_err();
    assert!(
        gone.class() == Class::Unavailable && gone.to_string().contains("read a blob at registry"),
        "{gone}"
    );
}

#[tokio::test]
async fn an_answer_above_the_limit_is_not_read() {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let (record, facts) = sample(1);
    let mut config = config(&registry, Layout::Single);
    config.limits.max_blob_bytes = record.bytes().len() as u64;
    let store = OciStore::new(&config).unwrap();
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    assert_eq!(store.get(&record.cid(), Known::Live).await.unwrap(), record);
    let longer = Bytes::from(vec![b'x'; record.bytes().len() + 1]);
    registry.corrupt_blob("dir", &record.cid(), longer);
    let got = store.get(&record.cid(), Known::Live).await;
    assert!(matches!(got, Err(StoreError::TooLarge { .. })), "{got:?}");
}

#[tokio::test]
async fn the_list_of_referrers_is_kept_when_others_write_it_too() {
    let backend = backend(Switches::distribution(), Layout::Single).await;
    let other = OciStore::new(&backend.config).unwrap();
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    let referrers: Vec<_> = (0..6).map(|n| sample_referrer(&record.cid(), &n.to_string())).collect();
    let cid = record.cid();
    let puts = referrers.iter().zip(0..).map(|(referrer, n)| {
        let store = if n % 2 == 0 { &*backend.store } else { &other };
        store.put_referrer(&cid, referrer, at(n))
    });
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap(), Put::Stored);
    }
    let listed = other.referrers(&record.cid()).await.unwrap();
    assert_eq!(listed.len(), referrers.len());
}

#[tokio::test]
async fn artifacts_of_others_on_a_record_are_no_referrers_of_ours() {
    let mut backend = backend(Switches::zot(), Layout::Single).await;
    let (record, facts) = sample(1);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    let subject = backend.store.resolve(&record.cid()).await.unwrap().unwrap().manifest_digest;
    // A software bill of materials that some scanner attached; and a referrer whose type only its blob names.
    let untyped = br#"{"record_ref":{"cid":"x"},"type":"agntcy.dir.security.v1.ScanReport"}"#.as_slice();
    for (n, blob) in [b"<sbom/>".as_slice(), untyped].into_iter().enumerate() {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Cid::of(b"{}").oci_digest(), "size": 2 },
            "layers": [{ "mediaType": "text/xml", "digest": Cid::of(blob).oci_digest(), "size": blob.len() }],
            "subject": { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": n },
        });
        let plant = dir_testkit::store_conformance::Plant {
            manifest: manifest.to_string().into(),
            blobs: vec![Bytes::copy_from_slice(blob)],
            tag: None,
        };
        dir_testkit::store_conformance::Backend::plant(&mut backend, &record.cid(), plant).await;
    }
    let listed = backend.store.referrers(&record.cid()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].api_type, "agntcy.dir.security.v1.ScanReport");
    assert_eq!(listed[0].cid, Cid::of(untyped));
}

#[tokio::test]
async fn a_planted_name_never_deletes_a_record() {
    let mut backend = backend(Switches::go_containerregistry(), Layout::Single).await;
    let (record, facts) = sample(1);
    let (victim, its_facts) = sample(2);
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    backend.store.put(&victim, &its_facts, at(0), Presence::Absent).await.unwrap();
    let mut referrer = sample_referrer(&record.cid(), "x");
    referrer.cid = victim.cid();
    let stored = backend.store.resolve(&record.cid()).await.unwrap().unwrap();
    let subject = dir_core::oci::Subject { digest: stored.manifest_digest, size: 1 };
    let manifest = dir_core::oci::referrer_manifest(&referrer, &subject, at(1));
    let plant = dir_testkit::store_conformance::Plant { manifest, blobs: vec![], tag: None };
    dir_testkit::store_conformance::Backend::plant(&mut backend, &record.cid(), plant).await;
    for listed in backend.store.referrers(&record.cid()).await.unwrap() {
        backend.store.delete_referrer(&record.cid(), &listed).await.unwrap();
    }
    assert!(backend.store.resolve(&victim.cid()).await.unwrap().unwrap().annotations.contains_key(KEY_KIND));
}

#[tokio::test]
async fn the_empty_record_is_uploaded_once() {
    let backend = backend(Switches::zot(), Layout::Single).await;
    let record = Record::from_canonical(Bytes::from_static(b"{}"));
    backend.store.ping().await.unwrap();
    backend.registry.reset_counts();
    let facts = dir_core::RecordFacts::default();
    backend.store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    assert_eq!(backend.registry.counts(), counted(&[(Kind::UploadPost, 1), (Kind::ManifestPut, 1)]));
}
