//! Manifests that a registry has lost or cannot read, while all else works.

use dir_core::maintenance::{Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble};
use dir_core::store::{Presence, RecordStore, StoreError, StoredReferrer, Walked};
use dir_core::{Cid, Class, Classified};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use dir_testkit::store_conformance::{at, sample, sample_referrer};
use futures::TryStreamExt;
use std::collections::BTreeMap;

const RECORDS: usize = 12;

fn open(registry: &FakeRegistry) -> OciStore {
    let address = registry.address();
    let config = OciConfig { address, layout: Layout::Auto, parallel: 4, ..OciConfig::default() };
    OciStore::new(&config).unwrap()
}

/// One repository with records, every third with a referrer, and what they are in the order of samples.
async fn filled(switches: Switches) -> (FakeRegistry, Vec<(Cid, Vec<StoredReferrer>)>) {
    let registry = FakeRegistry::start(switches).await.unwrap();
    let config = OciConfig { address: registry.address(), layout: Layout::Single, ..OciConfig::default() };
    let store = OciStore::new(&config).unwrap();
    let mut records = Vec::new();
    for n in 0..RECORDS {
        let (record, facts) = sample(n);
        let cid = record.cid();
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        if n % 3 == 0 {
            store.put_referrer(&cid, &sample_referrer(&cid, "note"), at(1)).await.unwrap();
        }
        records.push((cid, store.referrers(&cid).await.unwrap()));
    }
    (registry, records)
}

async fn convert(store: &OciStore, to: Spread) -> Vec<Reshard> {
    store.reshard(to, false, &[]).try_collect().await.unwrap()
}

fn left(steps: &[Reshard]) -> BTreeMap<Cid, &str> {
    let left = steps.iter().filter_map(|s| if let Reshard::Left(f) = s { Some(f) } else { None });
    left.map(|f| {
        assert_eq!((f.trouble, f.place.as_str()), (Trouble::Broken, "dir"), "{f:?}");
        (f.cid.unwrap(), f.detail.as_str())
    })
    .collect()
}

fn moved(steps: &[Reshard]) -> usize {
    steps.iter().filter(|s| matches!(s, Reshard::Moved(..))).count()
}

async fn have_referrers(store: &OciStore, records: &[(Cid, Vec<StoredReferrer>)]) {
    for (cid, referrers) in records {
        assert_eq!(&store.referrers(cid).await.unwrap(), referrers, "{cid}");
    }
}

#[tokio::test]
async fn a_repository_that_does_not_list_referrers_is_not_one_without_them() {
    // Whether the process has seen the API at work before or not.
    for seen in [true, false] {
        let (registry, records) = filled(Switches::zot()).await;
        let (broken, whole) = records.split_last().unwrap();
        let store = open(&registry);
        if seen {
            have_referrers(&store, &records).await;
        }
        assert!(registry.damage_manifest("dir", &broken.0.to_string(), 404));
        let (first, referrers) = &whole[0];
        for error in [
            store.referrers(first).await.map(drop).unwrap_err(),
            store.delete(first).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.class(), Class::Unavailable);
            assert!(error.to_string().contains("`dir-admin store audit` names it"), "{error}");
        }
        let steps = convert(&store, Spread::Sharded).await;
        assert_eq!(moved(&steps), 0);
        assert!(!steps.contains(&Reshard::Done), "its old place is still needed");
        let left = left(&steps);
        for (cid, _) in whole {
            assert!(left[cid].contains("push it again"), "{left:?}");
            assert!(store.resolve(cid).await.unwrap().is_some());
        }
        assert!(store.arrangement().await.unwrap().leaving.is_some());
        // The file is back: nothing was lost.
        registry.mend_manifests("dir");
        have_referrers(&store, &records).await;
        let steps = convert(&open(&registry), Spread::Sharded).await;
        assert_eq!((moved(&steps), steps.last()), (RECORDS, Some(&Reshard::Done)));
        let store = open(&registry);
        have_referrers(&store, &records).await;
        assert!(store.delete(first).await.unwrap());
        let home = format!("dir-{:03x}", first.shard());
        assert_eq!((registry.manifests(&home), referrers.len()), (0, 1), "its referrer went with it");
    }
}

#[tokio::test]
async fn a_registry_without_the_api_is_asked_once_and_then_by_tags() {
    let (registry, records) = filled(Switches::distribution()).await;
    let store = open(&registry);
    registry.reset_counts();
    have_referrers(&store, &records).await;
    assert_eq!(registry.counts()[&Kind::Referrers], 2, "a list, and whether there are lists");
    // A repository with a lost manifest is nothing special there.
    registry.damage_manifest("dir", &records[RECORDS - 1].0.to_string(), 404);
    have_referrers(&open(&registry), &records[..RECORDS - 1]).await;
}

async fn inspected(store: &OciStore) -> Result<(usize, Vec<Finding>), StoreError> {
    let all: Vec<_> = store.inspect(Depth::Manifests, None).try_collect().await?;
    let records = all.iter().filter(|i| matches!(i, Inspected::Record(_))).count();
    let findings = all.into_iter().filter_map(|i| if let Inspected::Finding(f) = i { Some(f) } else { None });
    Ok((records, findings.collect()))
}

/// Records that a walk sees, and those that it cannot read.
async fn walked(store: &OciStore) -> Result<(usize, Vec<(Cid, String)>), StoreError> {
    let all: Vec<_> = store.walk(None).try_collect().await?;
    let records = all.iter().filter(|w| matches!(w, Walked::Record(_))).count();
    let unreadable = all
        .into_iter()
        .filter_map(|w| if let Walked::Unreadable { cid, why } = w { Some((cid, why)) } else { None });
    Ok((records, unreadable.collect()))
}

#[tokio::test]
async fn a_manifest_that_is_missing_or_damaged_is_named_and_the_others_are_looked_at() {
    for (status, why) in [(404, "its manifest is missing"), (500, "its manifest cannot be read: HTTP 500")] {
        let (registry, records) = filled(Switches::zot()).await;
        // One with a referrer, which has no tag.
        let broken = records[3].0;
        registry.damage_manifest("dir", &broken.to_string(), status);
        let store = open(&registry);
        let (whole, found) = inspected(&store).await.unwrap();
        let found: Vec<_> = found.iter().map(|f| (f.trouble, &*f.place, &*f.tag, &*f.detail)).collect();
        let tag = broken.to_string();
        assert_eq!((whole, found), (RECORDS - 1, vec![(Trouble::Broken, "dir", &*tag, why)]));
        let unreadable = vec![(broken, format!("repository dir: {why}"))];
        assert_eq!(walked(&store).await.unwrap(), (RECORDS - 1, unreadable));
        let names = store.names().try_concat().await.unwrap();
        assert!(names.contains(&broken), "damage is no deletion");

        let dry: Vec<_> = store.reshard(Spread::Sharded, true, &[]).try_collect().await.unwrap();
        assert_eq!((moved(&dry), left(&dry)), (RECORDS - 1, BTreeMap::from([(broken, why)])));
        let steps = convert(&store, Spread::Sharded).await;
        let left = left(&steps);
        assert_eq!((moved(&steps), left.len(), left[&broken]), (0, RECORDS, why));
        assert!(!steps.contains(&Reshard::Done));
    }
}

#[tokio::test]
async fn an_outage_is_no_damage_and_neither_is_a_deletion() {
    let (registry, records) = filled(Switches::zot()).await;
    let store = open(&registry);
    store.ping().await.unwrap();
    for round in 0..3 {
        registry.fail_next(Kind::ManifestGet, 1000, Fault::Status(500));
        let error = match round {
            0 => inspected(&store).await.map(drop).unwrap_err(),
            1 => walked(&store).await.map(drop).unwrap_err(),
            _ => {
                store.reshard(Spread::Sharded, true, &[]).try_collect::<Vec<_>>().await.map(drop).unwrap_err()
            }
        };
        assert_eq!(error.class(), Class::Unavailable);
        registry.heal();
    }
    // A short one is waited for.
    registry.fail_next(Kind::ManifestGet, 2, Fault::Status(503));
    assert_eq!(inspected(&store).await.unwrap(), (RECORDS, vec![]));
    // Listed, and deleted before it is read.
    let gone = records[1].0;
    registry.fail_after(Kind::ManifestGet, 1, Fault::Slow(std::time::Duration::from_millis(500)));
    let (seen, deleted) = tokio::join!(walked(&store), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let mut left = records.iter().filter(|(cid, referrers)| *cid == gone || referrers.is_empty());
        left.all(|(cid, _)| registry.drop_tag("dir", &cid.to_string()))
    });
    assert!(deleted);
    let (_, unreadable) = seen.unwrap();
    assert_eq!(unreadable, []);
}

#[tokio::test]
async fn a_record_that_is_pushed_anew_sets_its_repository_right() {
    let (registry, records) = filled(Switches::zot()).await;
    let (broken, whole) = records.split_last().unwrap();
    registry.damage_manifest("dir", &broken.0.to_string(), 404);
    let store = open(&registry);
    assert_eq!(moved(&convert(&store, Spread::Sharded).await), 0);
    // In the middle of the conversion: its new manifest comes to its new place.
    let (record, facts) = sample(RECORDS - 1);
    assert_eq!(record.cid(), broken.0);
    assert!(!store.delete(&broken.0).await.unwrap());
    store.put(&record, &facts, at(7), Presence::Unknown).await.unwrap();
    let steps = convert(&store, Spread::Sharded).await;
    assert_eq!((moved(&steps), steps.last()), (whole.len(), Some(&Reshard::Done)));
    have_referrers(&open(&registry), whole).await;
    assert!(store.resolve(&broken.0).await.unwrap().is_some());
    assert!(registry.tags("dir").iter().all(|tag| tag.parse::<Cid>().is_err()));
}
