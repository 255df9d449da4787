//! Records: putting, getting, resolving, deleting.

use super::{Backend, Case, Done, Plant, at, sample, sample_of_size, sample_referrer, store_sample};
use bytes::Bytes;
use dir_core::oci::{EMPTY_CONFIG_BYTES, KEY_NAME, Subject, record_manifest, referrer_manifest};
use dir_core::store::{Known, Presence, Put, StoreError};
use dir_core::{Cid, Record, RecordFacts};
use futures::future::BoxFuture;
use futures::{FutureExt, future};

pub(super) const CASES: &[(&str, Case)] = &[
    ("put, get and resolve", put_get_resolve),
    ("put again leaves the manifest", put_again),
    ("equal puts at once are one record", concurrent_puts),
    ("absent records are not found", absent),
    ("a referrer's CID is no record", referrer_cid_is_no_record),
    ("a foreign artifact under a CID tag is no record", foreign_tag),
    ("corrupt content does not leave", corrupt),
    ("a manifest with other content does not pass", substituted),
    ("delete removes the record and leaves the shared config", delete),
    ("a record whose blob is the shared config", empty_record),
    ("content survives a restart", restart),
    ("deletion survives a restart", deletion_survives),
    ("large records", large),
    ("many records at once", many),
    ("ping and close", ping_and_close),
];

fn put_get_resolve(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let store = backend.store();
        for known in [Known::Live, Known::Unknown] {
            assert_eq!(store.get(&record.cid(), known).await.expect("get"), record);
        }
        let stored = store.resolve(&record.cid()).await.expect("resolve").expect("there");
        assert_eq!(stored.cid, record.cid());
        let (_, facts) = sample(1);
        let manifest = record_manifest(&record.cid(), record.bytes().len() as u64, &facts, at(0));
        assert_eq!(stored.manifest_digest, Cid::of(&manifest).oci_digest());
        assert_eq!(stored.annotations.get(KEY_NAME).map(String::as_str), Some("example/agent-1"));
        assert_eq!(stored.created, Some(at(0)));
        Done::Yes
    }
    .boxed()
}

fn put_again(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let store = backend.store();
        let before = store.resolve(&record.cid()).await.expect("resolve");
        let (_, facts) = sample(1);
        let again = store.put(&record, &facts, at(100), Presence::Unknown).await;
        assert_eq!(again.expect("put"), Put::Existed);
        assert_eq!(store.resolve(&record.cid()).await.expect("resolve"), before);
        drop(store);
        if backend.reopen().await {
            let again = backend.store().put(&record, &facts, at(200), Presence::Unknown).await;
            assert_eq!(again.expect("put"), Put::Existed);
            assert_eq!(backend.store().resolve(&record.cid()).await.expect("resolve"), before);
        }
        Done::Yes
    }
    .boxed()
}

fn concurrent_puts(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let (record, facts) = sample(1);
        let store = backend.store();
        let puts = (0..8).map(|n| {
            let presence = if n % 2 == 0 { Presence::Absent } else { Presence::Unknown };
            let (store, record, facts) = (&store, &record, &facts);
            async move { store.put(record, facts, at(n), presence).await.expect("put") }
        });
        let puts = future::join_all(puts).await;
        assert_eq!(puts.iter().filter(|p| **p == Put::Stored).count(), 1, "{puts:?}");
        assert_eq!(store.get(&record.cid(), Known::Unknown).await.expect("get"), record);
        Done::Yes
    }
    .boxed()
}

fn absent(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        // Once in a store that holds nothing, and once beside another record.
        for n in 0..2 {
            let cid = Cid::of(b"never stored");
            let store = backend.store();
            let got = store.get(&cid, Known::Unknown).await;
            assert!(matches!(got, Err(StoreError::NotFound(c)) if c == cid), "{got:?}");
            assert!(matches!(
                store.get(&cid, Known::Live).await,
                Err(StoreError::NotFound(_) | StoreError::BlobMissing(_))
            ));
            assert_eq!(store.resolve(&cid).await.expect("resolve"), None);
            assert!(!store.delete(&cid).await.expect("delete"));
            assert!(matches!(store.referrers(&cid).await, Err(StoreError::NotFound(_))));
            let refused = store.put_referrer(&cid, &sample_referrer(&cid, "x"), at(0)).await;
            assert!(matches!(refused, Err(StoreError::NotFound(c)) if c == cid), "{refused:?}");
            store_sample(backend, n).await;
        }
        Done::Yes
    }
    .boxed()
}

fn referrer_cid_is_no_record(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let referrer = sample_referrer(&record.cid(), "x");
        backend.store().put_referrer(&record.cid(), &referrer, at(1)).await.expect("put_referrer");
        is_no_record(backend, &referrer.cid).await;
        // As older writers do it: tagged with its own CID.
        let tagged = sample_referrer(&record.cid(), "tagged");
        let stored = backend.store().resolve(&record.cid()).await.expect("resolve").expect("there");
        let subject = Subject { digest: stored.manifest_digest, size: manifest_size(&record) };
        let plant = Plant {
            manifest: referrer_manifest(&tagged, &subject, at(2)),
            blobs: vec![tagged.bytes.clone()],
            tag: Some(tagged.cid.to_string()),
        };
        // Where readers look for a record with that CID, which may be elsewhere than its subject.
        if !backend.plant(&tagged.cid, plant).await {
            return Done::NotHere;
        }
        is_no_record(backend, &tagged.cid).await;
        Done::Yes
    }
    .boxed()
}

/// Size of the manifest that [`store_sample`] made.
pub(super) fn manifest_size(record: &Record) -> u64 {
    let (_, facts) = sample(1);
    record_manifest(&record.cid(), record.bytes().len() as u64, &facts, at(0)).len() as u64
}

async fn is_no_record(backend: &dyn Backend, cid: &Cid) {
    let store = backend.store();
    let got = store.get(cid, Known::Unknown).await;
    assert!(matches!(got, Err(StoreError::NotFound(c)) if c == *cid), "{got:?}");
    assert_eq!(store.resolve(cid).await.expect("resolve"), None);
    assert!(!store.delete(cid).await.expect("delete"), "only records are deleted by CID");
}

fn foreign_tag(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let blob = Bytes::from_static(b"not ours");
        let cid = Cid::of(&blob);
        let manifest = record_manifest(&cid, blob.len() as u64, &RecordFacts::default(), at(0));
        let text = String::from_utf8(manifest.to_vec()).expect("text").replace("\"record\"", "\"something\"");
        let plant = Plant { manifest: text.into(), blobs: vec![blob], tag: Some(cid.to_string()) };
        if !backend.plant(&cid, plant).await {
            return Done::NotHere;
        }
        is_no_record(backend, &cid).await;
        Done::Yes
    }
    .boxed()
}

fn corrupt(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        if !backend.corrupt(&record.cid(), &record.cid()).await {
            return Done::NotHere;
        }
        for known in [Known::Live, Known::Unknown] {
            let got = backend.store().get(&record.cid(), known).await;
            assert!(matches!(&got, Err(StoreError::Corrupt(m)) if m.expected == record.cid()), "{got:?}");
        }
        Done::Yes
    }
    .boxed()
}

fn substituted(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let blob = Bytes::from_static(br#"{"name":"other"}"#);
        let (record, facts) = sample(1);
        let manifest = record_manifest(&record.cid(), blob.len() as u64, &facts, at(0));
        let text = String::from_utf8(manifest.to_vec()).expect("text");
        let text = text.replace(&record.cid().oci_digest(), &Cid::of(&blob).oci_digest());
        let plant = Plant { manifest: text.into(), blobs: vec![blob], tag: Some(record.cid().to_string()) };
        if !backend.plant(&record.cid(), plant).await {
            return Done::NotHere;
        }
        let got = backend.store().get(&record.cid(), Known::Unknown).await;
        assert!(got.is_err(), "content under another CID left the store: {got:?}");
        Done::Yes
    }
    .boxed()
}

fn delete(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let other = store_sample(backend, 2).await;
        let store = backend.store();
        let referrer = sample_referrer(&record.cid(), "x");
        store.put_referrer(&record.cid(), &referrer, at(1)).await.expect("put_referrer");
        assert!(store.delete(&record.cid()).await.expect("delete"));
        assert!(!store.delete(&record.cid()).await.expect("delete again"));
        let got = store.get(&record.cid(), Known::Unknown).await;
        assert!(matches!(got, Err(StoreError::NotFound(_))), "{got:?}");
        assert_eq!(store.resolve(&record.cid()).await.expect("resolve"), None);
        assert_eq!(store.get(&other.cid(), Known::Unknown).await.expect("the other stays"), other);

        let (_, facts) = sample(1);
        let again = store.put(&record, &facts, at(50), Presence::Absent).await.expect("put again");
        assert_eq!(again, Put::Stored);
        assert_eq!(store.referrers(&record.cid()).await.expect("referrers"), vec![]);
        assert_eq!(store.get(&record.cid(), Known::Live).await.expect("get"), record);
        drop(store);
        if backend.reopen().await {
            assert_eq!(backend.store().get(&record.cid(), Known::Unknown).await.expect("get"), record);
        }
        let config = Cid::of(EMPTY_CONFIG_BYTES);
        assert_ne!(
            backend.has_blob(&other.cid(), &config).await,
            Some(false),
            "the shared config blob is gone"
        );
        Done::Yes
    }
    .boxed()
}

fn empty_record(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = Record::from_canonical(Bytes::from_static(EMPTY_CONFIG_BYTES));
        let store = backend.store();
        let facts = RecordFacts::default();
        store.put(&record, &facts, at(0), Presence::Unknown).await.expect("put");
        assert_eq!(store.get(&record.cid(), Known::Unknown).await.expect("get"), record);
        assert!(store.delete(&record.cid()).await.expect("delete"));
        assert_eq!(store.resolve(&record.cid()).await.expect("resolve"), None);
        drop(store);
        backend.reopen().await;
        let blob = Cid::of(EMPTY_CONFIG_BYTES);
        assert_ne!(
            backend.has_blob(&record.cid(), &blob).await,
            Some(false),
            "the shared config blob is gone"
        );
        Done::Yes
    }
    .boxed()
}

fn restart(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let mut records = Vec::new();
        for n in 0..5 {
            records.push(store_sample(backend, n).await);
        }
        for _ in 0..2 {
            if !backend.reopen().await {
                return Done::NotHere;
            }
            for record in &records {
                assert_eq!(backend.store().get(&record.cid(), Known::Unknown).await.expect("get"), *record);
                assert!(backend.store().resolve(&record.cid()).await.expect("resolve").is_some());
            }
        }
        Done::Yes
    }
    .boxed()
}

fn deletion_survives(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let gone = store_sample(backend, 1).await;
        let stays = store_sample(backend, 2).await;
        if !backend.reopen().await {
            return Done::NotHere;
        }
        assert!(backend.store().delete(&gone.cid()).await.expect("delete"));
        for _ in 0..2 {
            backend.reopen().await;
            assert_eq!(backend.store().resolve(&gone.cid()).await.expect("resolve"), None);
            assert_eq!(backend.store().get(&stays.cid(), Known::Unknown).await.expect("get"), stays);
        }
        Done::Yes
    }
    .boxed()
}

fn large(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let (record, facts) = sample_of_size(1, 6 << 20);
        let store = backend.store();
        store.put(&record, &facts, at(0), Presence::Unknown).await.expect("put");
        assert_eq!(store.get(&record.cid(), Known::Unknown).await.expect("get"), record);
        let (refused, facts) = sample_of_size(2, 32 << 20);
        let put = store.put(&refused, &facts, at(0), Presence::Unknown).await;
        assert!(matches!(put, Err(StoreError::TooLarge { .. })), "{put:?}");
        assert_eq!(store.resolve(&refused.cid()).await.expect("resolve"), None);
        Done::Yes
    }
    .boxed()
}

fn many(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let samples: Vec<_> = (0..64).map(sample).collect();
        let store = backend.store();
        let puts = samples.iter().map(|(r, f)| store.put(r, f, at(0), Presence::Absent));
        for put in future::join_all(puts).await {
            assert_eq!(put.expect("put"), Put::Stored);
        }
        let cids: Vec<_> = samples.iter().map(|(r, _)| r.cid()).collect();
        let gets = cids.iter().map(|cid| store.get(cid, Known::Live));
        for (got, (record, _)) in future::join_all(gets).await.into_iter().zip(&samples) {
            assert_eq!(got.expect("get"), *record);
        }
        Done::Yes
    }
    .boxed()
}

fn ping_and_close(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let store = backend.store();
        store.ping().await.expect("ping");
        store.close().await.expect("close");
        store.close().await.expect("close again");
        drop(store);
        backend.reopen().await;
        assert_eq!(backend.store().get(&record.cid(), Known::Unknown).await.expect("get"), record);
        Done::Yes
    }
    .boxed()
}
