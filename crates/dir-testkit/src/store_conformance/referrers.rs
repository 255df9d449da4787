//! Referrers: attaching, listing, reading, removing.

use super::content::manifest_size;
use super::{Backend, Case, Done, Plant, at, sample, sample_referrer, store_sample};
use dir_core::oci::{Subject, TYPE_PUBLIC_KEY, referrer_manifest};
use dir_core::store::{Presence, Put, StoreError};
use dir_core::{Cid, Record};
use futures::FutureExt;
use futures::future::{self, BoxFuture};

pub(super) const CASES: &[(&str, Case)] = &[
    ("referrers come back in push order", push_order),
    ("an equal referrer is one", idempotent),
    ("equal referrers at once are one", concurrent),
    ("referrers of others, tagged or not, are found", planted),
    ("deleting a referrer", delete_one),
    ("deleting a record takes every referrer", delete_all),
    ("a corrupt referrer does not leave", corrupt),
    ("a referrer must be what it says", mislabelled),
];

fn push_order(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let other = store_sample(backend, 2).await;
        assert_eq!(backend.store().referrers(&record.cid()).await.expect("referrers"), vec![]);
        let mut pushed = Vec::new();
        for n in 0..12 {
            let mut referrer = sample_referrer(&record.cid(), &n.to_string());
            if n % 2 == 1 {
                TYPE_PUBLIC_KEY.clone_into(&mut referrer.api_type);
            }
            let put = backend.store().put_referrer(&record.cid(), &referrer, at(n)).await;
            assert_eq!(put.expect("put_referrer"), Put::Stored);
            pushed.push(referrer);
        }
        for _ in 0..2 {
            let store = backend.store();
            let listed = store.referrers(&record.cid()).await.expect("referrers");
            let cids: Vec<_> = listed.iter().map(|r| r.cid).collect();
            assert_eq!(cids, pushed.iter().map(|r| r.cid).collect::<Vec<_>>());
            for (stored, referrer) in listed.iter().zip(&pushed) {
                assert_eq!(stored.api_type, referrer.api_type);
                let bytes = store.referrer_bytes(&record.cid(), stored).await.expect("bytes");
                assert_eq!(bytes, referrer.bytes);
            }
            assert_eq!(listed[3].created, Some(at(3)));
            assert_eq!(store.referrers(&other.cid()).await.expect("referrers"), vec![]);
            drop(store);
            backend.reopen().await;
        }
        Done::Yes
    }
    .boxed()
}

fn idempotent(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let first = sample_referrer(&record.cid(), "first");
        let second = sample_referrer(&record.cid(), "second");
        backend.store().put_referrer(&record.cid(), &first, at(1)).await.expect("put_referrer");
        backend.store().put_referrer(&record.cid(), &second, at(2)).await.expect("put_referrer");
        let before = backend.store().referrers(&record.cid()).await.expect("referrers");
        backend.reopen().await;
        // Much later, so that the manifest would be another one.
        let again = backend.store().put_referrer(&record.cid(), &first, at(100_000)).await.expect("again");
        assert!(again == Put::Existed || before.is_empty(), "{again:?}");
        let after = backend.store().referrers(&record.cid()).await.expect("referrers");
        if !before.is_empty() {
            assert_eq!(after, before, "equal content keeps its place");
        }
        Done::Yes
    }
    .boxed()
}

fn concurrent(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let store = backend.store();
        let cid = record.cid();
        let same = sample_referrer(&cid, "same");
        let others: Vec<_> = (0..4).map(|n| sample_referrer(&cid, &n.to_string())).collect();
        let equal = future::join_all((0..4).map(|n| store.put_referrer(&cid, &same, at(n))));
        let distinct = future::join_all(others.iter().map(|r| store.put_referrer(&cid, r, at(9))));
        let (equal, distinct) = future::join(equal, distinct).await;
        let stored =
            equal.into_iter().map(|p| p.expect("put_referrer")).filter(|p| *p == Put::Stored).count();
        assert_eq!(stored, 1);
        for put in distinct {
            assert_eq!(put.expect("put_referrer"), Put::Stored);
        }
        let mut listed: Vec<_> =
            store.referrers(&cid).await.expect("referrers").iter().map(|r| r.cid).collect();
        let mut expected: Vec<_> = others.iter().map(|r| r.cid).chain([same.cid]).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
        Done::Yes
    }
    .boxed()
}

async fn subject_of(backend: &dyn Backend, record: &Record) -> Subject {
    let stored = backend.store().resolve(&record.cid()).await.expect("resolve").expect("there");
    Subject { digest: stored.manifest_digest, size: manifest_size(record) }
}

fn planted(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let subject = subject_of(backend, &record).await;
        let mut expected = Vec::new();
        for (n, tagged) in [(1, true), (2, false)] {
            let referrer = sample_referrer(&record.cid(), &n.to_string());
            let plant = Plant {
                manifest: referrer_manifest(&referrer, &subject, at(n)),
                blobs: vec![referrer.bytes.clone()],
                tag: tagged.then(|| referrer.cid.to_string()),
            };
            if !backend.plant(&record.cid(), plant).await {
                return Done::NotHere;
            }
            expected.push(referrer);
        }
        let ours = sample_referrer(&record.cid(), "ours");
        backend.store().put_referrer(&record.cid(), &ours, at(3)).await.expect("put_referrer");
        let store = backend.store();
        let listed = store.referrers(&record.cid()).await.expect("referrers");
        let cids: Vec<_> = listed.iter().map(|r| r.cid).collect();
        assert_eq!(cids, vec![expected[0].cid, expected[1].cid, ours.cid]);
        let again = store.put_referrer(&record.cid(), &expected[0], at(500)).await.expect("again");
        assert_eq!(again, Put::Existed);
        for (stored, referrer) in listed.iter().zip(&expected) {
            assert_eq!(store.referrer_bytes(&record.cid(), stored).await.expect("bytes"), referrer.bytes);
            assert!(store.delete_referrer(&record.cid(), stored).await.expect("delete"));
        }
        drop(store);
        backend.reopen().await;
        let left = backend.store().referrers(&record.cid()).await.expect("referrers");
        assert_eq!(left.iter().map(|r| r.cid).collect::<Vec<_>>(), vec![ours.cid]);
        Done::Yes
    }
    .boxed()
}

fn delete_one(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let store = backend.store();
        for n in 0..3 {
            let referrer = sample_referrer(&record.cid(), &n.to_string());
            store.put_referrer(&record.cid(), &referrer, at(n)).await.expect("put_referrer");
        }
        let listed = store.referrers(&record.cid()).await.expect("referrers");
        assert!(store.delete_referrer(&record.cid(), &listed[1]).await.expect("delete"));
        assert!(!store.delete_referrer(&record.cid(), &listed[1]).await.expect("delete again"));
        let left = store.referrers(&record.cid()).await.expect("referrers");
        assert_eq!(left, vec![listed[0].clone(), listed[2].clone()]);
        // The same content may come back.
        let back = sample_referrer(&record.cid(), "1");
        assert_eq!(store.put_referrer(&record.cid(), &back, at(60)).await.expect("put"), Put::Stored);
        let now: Vec<_> =
            store.referrers(&record.cid()).await.expect("referrers").iter().map(|r| r.cid).collect();
        assert_eq!(now, vec![listed[0].cid, listed[2].cid, back.cid]);
        let bytes = store.referrers(&record.cid()).await.expect("referrers").pop().expect("last");
        assert_eq!(store.referrer_bytes(&record.cid(), &bytes).await.expect("bytes"), back.bytes);
        Done::Yes
    }
    .boxed()
}

fn delete_all(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let subject = subject_of(backend, &record).await;
        let tagged = sample_referrer(&record.cid(), "tagged");
        let plant = Plant {
            manifest: referrer_manifest(&tagged, &subject, at(1)),
            blobs: vec![tagged.bytes.clone()],
            tag: Some(tagged.cid.to_string()),
        };
        backend.plant(&record.cid(), plant).await;
        let untagged = sample_referrer(&record.cid(), "untagged");
        backend.store().put_referrer(&record.cid(), &untagged, at(2)).await.expect("put_referrer");
        assert!(backend.store().delete(&record.cid()).await.expect("delete"));
        let (_, facts) = sample(1);
        // The same second gives the same manifest, so that what still refers to it would show.
        backend.store().put(&record, &facts, at(0), Presence::Unknown).await.expect("put");
        assert_eq!(backend.store().referrers(&record.cid()).await.expect("referrers"), vec![]);
        backend.reopen().await;
        if let Ok(listed) = backend.store().referrers(&record.cid()).await {
            assert_eq!(listed, vec![]);
        }
        Done::Yes
    }
    .boxed()
}

fn corrupt(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let referrer = sample_referrer(&record.cid(), "x");
        backend.store().put_referrer(&record.cid(), &referrer, at(1)).await.expect("put_referrer");
        let listed = backend.store().referrers(&record.cid()).await.expect("referrers");
        if !backend.corrupt(&record.cid(), &referrer.cid).await {
            return Done::NotHere;
        }
        let got = backend.store().referrer_bytes(&record.cid(), &listed[0]).await;
        assert!(matches!(&got, Err(StoreError::Corrupt(m)) if m.expected == referrer.cid), "{got:?}");
        Done::Yes
    }
    .boxed()
}

fn mislabelled(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let record = store_sample(backend, 1).await;
        let mut referrer = sample_referrer(&record.cid(), "x");
        referrer.cid = Cid::of(b"something else");
        let put = backend.store().put_referrer(&record.cid(), &referrer, at(1)).await;
        assert!(matches!(put, Err(StoreError::Corrupt(_))), "{put:?}");
        assert_eq!(backend.store().referrers(&record.cid()).await.expect("referrers"), vec![]);
        Done::Yes
    }
    .boxed()
}
