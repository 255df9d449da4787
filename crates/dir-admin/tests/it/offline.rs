//! Jobs on a stopped registry's directory: what they refuse, before anything is written, and what they say.

use crate::world::{Ran, run};
use dir_index::{SledConfig, SledIndex};
use dir_testkit::fill::{Fill, Filled, Shape, Tagging, fill};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const RECORDS: u64 = 40;

struct Place {
    root: TempDir,
    filled: Filled,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let order =
            Fill { referrers_every: 4, tagging: Tagging::OwnCid, ..Fill::new(Shape::Single, RECORDS) };
        let filled = fill(&root.path().join("zot"), &order, |_| ()).unwrap();
        Self { root, filled }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `dir-admin store …` on the directory; names of paths after `--index` and `--data-dir` are below the root.
    async fn store(&self, args: &[&str]) -> Ran {
        let zot = self.at("zot").display().to_string();
        let mut words = vec!["store".to_owned()];
        words.extend(args.iter().map(|word| (*word).to_owned()));
        for n in 1..words.len() {
            if ["--index", "--data-dir"].contains(&words[n - 1].as_str()) {
                words[n] = self.at(&words[n]).display().to_string();
            }
        }
        if !args.contains(&"--data-dir") {
            words.extend(["--data-dir".to_owned(), zot]);
        }
        run(&[], &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Every name below the root.
    fn names(&self) -> Vec<PathBuf> {
        let (mut names, mut dirs) = (Vec::new(), vec![self.root.path().to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path.clone());
                }
                names.push(path);
            }
        }
        names.sort();
        names
    }
}

#[tokio::test]
async fn places_that_are_none_are_refused_and_nothing_is_written() {
    let place = Place::new();
    fs::create_dir(place.at("notes")).unwrap();
    fs::write(place.at("notes/records.ndjson"), "{}").unwrap();
    fs::create_dir(place.at("empty")).unwrap();
    let before = place.names();
    for (args, text) in [
        (&["audit", "--index", "notes"][..], "holds something that is no index"),
        (&["audit", "--index", "empty"], "there is no index at"),
        (&["audit", "--index", "absent"], "there is no index at"),
        (&["audit", "--index", "notes/records.ndjson"], "is a file"),
        (&["audit", "--data-dir", "nonexist"], "nonexist (--data-dir)"),
        (&["reindex", "--index", "notes"], "holds something that is no index"),
        (&["reindex", "--index", "zot/dir"], "in the registry's data directory"),
        (&["reindex", "--index", "zot/new"], "in the registry's data directory"),
        (&["reindex", "--index", "new", "--repository", "other"], "holds no repository other"),
        (&["reindex", "--index", "new", "--data-dir", "notes"], "holds no repository dir"),
        (&["reshard", "--to", "sharded", "--yes", "--data-dir", "nonexist"], "nonexist (--data-dir)"),
    ] {
        let ran = place.store(args).await;
        assert_eq!(ran.code, Some(4), "{args:?}: {ran:?}");
        assert!(ran.stdout.contains(text) && ran.stdout.contains("(config)"), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("run it again"), "{args:?}: {ran:?}");
        assert_eq!(place.names(), before, "{args:?}");
    }
    // A conversion has nothing to do with an index.
    let ran = place.store(&["reshard", "--to", "sharded", "--yes", "--index", "new"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[tokio::test]
async fn an_audit_needs_no_index_and_tells_each_finding_once() {
    let place = Place::new();
    let ran = place.store(&["audit"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("store audit ok: 40 record(s)"), "{ran:?}");
    assert!(ran.stdout.contains("index not compared: no --index"), "{ran:?}");
    let ran = place.store(&["audit", "--output", "json"]).await;
    assert_eq!((ran.code, &json(&ran)["clean"]), (Some(0), &true.into()), "{ran:?}");

    let ran = place.store(&["audit", "--from", "nonsense"]).await;
    assert!(ran.code == Some(4) && ran.stderr.contains("next: start without --from"), "{ran:?}");

    let cid = place.filled.cids[0];
    let digest = cid.oci_digest();
    let blob = place.at("zot/dir/blobs").join(digest.replace(':', "/"));
    assert!(blob.is_file(), "{}", blob.display());
    fs::remove_file(blob).unwrap();
    let ran = place.store(&["audit"]).await;
    assert_eq!(ran.code, Some(10), "{ran:?}");
    assert_eq!(ran.stderr.lines().filter(|line| line.contains(&cid.to_string())).count(), 1, "{ran:?}");
}

#[tokio::test]
async fn an_index_is_made_compared_and_left_alone_while_a_server_has_it() {
    let place = Place::new();
    let ran = place.store(&["reindex", "--index", "new"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let last = ran.stderr.lines().rfind(|line| line.starts_with("reindex: ")).unwrap_or_default();
    assert!(last.starts_with("reindex: 40 of 40") && !last.contains("left"), "{ran:?}");
    let left = |end: &str| Path::exists(&place.at(&format!("new.reindex{end}")));
    assert!(!left("") && !left(".lock"));
    for _ in 0..2 {
        let ran = place.store(&["audit", "--index", "new"]).await;
        assert!(ran.code == Some(0) && ran.stdout.contains("index agrees (40 rows)"), "{ran:?}");
        assert!(place.at("new/clean").is_file(), "closed as it was found");
    }
    let held = SledIndex::open(SledConfig::new(place.at("new"))).unwrap();
    for job in ["audit", "reindex"] {
        let ran = place.store(&[job, "--index", "new"]).await;
        assert!(ran.code == Some(4) && ran.stdout.contains("in use by another process"), "{ran:?}");
        assert!(ran.stderr.contains("next: stop the server"), "{ran:?}");
    }
    drop(held);
}
