//! The store in an OCI image layout directory.

use async_trait::async_trait;
use dir_core::oci::MANIFEST;
use dir_core::store::{Known, Presence, RecordStore, StoreError};
use dir_core::{Cid, Class, Classified};
use dir_store::{LayoutConfig, LayoutStore};
use dir_testkit::store_conformance::{Backend, Plant, at, run, sample, sample_referrer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn blob_path(root: &Path, digest: &Cid) -> PathBuf {
    root.join("blobs/sha256").join(&digest.oci_digest()["sha256:".len()..])
}

/// `index.json` as an ordinary tool reads it: digest to tag, every manifest and its blobs checked.
pub(crate) fn read_as_a_tool(root: &Path) -> BTreeMap<String, Option<String>> {
    let marker: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["schemaVersion"], 2);
    let mut out = BTreeMap::new();
    for entry in index["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap().to_owned();
        let manifest = read_blob(root, &digest, entry["size"].as_u64().unwrap());
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            read_blob(root, blob["digest"].as_str().unwrap(), blob["size"].as_u64().unwrap());
        }
        let tag = &entry["annotations"]["org.opencontainers.image.ref.name"];
        out.insert(digest, tag.as_str().map(str::to_owned));
    }
    out
}

fn read_blob(root: &Path, digest: &str, size: u64) -> Vec<u8> {
    let digest = Cid::from_oci_digest(digest).unwrap();
    let bytes = std::fs::read(blob_path(root, &digest)).unwrap();
    assert_eq!(Cid::of(&bytes), digest);
    assert_eq!(bytes.len() as u64, size);
    bytes
}

struct Layout {
    dir: TempDir,
    store: Option<Arc<LayoutStore>>,
    /// Restarts as after a crash: without closing.
    crash: bool,
}

impl Layout {
    fn new(crash: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LayoutStore::open(&Self::config(dir.path())).unwrap();
        Self { dir, store: Some(Arc::new(store)), crash }
    }

    fn config(path: &Path) -> LayoutConfig {
        // Small, so that content is read from the journal and from files in the same run.
        LayoutConfig { segment_bytes: 16 << 10, ..LayoutConfig::new(path) }
    }

    async fn stop(&mut self) {
        let store = self.store.take().unwrap();
        if !self.crash {
            store.close().await.unwrap();
        }
        Arc::into_inner(store).expect("nobody else holds the store");
    }

    fn start(&mut self) {
        self.store = Some(Arc::new(LayoutStore::open(&Self::config(self.dir.path())).unwrap()));
    }
}

#[async_trait]
impl Backend for Layout {
    fn store(&self) -> Arc<dyn RecordStore> {
        self.store.clone().unwrap()
    }

    async fn reopen(&mut self) -> bool {
        self.stop().await;
        self.start();
        true
    }

    async fn corrupt(&mut self, _of: &Cid, blob: &Cid) -> bool {
        self.store.as_ref().unwrap().close().await.unwrap();
        let path = blob_path(self.dir.path(), blob);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(path, bytes).unwrap();
        true
    }

    async fn has_blob(&self, _of: &Cid, blob: &Cid) -> Option<bool> {
        self.store.as_ref().unwrap().close().await.unwrap();
        Some(blob_path(self.dir.path(), blob).exists())
    }

    async fn plant(&mut self, _of: &Cid, plant: Plant) -> bool {
        self.store.as_ref().unwrap().close().await.unwrap();
        self.stop().await;
        plant_in(self.dir.path(), &plant);
        self.start();
        true
    }
}

/// Adds an artifact as a tool would that knows nothing of us.
fn plant_in(root: &Path, plant: &Plant) {
    for bytes in plant.blobs.iter().chain([&plant.manifest]) {
        std::fs::write(blob_path(root, &Cid::of(bytes)), bytes).unwrap();
    }
    let path = root.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut entry = serde_json::json!({
        "mediaType": MANIFEST,
        "digest": Cid::of(&plant.manifest).oci_digest(),
        "size": plant.manifest.len(),
    });
    if let Some(tag) = &plant.tag {
        entry["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
    }
    index["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(path, index.to_string()).unwrap();
}

#[tokio::test]
async fn conformance() {
    assert_eq!(run(async || Layout::new(false)).await.skipped, Vec::<&str>::new());
}

#[tokio::test]
async fn conformance_when_every_restart_is_a_crash() {
    assert_eq!(run(async || Layout::new(true)).await.skipped, Vec::<&str>::new());
}

async fn fill(store: &LayoutStore, from: usize, to: usize) {
    let samples: Vec<_> = (from..to).map(sample).collect();
    let puts = samples.iter().map(|(record, facts)| store.put(record, facts, at(0), Presence::Absent));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
}

#[tokio::test]
async fn ordinary_tools_read_the_directory_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    let (record, _) = sample(3);
    fill(&store, 0, 20).await;
    let referrer = sample_referrer(&record.cid(), "x");
    store.put_referrer(&record.cid(), &referrer, at(1)).await.unwrap();
    store.delete(&sample(4).0.cid()).await.unwrap();
    assert_eq!(read_as_a_tool(dir.path()).len(), 0, "a push does not rewrite the index");
    store.close().await.unwrap();
    let seen = read_as_a_tool(dir.path());
    assert_eq!(seen.len(), 20, "19 records and a referrer");
    assert_eq!(seen.values().filter(|t| t.is_none()).count(), 1);
    assert!(seen.values().flatten().any(|t| *t == record.cid().to_string()));
    assert!(!blob_path(dir.path(), &sample(4).0.cid()).exists(), "deleted content stays on no disk");
}

#[tokio::test]
async fn a_directory_that_others_wrote_is_served_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    fill(&store, 0, 5).await;
    let (record, _) = sample(1);
    store.put_referrer(&record.cid(), &sample_referrer(&record.cid(), "x"), at(1)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    // Everything that is ours is gone: a plain image layout is left.
    std::fs::remove_dir_all(dir.path().join(".directory")).unwrap();
    let store = LayoutStore::open(&config).unwrap();
    assert_eq!(store.len(), 5);
    assert_eq!(store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
    assert_eq!(store.referrers(&record.cid()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_another_tool_removed_from_the_index_is_gone_and_later_pushes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    fill(&store, 0, 3).await;
    store.close().await.unwrap();
    fill(&store, 3, 5).await;
    drop(store);
    let removed = sample(1).0.cid();
    let path = dir.path().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().retain(|entry| {
        entry["annotations"]["org.opencontainers.image.ref.name"] != removed.to_string().as_str()
    });
    std::fs::write(&path, index.to_string()).unwrap();
    let store = LayoutStore::open(&config).unwrap();
    assert_eq!(store.len(), 4);
    assert_eq!(store.resolve(&removed).await.unwrap(), None);
    assert!(store.resolve(&sample(4).0.cid()).await.unwrap().is_some());
}

#[tokio::test]
async fn artifacts_of_others_survive_our_close() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    drop(LayoutStore::open(&config).unwrap());
    let (record, facts) = sample(7);
    let blob = record.bytes().clone();
    let manifest = format!(
        r#"{{"schemaVersion":2,"layers":[{{"mediaType":"text/plain","digest":"{}","size":{}}}],"config":{{"digest":"{}","size":2}}}}"#,
        record.cid().oci_digest(),
        blob.len(),
        Cid::of(b"{}").oci_digest()
    );
    let plant = Plant { manifest: manifest.into(), blobs: vec![blob], tag: Some("v1".to_owned()) };
    plant_in(dir.path(), &plant);
    let store = LayoutStore::open(&config).unwrap();
    // The same content as a record of ours: deleting that must leave theirs.
    store.put(&record, &facts, at(0), Presence::Unknown).await.unwrap();
    store.delete(&record.cid()).await.unwrap();
    store.close().await.unwrap();
    let seen = read_as_a_tool(dir.path());
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [Some("v1".to_owned())]);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    let refused = LayoutStore::open(&config).unwrap_err();
    assert_eq!(refused.class(), Class::FailedPrecondition);
    assert!(refused.to_string().contains(&format!("process id {}", std::process::id())), "{refused}");
    drop(store);
    LayoutStore::open(&config).unwrap();
}

fn journals(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join(".directory")).unwrap().map(|e| e.unwrap().path());
    let mut out: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "wal")).collect();
    out.sort();
    out
}

#[tokio::test]
async fn an_unfinished_write_at_the_end_of_the_journal_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    fill(&store, 0, 3).await;
    drop(store);
    let journal = journals(dir.path()).pop().unwrap();
    let whole = std::fs::read(&journal).unwrap();
    // Cut anywhere: what was whole before the cut is there, and the store goes on.
    for cut in [whole.len() - 1, whole.len() / 2, 7, 0] {
        let copy = tempfile::tempdir().unwrap();
        let config = LayoutConfig::new(copy.path());
        drop(LayoutStore::open(&config).unwrap());
        for old in journals(copy.path()) {
            std::fs::remove_file(old).unwrap();
        }
        let to = copy.path().join(".directory").join(journal.file_name().unwrap());
        std::fs::write(to, &whole[..cut]).unwrap();
        let store = LayoutStore::open(&config).unwrap();
        assert_eq!(store.len(), cut * 3 / whole.len(), "cut at {cut}");
        fill(&store, 10, 12).await;
        store.close().await.unwrap();
        assert_eq!(read_as_a_tool(copy.path()).len(), store.len());
    }
}

#[tokio::test]
async fn a_damaged_tag_log_loses_nothing_that_the_index_has() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    fill(&store, 0, 10).await;
    store.close().await.unwrap();
    drop(store);
    let log = dir.path().join(".directory/tags.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&log, bytes).unwrap();
    let store = LayoutStore::open(&config).unwrap();
    assert_eq!(store.len(), 10);
}

#[tokio::test]
async fn a_damaged_tag_log_loses_nothing_that_only_files_have() {
    let dir = tempfile::tempdir().unwrap();
    let config = LayoutConfig::new(dir.path());
    let store = LayoutStore::open(&config).unwrap();
    fill(&store, 0, 10).await;
    let (record, _) = sample(4);
    store.put_referrer(&record.cid(), &sample_referrer(&record.cid(), "x"), at(1)).await.unwrap();
    store.delete(&sample(5).0.cid()).await.unwrap();
    drop(store);
    // The next start puts the journal into files and the tag log; `index.json` knows nothing of it yet.
    let store = LayoutStore::open(&config).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while journals(dir.path()).len() > 1 {
        assert!(Instant::now() < deadline, "the journal stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(store);
    let log = dir.path().join(".directory/tags.log");
    let mut bytes = std::fs::read(&log).unwrap();
    for part in 1..4 {
        let at = bytes.len() * part / 5;
        bytes[at] ^= 0x10;
    }
    std::fs::write(&log, bytes).unwrap();
    for _ in 0..2 {
        let store = LayoutStore::open(&config).unwrap();
        assert_eq!(store.len(), 9);
        assert_eq!(store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
        assert_eq!(store.referrers(&record.cid()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_record_above_the_limit_is_refused_and_one_at_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (record, facts) = sample(1);
    let mut config = LayoutConfig::new(dir.path());
    config.limits.max_blob_bytes = record.bytes().len() as u64;
    let store = LayoutStore::open(&config).unwrap();
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    assert_eq!(store.get(&record.cid(), Known::Live).await.unwrap(), record);
    let (longer, facts) = sample(10);
    let refused = store.put(&longer, &facts, at(0), Presence::Absent).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_layout_of_an_unknown_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("oci-layout"), br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let refused = LayoutStore::open(&LayoutConfig::new(dir.path())).unwrap_err();
    assert!(format!("{refused}").contains("2.0.0"), "{refused}");
}

#[tokio::test]
async fn a_filled_directory_is_adopted_whole_and_an_inspection_finds_rot() {
    use dir_core::maintenance::{Depth, Inspected, StoreMaintenance, Trouble};
    use dir_testkit::fill::{Fill, Shape, fill};
    use futures::{StreamExt, TryStreamExt};
    let dir = tempfile::tempdir().unwrap();
    let order = Fill { referrers_every: 10, ..Fill::new(Shape::Layout, 200) };
    let filled = fill(dir.path(), &order, |_| ()).unwrap();
    let store = LayoutStore::open(&LayoutConfig::new(dir.path())).unwrap();
    assert_eq!(store.len(), 200);
    let mut names: Vec<_> = store.names().try_concat().await.unwrap();
    names.sort_unstable();
    let mut expected = filled.cids.clone();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(store.referrers(&filled.cids[10]).await.unwrap().len(), 2, "tagged referrers are adopted");
    let rotten = filled.cids[5];
    let file = dir.path().join("blobs/sha256").join(&rotten.oci_digest()[7..]);
    std::fs::write(file, "mould").unwrap();
    let items: Vec<_> = store.inspect(Depth::Contents, None).map(Result::unwrap).collect().await;
    let found: Vec<_> = items
        .iter()
        .filter_map(|i| if let Inspected::Finding(f) = i { Some((f.trouble, f.cid)) } else { None })
        .collect();
    assert_eq!(found, [(Trouble::Broken, Some(rotten))]);
    assert_eq!(items.iter().filter(|i| **i == Inspected::Referrer).count(), 40);
    assert!(store.recognised().await.unwrap());
    std::fs::remove_file(dir.path().join("oci-layout")).unwrap();
    assert!(!store.recognised().await.unwrap());
}
