//! The rows that a clean close saves: read at the next start, and never believed when they should not be.

use dir_core::Timestamp;
use dir_core::index::{Change, RecordIndex};
use dir_core::query::Query;
use dir_index::{SledConfig, SledIndex};
use dir_testkit::generate::Generator;
use dir_testkit::index_conformance::{cid, everything, fill, named};
use std::path::{Path, PathBuf};

fn open(dir: &Path) -> SledIndex {
    SledIndex::open(SledConfig { chunk_records: 32, ..SledConfig::new(dir.join("index")) }).unwrap()
}

fn saved(dir: &Path) -> PathBuf {
    dir.join("index/rows")
}

/// A change of the time of record 1 that leaves no event.
fn again(at: i64) -> Vec<Change> {
    vec![
        Change::Delete { cid: cid(1), at: Timestamp(at), event: None },
        Change::Put { cid: cid(1), facts: named("x"), at: Timestamp(at), event: None, owner: None },
    ]
}

async fn time_of_record_1(index: &SledIndex) -> Timestamp {
    index.row(&cid(1)).await.unwrap().unwrap().indexed_at
}

#[tokio::test]
async fn saved_rows_are_read_after_a_clean_close_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(again(1)).await.unwrap();
    index.close().await.unwrap();
    drop(index);
    let first = std::fs::read(saved(dir.path())).unwrap();
    let index = open(dir.path());
    index.apply(again(2)).await.unwrap();
    index.close().await.unwrap();
    drop(index);
    // The same set of rows, of another time: who reads the file believes it.
    let second = std::fs::read(saved(dir.path())).unwrap();
    assert_ne!(first, second);
    std::fs::write(saved(dir.path()), &first).unwrap();
    let index = open(dir.path());
    assert_eq!(time_of_record_1(&index).await, Timestamp(1));
    // Without a clean close the tree is what counts, and what was saved before is gone for good.
    drop(index);
    let index = open(dir.path());
    assert_eq!(time_of_record_1(&index).await, Timestamp(2));
    assert!(!saved(dir.path()).exists());
    index.close().await.unwrap();
    drop(index);
    assert_eq!(std::fs::read(saved(dir.path())).unwrap(), second);
    assert_eq!(time_of_record_1(&open(dir.path())).await, Timestamp(2));
}

#[tokio::test]
async fn saved_rows_that_are_damaged_cut_off_or_missing_change_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(53);
    let index = open(dir.path());
    let rows = fill(&index, (0..70).map(|_| generator.facts()).collect()).await;
    let order = everything(&index, &Query::default(), 100).await;
    index.close().await.unwrap();
    drop(index);
    let whole = std::fs::read(saved(dir.path())).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        Some(bytes)
    };
    let cut = |len: usize| Some(whole[..len].to_vec());
    let end = whole.len();
    let cases = [flipped(0), flipped(5), flipped(12), flipped(50), flipped(end / 2), flipped(end - 1)];
    for bytes in cases.into_iter().chain([cut(0), cut(3), cut(end / 2), cut(end - 1), None]) {
        match bytes {
            Some(bytes) => std::fs::write(saved(dir.path()), bytes).unwrap(),
            None => std::fs::remove_file(saved(dir.path())).unwrap(),
        }
        let index = open(dir.path());
        for row in &rows {
            assert_eq!(index.row(&row.cid).await.unwrap().as_ref(), Some(row));
        }
        assert_eq!(everything(&index, &Query::default(), 100).await, order);
        index.close().await.unwrap();
        drop(index);
        assert_eq!(std::fs::read(saved(dir.path())).unwrap().len(), end, "saved anew");
    }
}
