//! The chunks that a clean close saves: read at the next start, and never believed when they should not be.

use dir_core::Timestamp;
use dir_core::index::{Change, RecordIndex};
use dir_core::query::{Filter, Query, QueryKind};
use dir_index::{MemoryIndex, SledConfig, SledIndex};
use dir_testkit::catalogue::Catalogue;
use dir_testkit::generate::Generator;
use dir_testkit::index_conformance::{cid, everything, fill, named};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn open(dir: &Path) -> SledIndex {
    SledIndex::open(SledConfig { chunk_records: 32, ..SledConfig::new(dir.join("index")) }).unwrap()
}

fn saved(dir: &Path) -> PathBuf {
    dir.join("index/chunks")
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
        let anew = std::fs::read(saved(dir.path())).unwrap().len();
        assert!(anew > end * 3 / 4 && anew < end * 5 / 4, "saved anew: {anew} bytes, {end} before");
    }
}

/// Records that come, and those that go.
type Round = (std::ops::Range<u64>, fn(u64) -> bool);

/// Records enough for texts to be kept as codes.
const MANY: u64 = 3_000;

fn asked(kind: QueryKind, value: &str) -> Query {
    Query { filters: vec![Filter { kind, value: value.to_owned(), negate: false }], ..Query::default() }
}

/// The same rows and the same answers as an index that was never closed and keeps its texts as they are.
async fn same(index: &SledIndex, other: &MemoryIndex) {
    use QueryKind as K;
    assert_eq!(index.len(), other.len());
    let all = other.cids(None, usize::MAX).await.unwrap();
    assert_eq!(index.cids(None, usize::MAX).await.unwrap(), all);
    for cid in &all {
        assert_eq!(index.row(cid).await.unwrap(), other.row(cid).await.unwrap());
    }
    let name = other.row(&all[0]).await.unwrap().unwrap().facts.name.to_uppercase();
    for query in [
        Query::default(),
        asked(K::Name, &name),
        asked(K::Name, &format!("{}*", &name[..8])),
        asked(K::Name, "*invoice-a?s*"),
        asked(K::Author, "fischer"),
        asked(K::Description, "*networking*works beside*"),
        asked(K::CreatedAt, ">=2025-06-01"),
        asked(K::Locator, "helm_chart:*payroll*"),
        asked(K::SkillName, "tool_interaction/*"),
        asked(K::DomainId, "201"),
        asked(K::Annotation, "tier:gold"),
    ] {
        let (found, expected) = (everything(index, &query, 500).await, everything(other, &query, 500).await);
        assert_eq!(found, expected, "{query:?}");
        assert!(!found.is_empty() || index.len() < MANY, "{query:?}");
    }
    assert_eq!(index.values(K::Author).await.unwrap(), other.values(K::Author).await.unwrap());
}

#[tokio::test]
async fn what_was_saved_answers_as_if_it_had_never_been_closed() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let config = SledConfig { chunk_records: 1_000, ..SledConfig::new(dir.path().join("index")) };
        SledIndex::open(config).unwrap()
    };
    let (catalogue, other) = (Catalogue::new(7, MANY), MemoryIndex::new());
    let put = |n: u64| {
        let at = Timestamp(i64::try_from(n).unwrap());
        Change::Put { cid: cid(n), facts: Arc::new(catalogue.facts(n)), at, event: None, owner: None }
    };
    let delete = |n: u64| Change::Delete { cid: cid(n), at: Timestamp(0), event: None };
    // Whole chunks; a part of one; one that half of the records left; several that nearly all left.
    let rounds: [Round; 4] = [
        (0..MANY, |_| false),
        (MANY..MANY + 700, |n| n % 16 == 5),
        (0..0, |n| n < 1_000 && n % 2 == 1),
        (0..0, |n| n >= 1_000 && n % 8 != 0),
    ];
    let mut sizes = Vec::new();
    for (new, gone) in rounds {
        let changes: Vec<Change> =
            new.map(put).chain((0..MANY + 700).filter(|n| gone(*n)).map(delete)).collect();
        let index = open();
        index.apply(changes.clone()).await.unwrap();
        other.apply(changes).await.unwrap();
        same(&index, &other).await;
        index.close().await.unwrap();
        drop(index);
        sizes.push(std::fs::metadata(saved(dir.path())).unwrap().len());
        let index = open();
        same(&index, &other).await;
        // It goes on from there: records leave frozen texts and join them.
        let both = vec![delete(0), put(0)];
        index.apply(both.clone()).await.unwrap();
        other.apply(both).await.unwrap();
        same(&index, &other).await;
        index.close().await.unwrap();
    }
    // What records left behind is not saved for ever.
    assert!(sizes[3] < sizes[1] / 2, "{sizes:?}");
}
