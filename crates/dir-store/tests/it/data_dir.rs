//! The data directory of a stopped registry, read and converted.

use dir_core::maintenance::{Depth, Inspected, Reshard, Spread, StoreMaintenance, Trouble};
use dir_core::store::{Known, RecordStore, WalkMark, Walked};
use dir_core::{Cid, Class, Classified};
use dir_store::{DataDirConfig, DataDirStore, Limits};
use dir_testkit::fill::{Fill, Filled, Shape, Tagging, fill};
use futures::StreamExt;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const RECORDS: u64 = 90;

/// More steps than there are before the last.
pub(crate) const RECORDS_MAX: usize = 91;

fn order(shape: Shape, tagging: Tagging) -> Fill {
    Fill { referrers_every: 5, tagging, ..Fill::new(shape, RECORDS) }
}

pub(crate) fn filled(dir: &Path, shape: Shape) -> Filled {
    fill(dir, &order(shape, Tagging::OwnCid), |_| ()).unwrap()
}

fn open(dir: &Path) -> DataDirStore {
    let config = DataDirConfig { root: dir.to_owned(), repository: "dir".into(), limits: Limits::default() };
    DataDirStore::open(config).unwrap()
}

fn refusal(dir: &Path, repository: &str) -> String {
    let config =
        DataDirConfig { root: dir.to_owned(), repository: repository.into(), limits: Limits::default() };
    DataDirStore::open(config).unwrap_err().to_string()
}

/// What each repository lists, without the stamp, and the blobs it has.
pub(crate) fn content(dir: &Path) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir()) {
        let index: Value =
            serde_json::from_slice(&fs::read(entry.path().join("index.json")).unwrap()).unwrap();
        let list = index["manifests"].as_array().unwrap().iter();
        let list =
            list.filter(|d| d["annotations"]["org.opencontainers.image.ref.name"] != "directory.layout");
        let list: BTreeSet<String> = list.map(ToString::to_string).collect();
        let blobs = fs::read_dir(entry.path().join("blobs/sha256")).unwrap();
        let blobs = blobs.map(|b| b.unwrap().file_name().into_string().unwrap()).collect();
        if !list.is_empty() {
            out.insert(entry.file_name().into_string().unwrap(), (list, blobs));
        }
    }
    out
}

/// Runs a conversion for so many steps; answers whether it came to its end, and what it moved.
pub(crate) async fn convert(dir: &Path, to: Spread, steps: usize) -> (bool, u64, u64) {
    let store = open(dir);
    let mut items = store.reshard(to, false, &[]).take(steps);
    let (mut done, mut moved, mut referrers) = (false, 0, 0);
    while let Some(item) = items.next().await {
        match item.unwrap() {
            Reshard::Done => done = true,
            Reshard::Moved(_, n) => {
                moved += 1;
                referrers += n;
            }
            Reshard::Left(finding) => panic!("{finding:?}"),
            Reshard::Total(_) | Reshard::Passed => {}
        }
    }
    (done, moved, referrers)
}

/// Everything is found, as it should be, by a walk, by name and by an inspection.
pub(crate) async fn check(dir: &Path, filled: &Filled) {
    let store = open(dir);
    let walked: Vec<_> = store.walk(None).map(Result::unwrap).collect().await;
    let records: BTreeSet<Cid> =
        walked.iter().filter_map(|w| if let Walked::Record(s) = w { Some(s.cid) } else { None }).collect();
    assert_eq!(records, filled.cids.iter().copied().collect());
    for cid in filled.cids.iter().step_by(50) {
        assert_eq!(store.get(cid, Known::Unknown).await.unwrap().cid(), *cid);
    }
    let seen: Vec<_> = store.inspect(Depth::Contents, None).map(Result::unwrap).collect().await;
    let count = |wanted: fn(&Inspected) -> bool| seen.iter().filter(|i| wanted(i)).count() as u64;
    assert_eq!(count(|i| matches!(i, Inspected::Finding(_))), 0);
    let seen = (count(|i| matches!(i, Inspected::Record(_))), count(|i| matches!(i, Inspected::Referrer)));
    let whole = (filled.cids.len() as u64, filled.referrers);
    // What is in both places in the middle of a conversion is looked at twice.
    let doubled = store.layout().1;
    assert!(seen == whole || doubled && seen.0 >= whole.0 && seen.1 >= whole.1, "{seen:?} of {whole:?}");
}

#[tokio::test]
async fn converted_is_what_would_have_been_filled_so_and_back_again() {
    for tagging in [Tagging::OwnCid, Tagging::Untagged] {
        let (single, sharded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let filled = fill(single.path(), &order(Shape::Single, tagging), |_| ()).unwrap();
        fill(sharded.path(), &order(Shape::Sharded, tagging), |_| ()).unwrap();
        let (before, wanted) = (content(single.path()), content(sharded.path()));
        check(single.path(), &filled).await;
        let inode = inode_of(&single.path().join("dir"), &filled.cids[0]);

        let count = filled.cids.len() as u64;
        assert_eq!(
            convert(single.path(), Spread::Sharded, usize::MAX).await,
            (true, count, filled.referrers)
        );
        assert_eq!(content(single.path()), wanted);
        let home = format!("dir-{:03x}", filled.cids[0].shard());
        assert_eq!(inode_of(&single.path().join(home), &filled.cids[0]), inode, "linked, not copied");
        assert_eq!(open(single.path()).layout(), ("sharded", false));
        check(single.path(), &filled).await;

        assert_eq!(convert(single.path(), Spread::Single, usize::MAX).await.1, count);
        // The stamp brings the empty blob, which records have as well.
        assert_eq!(content(single.path())["dir"].0, before["dir"].0);
        assert_eq!(content(single.path()).len(), 1);
        check(single.path(), &filled).await;
        assert_eq!(
            convert(single.path(), Spread::Single, usize::MAX).await,
            (true, 0, 0),
            "nothing is left to do"
        );
    }
}

fn inode_of(repository: &Path, cid: &Cid) -> u64 {
    let digest = cid.oci_digest();
    fs::metadata(repository.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap().ino()
}

#[tokio::test]
async fn cut_off_anywhere_it_is_whole_in_between_and_goes_on() {
    for steps in [0, 1, 40, RECORDS_MAX] {
        let dir = tempfile::tempdir().unwrap();
        let filled = filled(dir.path(), Shape::Single);
        let records = filled.cids.len();
        let (done, ..) = convert(dir.path(), Spread::Sharded, steps).await;
        assert!(!done || steps > records, "{steps}");
        if steps > 0 {
            assert_eq!(
                open(dir.path()).layout(),
                ("sharded", true),
                "{steps}: a server looks in both places"
            );
        }
        check(dir.path(), &filled).await;
        // Another attempt, and then a change of mind.
        assert!(convert(dir.path(), Spread::Sharded, steps / 2).await.1 <= records as u64);
        check(dir.path(), &filled).await;
        assert!(convert(dir.path(), Spread::Single, usize::MAX).await.0);
        check(dir.path(), &filled).await;
        assert!(convert(dir.path(), Spread::Sharded, usize::MAX).await.0);
        let wanted = tempfile::tempdir().unwrap();
        self::filled(wanted.path(), Shape::Sharded);
        assert_eq!(content(dir.path()), content(wanted.path()), "{steps}");
    }
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path(), Shape::Single);
    let index = fs::read(dir.path().join("dir/index.json")).unwrap();
    let store = open(dir.path());
    let steps: Vec<_> = store.reshard(Spread::Sharded, true, &[]).map(Result::unwrap).collect().await;
    assert_eq!(steps.iter().filter(|s| matches!(s, Reshard::Moved(..))).count(), filled.cids.len());
    assert_eq!(fs::read(dir.path().join("dir/index.json")).unwrap(), index);
    let directories = fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(directories.count(), 1);
}

#[tokio::test]
async fn what_is_broken_or_foreign_stays_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path(), Shape::Single);
    let digest = filled.cids[3].oci_digest();
    fs::remove_file(dir.path().join("dir/blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap();
    let path = dir.path().join("dir/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let odd = serde_json::json!({ "mediaType": "x", "digest": "sha512:00", "size": 1 });
    index["manifests"].as_array_mut().unwrap().push(odd.clone());
    fs::write(&path, index.to_string()).unwrap();
    let store = open(dir.path());
    let seen: Vec<_> = store.inspect(Depth::Manifests, None).map(Result::unwrap).collect().await;
    let found = |i: &Inspected| matches!(i, Inspected::Finding(f) if f.trouble == Trouble::Broken && f.cid == Some(filled.cids[3]));
    assert_eq!(seen.iter().filter(|i| found(i)).count(), 1);
    let steps: Vec<_> = store.reshard(Spread::Sharded, false, &[]).map(Result::unwrap).collect().await;
    let left: Vec<_> =
        steps.iter().filter_map(|s| if let Reshard::Left(f) = s { Some(f) } else { None }).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].cid, left[0].trouble), (Some(filled.cids[3]), Trouble::Broken));
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(index["manifests"].as_array().unwrap().contains(&odd), "{index}");
}

#[test]
fn other_directories_are_refused_with_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal(&dir.path().join("absent"), "dir").contains("find "));
    assert!(refusal(dir.path(), "dir").contains("holds no repository dir"));
    filled(dir.path(), Shape::Single);
    assert!(refusal(dir.path(), "other").contains("holds no repository other"));
    assert!(refusal(&dir.path().join("dir"), "dir").contains("is itself one image layout"));
    let distribution = tempfile::tempdir().unwrap();
    fs::create_dir_all(distribution.path().join("docker/registry/v2/repositories")).unwrap();
    assert!(refusal(distribution.path(), "dir").contains("not Zot"));
    fs::write(dir.path().join("dir/index.json"), "{").unwrap();
    assert!(refusal(dir.path(), "dir").contains("is no OCI index"));
}

#[tokio::test]
async fn a_registry_at_work_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), Shape::Single);
    let store = open(dir.path());
    // A database that somebody holds locked.
    let database = fs::File::create(dir.path().join("cache.db")).unwrap();
    database.try_lock().unwrap();
    assert!(refusal(dir.path(), "dir").contains("cache.db is in use: stop the registry first"));
    let first = store.reshard(Spread::Sharded, false, &[]).next().await.unwrap();
    assert!(first.unwrap_err().to_string().contains("stop the registry first"));
    drop(database);
    // Somebody writes while the conversion is at work.
    let mut steps = store.reshard(Spread::Sharded, false, &[]);
    steps.next().await.unwrap().unwrap();
    let path = dir.path().join("dir/index.json");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push('\n');
    fs::write(&path, text).unwrap();
    let rest: Vec<_> = steps.collect().await;
    let error = rest.into_iter().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("has changed meanwhile: stop the registry first"), "{error}");
}

/// Adds something that refers to a manifest, as Zot lists it without a tag; answers its digest.
fn attach(repository: &Path, subject: &str, note: &str) -> String {
    let blob = repository.join("blobs/sha256");
    let write = |bytes: &[u8]| {
        let digest = Cid::of(bytes).oci_digest();
        fs::write(blob.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        digest
    };
    let empty = serde_json::json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": write(b"{}"), "size": 2 });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let layer = serde_json::json!({ "mediaType": "text/plain", "digest": write(note.as_bytes()), "size": note.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "config": empty, "layers": [layer],
        "subject": { "mediaType": media_type, "digest": subject, "size": 1 },
    });
    let manifest = manifest.to_string();
    let digest = write(manifest.as_bytes());
    let path = repository.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = serde_json::json!({ "mediaType": media_type, "digest": digest, "size": manifest.len() });
    // In front of everything: the order of the list says nothing of who refers to whom.
    index["manifests"].as_array_mut().unwrap().insert(0, entry);
    fs::write(&path, index.to_string()).unwrap();
    digest
}

#[tokio::test]
async fn referrers_of_referrers_go_along_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path(), Shape::Single);
    let repository = dir.path().join("dir");
    let index: Value = serde_json::from_slice(&fs::read(repository.join("index.json")).unwrap()).unwrap();
    let record = filled.cids[7];
    let tag = |d: &&Value| d["annotations"]["org.opencontainers.image.ref.name"] == record.to_string();
    let manifest = index["manifests"].as_array().unwrap().iter().find(tag).unwrap()["digest"].clone();
    let scan = attach(&repository, manifest.as_str().unwrap(), "scan");
    let signature = attach(&repository, &scan, "signature of the scan");
    let witness = attach(&repository, &signature, "witness of the signature");
    let before = content(dir.path());
    let (_, _, referrers) = convert(dir.path(), Spread::Sharded, usize::MAX).await;
    assert_eq!(referrers, filled.referrers + 3);
    let (list, blobs) = &content(dir.path())[&format!("dir-{:03x}", record.shard())];
    for digest in [scan, signature, witness] {
        assert!(list.iter().any(|entry| entry.contains(&digest)), "{digest}");
        assert!(blobs.contains(digest.trim_start_matches("sha256:")));
    }
    assert!(!content(dir.path()).contains_key("dir"), "nothing is left behind");
    convert(dir.path(), Spread::Single, usize::MAX).await;
    assert_eq!(content(dir.path())["dir"].0, before["dir"].0);
}

#[tokio::test]
async fn manifests_that_are_cut_empty_or_changed_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path(), Shape::Single);
    let index: Value = serde_json::from_slice(&fs::read(dir.path().join("dir/index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let mut harmed = BTreeSet::new();
    for (n, cid) in filled.cids[..3].iter().enumerate() {
        let tag = Value::from(cid.to_string());
        let entry =
            manifests.iter().find(|m| m["annotations"]["org.opencontainers.image.ref.name"] == tag).unwrap();
        let digest = entry["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let path = dir.path().join("dir/blobs/sha256").join(digest);
        let whole = fs::read_to_string(&path).unwrap();
        let harm = [&whole[..whole.len() / 2], "", &whole.replace("record", "picture")][n].to_owned();
        fs::write(&path, harm).unwrap();
        harmed.insert(*cid);
    }
    let store = open(dir.path());
    let walked: Vec<_> = store.walk(None).map(Result::unwrap).collect().await;
    let unreadable =
        walked.iter().filter_map(|w| if let Walked::Unreadable { cid, .. } = w { Some(*cid) } else { None });
    assert_eq!(unreadable.collect::<BTreeSet<_>>(), harmed);
    let steps: Vec<_> = store.reshard(Spread::Sharded, true, &[]).map(Result::unwrap).collect().await;
    let left = steps.iter().filter_map(|s| if let Reshard::Left(f) = s { f.cid } else { None });
    assert_eq!(left.collect::<BTreeSet<_>>(), harmed, "they are named, not passed by");
    let seen: Vec<_> = store.inspect(Depth::Manifests, None).map(Result::unwrap).collect().await;
    let broken = |i: &Inspected| match i {
        Inspected::Finding(f) if f.trouble == Trouble::Broken => {
            assert!(f.detail.contains("does not hash to its digest"), "{f:?}");
            assert_eq!(f.place, "dir");
            f.cid
        }
        Inspected::Finding(f) => panic!("{f:?}"),
        _ => None,
    };
    assert_eq!(seen.iter().filter_map(broken).collect::<BTreeSet<_>>(), harmed);
}

#[tokio::test]
async fn a_mark_that_is_not_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), Shape::Single);
    let store = open(dir.path());
    let all: Vec<_> = store.inspect(Depth::Manifests, None).map(Result::unwrap).collect().await;
    let mark = all.into_iter().rev().find_map(|i| if let Inspected::Mark(m) = i { Some(m) } else { None });
    assert!(store.inspect(Depth::Manifests, mark).all(async |item| item.is_ok()).await);
    for text in ["shard:00a", "tag:x", "nonsense", ""] {
        let mark = WalkMark(text.to_owned());
        let items: Vec<_> = store.inspect(Depth::Manifests, Some(mark)).collect().await;
        let [Err(error)] = &items[..] else { panic!("{text}: {items:?}") };
        assert!(error.to_string().contains("is not of a registry's data directory"), "{error}");
        assert_eq!(error.class(), Class::FailedPrecondition);
    }
}
