//! Conversions between the layouts of a registry, and what an inspection finds.

use bytes::Bytes;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::oci::{Subject, record_manifest, referrer_manifest};
use dir_core::store::{Known, Presence, RecordStore, StoredReferrer, Walked};
use dir_core::{Cid, Classified};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use dir_testkit::store_conformance::{at, sample, sample_referrer};
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const RECORDS: usize = 24;

fn open(registry: &FakeRegistry, layout: Layout) -> OciStore {
    let config = OciConfig { address: registry.address(), layout, parallel: 8, ..OciConfig::default() };
    OciStore::new(&config).unwrap()
}

/// A registry with records, every fourth with two referrers, and what they are.
async fn filled(switches: Switches, layout: Layout) -> (FakeRegistry, BTreeMap<Cid, Vec<StoredReferrer>>) {
    let registry = FakeRegistry::start(switches).await.unwrap();
    let store = open(&registry, layout);
    let mut records = BTreeMap::new();
    for n in 0..RECORDS {
        let (record, facts) = sample(n);
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        for note in ["first", "second"].into_iter().filter(|_| n % 4 == 0) {
            let referrer = sample_referrer(&record.cid(), note);
            store.put_referrer(&record.cid(), &referrer, at(1)).await.unwrap();
        }
        records.insert(record.cid(), store.referrers(&record.cid()).await.unwrap());
    }
    (registry, records)
}

/// Every record is there, whole, and so is everything that refers to it.
async fn complete(store: &OciStore, records: &BTreeMap<Cid, Vec<StoredReferrer>>) {
    readable(store, records).await;
    let mut walked: Vec<Cid> = store
        .walk(None)
        .try_filter_map(async |item| Ok(if let Walked::Record(s) = item { Some(s.cid) } else { None }))
        .try_collect()
        .await
        .unwrap();
    walked.sort_unstable();
    walked.dedup();
    assert_eq!(walked, records.keys().copied().collect::<Vec<_>>());
}

async fn readable(store: &OciStore, records: &BTreeMap<Cid, Vec<StoredReferrer>>) {
    for (cid, referrers) in records {
        store.get(cid, Known::Live).await.unwrap();
        store.get(cid, Known::Unknown).await.unwrap();
        assert_eq!(&store.referrers(cid).await.unwrap(), referrers, "{cid}");
        for referrer in referrers {
            store.referrer_bytes(cid, referrer).await.unwrap();
        }
    }
}

async fn convert(store: &OciStore, to: Spread) -> Vec<Reshard> {
    store.reshard(to, false, &[]).try_collect().await.unwrap()
}

fn moved(steps: &[Reshard]) -> usize {
    steps.iter().filter(|s| matches!(s, Reshard::Moved(..))).count()
}

async fn there_and_back(switches: Switches) {
    let (registry, records) = filled(switches, Layout::Single).await;
    let store = open(&registry, Layout::Auto);
    let dry: Vec<_> = store.reshard(Spread::Sharded, true, &[]).try_collect().await.unwrap();
    assert_eq!((moved(&dry), dry.last()), (RECORDS, Some(&Reshard::Done)));
    assert_eq!(store.arrangement().await.unwrap(), Arrangement { now: Spread::Single, leaving: None });

    for (to, layout, refused) in [
        (Spread::Sharded, Layout::Sharded, Layout::Single),
        (Spread::Single, Layout::Single, Layout::Sharded),
    ] {
        let steps = convert(&store, to).await;
        assert_eq!((moved(&steps), steps.last()), (RECORDS, Some(&Reshard::Done)));
        assert_eq!(store.arrangement().await.unwrap(), Arrangement { now: to, leaving: None });
        readable(&store, &records).await;
        let fresh = open(&registry, layout);
        complete(&fresh, &records).await;
        open(&registry, refused).ping().await.unwrap_err();
        let left =
            registry.repositories().into_iter().filter(|name| (name == "dir") == (to == Spread::Sharded));
        for repository in left {
            let tags = registry.tags(&repository);
            assert!(tags.iter().all(|tag| tag.parse::<Cid>().is_err()), "{repository}: {tags:?}");
        }
        // Once more is nothing.
        assert_eq!(convert(&store, to).await, [Reshard::Total(0), Reshard::Done]);
    }
}

#[tokio::test]
async fn both_directions_like_zot() {
    there_and_back(Switches::zot()).await;
}

#[tokio::test]
async fn both_directions_like_distribution() {
    there_and_back(Switches::distribution()).await;
}

#[tokio::test]
async fn both_directions_like_go_containerregistry() {
    there_and_back(Switches::go_containerregistry()).await;
}

#[tokio::test]
async fn a_registry_that_mounts_is_not_asked_for_contents() {
    let (registry, _) = filled(Switches::distribution(), Layout::Single).await;
    let store = open(&registry, Layout::Auto);
    store.ping().await.unwrap();
    registry.reset_counts();
    convert(&store, Spread::Sharded).await;
    assert_eq!(registry.counts().get(&Kind::BlobGet), None);
}

/// A registry with records alone, in one repository.
async fn plain(switches: Switches) -> (FakeRegistry, Vec<Cid>) {
    let registry = FakeRegistry::start(switches).await.unwrap();
    let store = open(&registry, Layout::Single);
    let mut cids = Vec::new();
    for n in 0..RECORDS {
        let (record, facts) = sample(n);
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        cids.push(record.cid());
    }
    (registry, cids)
}

#[tokio::test]
async fn a_record_that_moves_costs_one_request_of_each_kind() {
    let (registry, _) = plain(Switches::zot()).await;
    let store = open(&registry, Layout::Auto);
    store.ping().await.unwrap();
    registry.reset_counts();
    assert_eq!(moved(&convert(&store, Spread::Sharded).await), RECORDS);
    let counts = registry.counts();
    for kind in [Kind::Referrers, Kind::BlobGet, Kind::ManifestDelete] {
        assert_eq!(counts.get(&kind), Some(&RECORDS), "{kind:?}: {counts:?}");
    }
    // Once where it was, and before and after the copy where it will be, which is cheap. Once: does its tag go too?
    assert!(counts[&Kind::ManifestGet] <= 3 * RECORDS + 1, "{counts:?}");
}

#[tokio::test]
async fn the_oldest_move_first_and_what_is_of_unknown_age_last() {
    let (registry, mut cids) = plain(Switches::zot()).await;
    let store = open(&registry, Layout::Auto);
    cids.reverse();
    let unknown = cids.split_off(RECORDS - 5);
    let steps = store.reshard(Spread::Sharded, false, &cids);
    let steps: Vec<_> = steps.try_collect().await.unwrap();
    let order: Vec<Cid> =
        steps.iter().filter_map(|s| if let Reshard::Moved(cid, _) = s { Some(*cid) } else { None }).collect();
    assert_eq!(order[..cids.len()], cids);
    assert_eq!(order[cids.len()..].iter().collect::<BTreeSet<_>>(), unknown.iter().collect());
}

#[tokio::test]
async fn what_is_removed_between_copy_and_removal_does_not_come_back() {
    let (registry, records) = filled(Switches::zot(), Layout::Single).await;
    let store = open(&registry, Layout::Auto);
    // Those with referrers first: eight are copied, one of them is removed.
    let mut ages: Vec<Cid> = records.keys().copied().collect();
    ages.sort_by_key(|cid| records[cid].is_empty());
    let begun = store.reshard(Spread::Sharded, false, &ages).take(2);
    begun.try_collect::<Vec<_>>().await.unwrap();
    let left = registry.tags("dir");
    let both = |cid: &&Cid| {
        let home = format!("dir-{:03x}", cid.shard());
        left.contains(&cid.to_string()) && registry.tags(&home).contains(&cid.to_string())
    };
    let doubled: Vec<Cid> = records.keys().filter(both).copied().collect();
    let mut attached = doubled.iter().filter(|cid| !records[cid].is_empty());
    let (gone, bared) = (attached.next().unwrap(), attached.next().unwrap());
    let fresh = open(&registry, Layout::Auto);
    assert!(fresh.delete(gone).await.unwrap());
    assert!(fresh.delete_referrer(bared, &records[bared][0]).await.unwrap());
    let later = sample_referrer(bared, "later");
    fresh.put_referrer(bared, &later, at(9)).await.unwrap();
    let mut expected = records.clone();
    expected.remove(gone);
    expected.insert(*bared, fresh.referrers(bared).await.unwrap());
    assert_eq!(expected[bared].len(), 2);
    convert(&fresh, Spread::Sharded).await;
    complete(&open(&registry, Layout::Auto), &expected).await;
    assert!(fresh.resolve(gone).await.unwrap().is_none());
    assert_eq!(registry.manifests("dir"), 3, "nothing but the stamp, and what it said before");
}

/// Stops a conversion at many places, by a registry that fails for a while; each time another process goes on.
async fn stops(layout: Layout, to: Spread, kind: Kind, places: &[usize]) {
    let (registry, records) = filled(Switches::zot(), layout).await;
    let mut stops = 0;
    for after in places {
        let store = open(&registry, Layout::Auto);
        store.ping().await.unwrap();
        registry.fail_after(kind, *after, Fault::Status(500));
        // For longer than a manifest is asked for again.
        registry.fail_next(kind, 20, Fault::Status(500));
        let outcome: Result<Vec<_>, _> = store.reshard(to, false, &[]).try_collect().await;
        registry.heal();
        if let Err(error) = outcome {
            assert!(error.class().is_transient(), "{error}");
            stops += 1;
        }
        // As it would be found after `kill -9`: by a process that knows nothing of it.
        readable(&open(&registry, Layout::Auto), &records).await;
        readable(&store, &records).await;
    }
    assert!(stops > 0, "{kind:?} never failed");
    let last = open(&registry, Layout::Auto);
    convert(&last, to).await;
    complete(&last, &records).await;
    assert_eq!(last.arrangement().await.unwrap().leaving, None);
}

#[tokio::test]
async fn a_conversion_that_stops_anywhere_loses_nothing_and_goes_on() {
    for kind in [
        Kind::ManifestPut,
        Kind::ManifestGet,
        Kind::ManifestDelete,
        Kind::Referrers,
        Kind::UploadPost,
        Kind::BlobGet,
    ] {
        stops(Layout::Single, Spread::Sharded, kind, &[0, 1, 2, 3, 5, 8, 13]).await;
    }
    stops(Layout::Sharded, Spread::Single, Kind::ManifestDelete, &[1, 7]).await;
    stops(Layout::Sharded, Spread::Single, Kind::ManifestPut, &[2, 9]).await;
}

#[tokio::test]
async fn changes_in_the_middle_of_a_conversion_hold() {
    let (registry, mut records) = filled(Switches::zot(), Layout::Single).await;
    let store = open(&registry, Layout::Auto);
    let half: Vec<_> =
        store.reshard(Spread::Sharded, false, &[]).take(RECORDS / 2).try_collect().await.unwrap();
    assert!(moved(&half) > 0);
    let here = store.arrangement().await.unwrap();
    assert_eq!(here, Arrangement { now: Spread::Sharded, leaving: Some(Spread::Single) });
    // Both kinds: one that has moved and one that has not.
    let stays: Vec<Cid> = registry.tags("dir").iter().filter_map(|t| t.parse().ok()).collect();
    let old = *records.keys().find(|c| stays.contains(c)).unwrap();
    let new = *records.keys().find(|c| !stays.contains(c)).unwrap();
    let fresh = open(&registry, Layout::Auto);
    for (gone, attached) in [(old, stays[1]), (new, *records.keys().rfind(|c| !stays.contains(c)).unwrap())] {
        assert!(fresh.delete(&gone).await.unwrap());
        assert!(fresh.resolve(&gone).await.unwrap().is_none());
        records.remove(&gone);
        if let Some(referrers) = records.get_mut(&attached) {
            let referrer = sample_referrer(&attached, "in the middle");
            fresh.put_referrer(&attached, &referrer, at(9)).await.unwrap();
            *referrers = fresh.referrers(&attached).await.unwrap();
        }
    }
    let (record, facts) = sample(RECORDS + 1);
    fresh.put(&record, &facts, at(3), Presence::Absent).await.unwrap();
    records.insert(record.cid(), Vec::new());
    readable(&fresh, &records).await;
    convert(&fresh, Spread::Sharded).await;
    complete(&open(&registry, Layout::Auto), &records).await;
}

#[tokio::test]
async fn an_unfinished_conversion_can_be_turned_round() {
    let (registry, records) = filled(Switches::zot(), Layout::Sharded).await;
    let store = open(&registry, Layout::Auto);
    drop(store.reshard(Spread::Single, false, &[]).take(RECORDS / 2).collect::<Vec<_>>().await);
    assert_eq!(store.arrangement().await.unwrap().leaving, Some(Spread::Sharded));
    convert(&store, Spread::Sharded).await;
    assert_eq!(store.arrangement().await.unwrap(), Arrangement { now: Spread::Sharded, leaving: None });
    complete(&open(&registry, Layout::Auto), &records).await;
    assert!(registry.tags("dir").iter().all(|tag| tag.parse::<Cid>().is_err()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_anything_while_records_move() {
    let (registry, records) = filled(Switches::zot(), Layout::Single).await;
    let store = Arc::new(open(&registry, Layout::Auto));
    store.ping().await.unwrap();
    let (records, over) = (Arc::new(records), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, records, over) = (store.clone(), records.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    for (cid, referrers) in records.iter() {
                        store.get(cid, Known::Unknown).await.unwrap();
                        assert_eq!(store.referrers(cid).await.unwrap().len(), referrers.len());
                    }
                }
            })
        })
        .collect();
    let (writer, stop) = (store.clone(), over.clone());
    let pushed = tokio::spawn(async move {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let (record, facts) = sample(1000 + done.len());
            writer.put(&record, &facts, at(5), Presence::Absent).await.unwrap();
            writer.get(&record.cid(), Known::Unknown).await.unwrap();
            done.push(record.cid());
        }
        done
    });
    for to in [Spread::Sharded, Spread::Single] {
        convert(&store, to).await;
    }
    over.store(true, Ordering::Relaxed);
    futures::future::join_all(readers).await.into_iter().for_each(Result::unwrap);
    let mut all = (*records).clone();
    all.extend(pushed.await.unwrap().into_iter().map(|cid| (cid, Vec::new())));
    complete(&open(&registry, Layout::Auto), &all).await;
}

#[tokio::test]
async fn a_walk_is_told_when_the_layout_changes_under_it() {
    let (registry, records) = filled(Switches::zot(), Layout::Single).await;
    let store = open(&registry, Layout::Auto);
    let mut walk = store.walk(None);
    walk.next().await.unwrap().unwrap();
    convert(&store, Spread::Sharded).await;
    let rest: Vec<_> = walk.collect().await;
    assert!(rest.last().unwrap().as_ref().unwrap_err().class().is_transient());
    complete(&store, &records).await;
}

async fn findings(store: &OciStore, depth: Depth) -> Vec<Finding> {
    let all: Vec<_> = store.inspect(depth, None).try_collect().await.unwrap();
    all.into_iter().filter_map(|i| if let Inspected::Finding(f) = i { Some(f) } else { None }).collect()
}

/// Plants a record as another writer would.
fn plant(registry: &FakeRegistry, repository: &str, n: usize) -> (Cid, Bytes) {
    let (record, facts) = sample(n);
    let manifest = record_manifest(&record.cid(), record.bytes().len() as u64, &facts, at(0));
    let blobs = [record.bytes().clone(), Bytes::from_static(b"{}")];
    registry.plant(repository, manifest.clone(), &blobs, Some(&record.cid().to_string()));
    (record.cid(), manifest)
}

#[tokio::test]
async fn an_inspection_finds_what_is_wrong_and_a_repair_sets_it_right() {
    let (registry, mut records) = filled(Switches::zot(), Layout::Sharded).await;
    let store = open(&registry, Layout::Auto);
    assert_eq!(findings(&store, Depth::Contents).await, []);
    // A stray of another writer, a record in two places, one whose content rots, a referrer of nothing, a picture.
    let (stray, _) = plant(&registry, "dir", 500);
    let twice = *records.keys().next().unwrap();
    let number = (0..RECORDS).find(|n| sample(*n).0.cid() == twice).unwrap();
    plant(&registry, "dir", number);
    let rotten = *records.keys().nth(1).unwrap();
    let home = format!("dir-{}", &rotten.oci_digest()[7..10]);
    registry.corrupt_blob(&home, &rotten, Bytes::from_static(b"mould"));
    let gone = sample(501).0.cid();
    let orphan = sample_referrer(&gone, "left");
    let subject = Subject { digest: gone.oci_digest(), size: 7 };
    let manifest = referrer_manifest(&orphan, &subject, at(0));
    registry.plant("dir", manifest, std::slice::from_ref(&orphan.bytes), Some(&orphan.cid.to_string()));
    registry.plant(&home, Bytes::from_static(b"{\"schemaVersion\":2,\"layers\":[]}"), &[], Some("picture"));

    let found = findings(&store, Depth::Contents).await;
    let mut kinds: Vec<_> = found.iter().map(|f| (f.trouble, f.cid)).collect();
    kinds.sort_unstable();
    let mut expected = vec![
        (Trouble::Orphan, None),
        (Trouble::Duplicate, Some(twice)),
        (Trouble::Stray, Some(stray)),
        (Trouble::Broken, Some(rotten)),
        (Trouble::Foreign, None),
    ];
    expected.sort_unstable();
    assert_eq!(kinds, expected);
    assert!(findings(&store, Depth::Manifests).await.iter().all(|f| f.trouble != Trouble::Broken));

    for finding in &found {
        assert_eq!(store.repair(finding).await.unwrap(), finding.trouble.is_repairable(), "{finding:?}");
        assert!(!store.repair(finding).await.unwrap(), "twice: {finding:?}");
    }
    let left: Vec<_> = findings(&store, Depth::Contents).await.into_iter().map(|f| f.trouble).collect();
    assert_eq!(left.len(), 2, "what cannot be repaired is left alone: {left:?}");
    records.remove(&rotten);
    records.insert(stray, Vec::new());
    for cid in records.keys() {
        store.get(cid, Known::Unknown).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_tag_is_written_again_from_what_the_index_knows() {
    let (registry, records) = filled(Switches::zot(), Layout::Sharded).await;
    let store = open(&registry, Layout::Auto);
    let (record, facts) = sample(3);
    let cid = record.cid();
    assert!(!store.restore(&cid, &facts, at(0)).await.unwrap(), "it is not lost");
    store.delete(&cid).await.unwrap();
    // The registry keeps contents after a delete.
    assert!(store.restore(&cid, &facts, at(0)).await.unwrap());
    complete(&store, &records).await;
    let nowhere = sample(999).0.cid();
    assert!(!store.restore(&nowhere, &facts, at(0)).await.unwrap());
}

#[tokio::test]
async fn names_are_whole_or_an_error() {
    for layout in [Layout::Single, Layout::Sharded] {
        let (registry, records) = filled(Switches { page_size: Some(7), ..Switches::zot() }, layout).await;
        let store = open(&registry, Layout::Auto);
        let mut names: Vec<Cid> = store.names().try_concat().await.unwrap();
        names.sort_unstable();
        assert_eq!(names, records.keys().copied().collect::<Vec<_>>());
        registry.reset_counts();
        store.names().try_concat().await.unwrap();
        assert_eq!(registry.counts().keys().collect::<Vec<_>>(), [&Kind::Tags], "nothing is read");
        registry.fail_after(Kind::Tags, 2, Fault::Status(500));
        store.names().try_concat().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_registry_without_its_stamp_is_not_recognised() {
    let (registry, _) = filled(Switches::zot(), Layout::Sharded).await;
    let store = open(&registry, Layout::Auto);
    assert!(store.recognised().await.unwrap());
    registry.wipe();
    assert!(!store.recognised().await.unwrap());
    registry.fail_next(Kind::ManifestGet, 1, Fault::Status(503));
    store.recognised().await.unwrap_err();
}
