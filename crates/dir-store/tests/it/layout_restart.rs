//! An image layout directory goes on turning its journal into files after every kind of restart.

use dir_core::store::{Known, Presence, RecordStore};
use dir_store::{LayoutConfig, LayoutStore};
use dir_testkit::store_conformance::{at, sample};
use std::path::Path;
use std::time::{Duration, Instant};

/// Records between two restarts: many segments.
const RECORDS: usize = 120;

fn open(dir: &Path) -> LayoutStore {
    LayoutStore::open(&LayoutConfig { segment_bytes: 4 << 10, ..LayoutConfig::new(dir) }).unwrap()
}

/// Numbers of the journal segments that are not in files yet.
fn segments(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join(".directory")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("journal")).collect()
}

#[tokio::test]
async fn the_journal_is_written_into_files_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..4 {
        let store = open(dir.path());
        let (mut most, begun) = (0, Instant::now());
        for n in run * RECORDS..(run + 1) * RECORDS {
            let (record, facts) = sample(n);
            store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
            most = most.max(segments(dir.path()).len());
        }
        assert!(most > 1, "the journal was turned over: {most}");
        // All but the one that is being written goes, while the store stays open.
        while segments(dir.path()).len() > 1 {
            assert!(begun.elapsed() < Duration::from_secs(60), "run {run}: {:?}", segments(dir.path()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for n in 0..(run + 1) * RECORDS {
            store.get(&sample(n).0.cid(), Known::Live).await.unwrap();
        }
        // In turns closed in order, and as after a crash.
        if run % 2 == 0 {
            store.close().await.unwrap();
        }
        drop(store);
    }
    assert_eq!(open(dir.path()).len(), 4 * RECORDS);
}
