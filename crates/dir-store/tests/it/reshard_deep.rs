//! What goes along with a record that moves: tags of others, and what refers to what refers to it.

use bytes::Bytes;
use dir_core::Cid;
use dir_core::maintenance::{Spread, StoreMaintenance};
use dir_core::oci::{Subject, referrer_manifest};
use dir_core::store::{Known, Presence, RecordStore};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fake_registry::{FakeRegistry, Switches};
use dir_testkit::store_conformance::{at, sample, sample_referrer};
use futures::{StreamExt, TryStreamExt};

fn open(registry: &FakeRegistry, layout: Layout) -> OciStore {
    let config = OciConfig { address: registry.address(), layout, ..OciConfig::default() };
    OciStore::new(&config).unwrap()
}

fn digest_of(manifest: &Bytes) -> String {
    Cid::of(manifest).oci_digest()
}

/// A record with a referrer that somebody has tagged, which has one without a tag, which has one with a tag.
async fn chain(registry: &FakeRegistry) -> (Cid, Vec<(Cid, Bytes)>) {
    let store = open(registry, Layout::Single);
    let (record, facts) = sample(1);
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    let mut subject = store.resolve(&record.cid()).await.unwrap().unwrap().manifest_digest;
    let mut out = Vec::new();
    for (note, tagged) in [("scan", true), ("signature of the scan", false), ("witness", true)] {
        let referrer = sample_referrer(&record.cid(), note);
        let manifest = referrer_manifest(&referrer, &Subject { digest: subject, size: 1 }, at(1));
        let blobs = [referrer.bytes.clone(), Bytes::from_static(b"{}")];
        let tag = tagged.then(|| referrer.cid.to_string());
        registry.plant("dir", manifest.clone(), &blobs, tag.as_deref());
        subject = digest_of(&manifest);
        out.push((referrer.cid, manifest));
    }
    (record.cid(), out)
}

#[tokio::test]
async fn referrers_of_referrers_and_their_tags_go_along_both_ways() {
    let registry = FakeRegistry::start(Switches::zot()).await.unwrap();
    let (record, chain) = chain(&registry).await;
    let store = open(&registry, Layout::Auto);
    let shard = format!("dir-{:03x}", record.shard());
    for (to, place, left) in
        [(Spread::Sharded, shard.as_str(), "dir"), (Spread::Single, "dir", shard.as_str())]
    {
        store.reshard(to, false, &[]).try_collect::<Vec<_>>().await.unwrap();
        let (tags, rest) = (registry.tags(place), registry.tags(left));
        for (n, (cid, _)) in chain.iter().enumerate() {
            assert!(registry.has_blob(place, cid), "{n} is in {place}");
            assert_eq!(tags.contains(&cid.to_string()), n != 1, "{n}: tags are as they were: {tags:?}");
            assert!(!rest.contains(&cid.to_string()), "{n}");
        }
        for (n, (_, manifest)) in chain.iter().enumerate() {
            let url = format!("http://{}/v2/{place}/manifests/{}", registry.address(), digest_of(manifest));
            let found = reqwest::get(url).await.unwrap();
            assert_eq!(
                (found.status().as_u16(), found.bytes().await.unwrap()),
                (200, manifest.clone()),
                "{n}"
            );
        }
        let listed = store.referrers(&record).await.unwrap();
        assert_eq!(listed.iter().map(|r| r.cid).collect::<Vec<_>>(), [chain[0].0]);
    }
}

#[tokio::test]
async fn a_list_that_names_other_records_takes_none_of_them_along() {
    let registry = FakeRegistry::start(Switches::distribution()).await.unwrap();
    let store = open(&registry, Layout::Single);
    let mut records = Vec::new();
    for n in 0..2 {
        let (record, facts) = sample(n);
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        records.push(store.resolve(&record.cid()).await.unwrap().unwrap());
    }
    // Anybody who may write to the repository writes a list of the first that names the second.
    let list = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": records[1].manifest_digest,
            "size": 1,
        }],
    });
    let tag = records[0].manifest_digest.replacen(':', "-", 1);
    let url = format!("http://{}/v2/dir/manifests/{tag}", registry.address());
    let put =
        reqwest::Client::new().put(url).header("content-type", "application/vnd.oci.image.index.v1+json");
    assert!(put.body(list.to_string()).send().await.unwrap().status().is_success());
    let store = open(&registry, Layout::Auto);
    store.reshard(Spread::Sharded, false, &[records[0].cid]).take(2).try_collect::<Vec<_>>().await.unwrap();
    assert!(!registry.tags("dir").contains(&records[0].cid.to_string()), "the first has moved");
    let fresh = open(&registry, Layout::Auto);
    for record in &records {
        fresh.get(&record.cid, Known::Unknown).await.unwrap();
    }
    fresh.reshard(Spread::Sharded, false, &[]).try_collect::<Vec<_>>().await.unwrap();
    for record in &records {
        fresh.get(&record.cid, Known::Unknown).await.unwrap();
    }
}
