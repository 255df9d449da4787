//! The walk over everything in the store.

use super::{Backend, Case, Done, Plant, at, sample, sample_referrer};
use bytes::Bytes;
use dir_core::oci::record_manifest;
use dir_core::store::{Presence, RecordStore, WalkMark, Walked};
use dir_core::{Cid, RecordFacts};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::collections::BTreeSet;

/// Records of the walk: more than the adapters put between two marks, and in many shards.
const RECORDS: usize = 150;

pub(super) const CASES: &[(&str, Case)] = &[
    ("a walk over nothing", nothing),
    ("a walk goes on from every mark", resumes),
    ("a walk sees records, and no referrers or artifacts of others", foreign),
];

/// CIDs of records, and the marks with how many records came before each.
async fn collect(store: &dyn RecordStore, from: Option<WalkMark>) -> (Vec<Cid>, Vec<(usize, WalkMark)>) {
    let (mut cids, mut marks) = (Vec::new(), Vec::new());
    let mut walk = store.walk(from);
    while let Some(item) = walk.next().await {
        match item.expect("walk") {
            Walked::Record(stored) => cids.push(stored.cid),
            Walked::Mark(mark) => marks.push((cids.len(), mark)),
            Walked::Other { .. } | Walked::Unreadable { .. } => {}
        }
    }
    (cids, marks)
}

async fn fill(backend: &dyn Backend, n: usize) -> BTreeSet<Cid> {
    let store = backend.store();
    let puts = futures::stream::iter(0..n).map(|n| {
        let store = &store;
        async move {
            let (record, facts) = sample(n);
            store.put(&record, &facts, at(0), Presence::Absent).await.expect("put");
            record.cid()
        }
    });
    puts.buffer_unordered(16).collect().await
}

fn nothing(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        // As far as the first mark: a walk over thousands of empty shards says no more.
        let store = backend.store();
        let mut walk = store.walk(None);
        while let Some(item) = walk.next().await {
            match item.expect("walk") {
                Walked::Record(stored) => panic!("{stored:?}"),
                Walked::Mark(_) => break,
                Walked::Other { .. } | Walked::Unreadable { .. } => {}
            }
        }
        drop(walk);
        Done::Yes
    }
    .boxed()
}

fn resumes(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        fill(backend, RECORDS).await;
        let (cids, marks) = collect(&*backend.store(), None).await;
        assert_eq!(cids.len(), RECORDS);
        assert!(marks.len() > 1, "{} records need more than one mark", cids.len());
        for (before, mark) in [&marks[marks.len() / 2], &marks[marks.len() - 1]] {
            let (rest, _) = collect(&*backend.store(), Some(mark.clone())).await;
            assert_eq!(rest, cids[*before..], "from {mark:?}");
        }
        let store = backend.store();
        let strange = store.walk(Some(WalkMark("no mark of ours".to_owned()))).next().await;
        assert!(matches!(strange, Some(Err(_))), "{strange:?}");
        Done::Yes
    }
    .boxed()
}

fn foreign(backend: &mut dyn Backend) -> BoxFuture<'_, Done> {
    async {
        let expected = fill(backend, 20).await;
        let first = *expected.first().expect("one");
        let referrer = sample_referrer(&first, "x");
        backend.store().put_referrer(&first, &referrer, at(1)).await.expect("put_referrer");
        let blob = Bytes::from_static(b"an image of others");
        let manifest = record_manifest(&Cid::of(&blob), blob.len() as u64, &RecordFacts::default(), at(0));
        let text = String::from_utf8(manifest.to_vec()).expect("text").replace("\"record\"", "\"image\"");
        for tag in ["v1.2.3".to_owned(), Cid::of(&blob).to_string()] {
            let plant = Plant { manifest: text.clone().into(), blobs: vec![blob.clone()], tag: Some(tag) };
            backend.plant(&first, plant).await;
        }
        let (cids, _) = collect(&*backend.store(), None).await;
        assert_eq!(cids.len(), expected.len(), "each once");
        assert_eq!(cids.into_iter().collect::<BTreeSet<_>>(), expected);
        Done::Yes
    }
    .boxed()
}
