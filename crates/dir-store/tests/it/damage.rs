//! Manifests that a registry has lost or cannot read, while all else works.

use dir_core::maintenance::{Reshard, Spread, StoreMaintenance, Trouble};
use dir_core::store::{Presence, RecordStore, StoredReferrer};
use dir_core::{Cid, Class, Classified};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Kind, Switches};
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
