//! The sled adapter: conformance, restarts, damage.

use dir_core::index::{Change, IndexError, RecordIndex, Usage};
use dir_core::query::{Query, QueryKind, Sort};
use dir_core::{Clock, EventKind, Timestamp};
use dir_index::{MIN_CACHE_BYTES, SledConfig, SledIndex, open_or_set_aside};
use dir_testkit::generate::{Generator, Numbers};
use dir_testkit::index_conformance::{Subject, cid, delete, everything, fill, named, one, put};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod usual {
    use super::*;

    fn make() -> Subject {
        let dir = tempfile::tempdir().unwrap();
        let index = SledIndex::open(SledConfig::new(dir.path().join("index"))).unwrap();
        Subject { index: Arc::new(index), keep: Box::new(dir) }
    }

    dir_testkit::index_conformance!(make);
}

mod reopened {
    use super::*;

    /// Starts from what a restart finds: records came and went, and the files are those of a closed index.
    fn make() -> Subject {
        let dir = tempfile::tempdir().unwrap();
        let config = SledConfig { chunk_records: 11, ..SledConfig::new(dir.path().join("index")) };
        drop(SledIndex::open(config.clone()).unwrap());
        let index = SledIndex::open(config).unwrap();
        Subject { index: Arc::new(index), keep: Box::new(dir) }
    }

    dir_testkit::index_conformance!(make);
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").unwrap()
    }
}

fn config(dir: &Path) -> SledConfig {
    SledConfig { chunk_records: 32, ..SledConfig::new(dir.join("index")) }
}

#[tokio::test]
async fn a_restart_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(41);
    let index = SledIndex::open(config(dir.path())).unwrap();
    let mut rows = fill(&index, (0..150).map(|_| generator.facts()).collect()).await;
    index.apply((0..20).map(|n| delete(n, 5)).collect()).await.unwrap();
    rows.drain(..20);
    for (row, pulls) in rows.iter_mut().zip([3, 1, 300]) {
        row.usage = Usage { pulls, lookups: 1 };
    }
    index.add_usage(rows.iter().map(|row| (row.cid, row.usage)).collect()).await.unwrap();
    let query = Query { sort: Sort::Popularity, ..one(QueryKind::SkillName, "*") };
    let (order, events) = (everything(&index, &query, 9).await, index.events(0, 100).await.unwrap());
    assert_eq!((order.len(), events.len()), (130, 20));
    drop(index);
    for clean in [true, false, true] {
        let index = SledIndex::open(config(dir.path())).unwrap();
        for row in &rows {
            assert_eq!(index.row(&row.cid).await.unwrap().as_ref(), Some(row));
        }
        assert_eq!(everything(&index, &query, 9).await, order);
        assert_eq!(index.events(0, 100).await.unwrap(), events);
        if clean {
            index.close().await.unwrap();
        }
    }
    // The log goes on where it was.
    let index = SledIndex::open(config(dir.path())).unwrap();
    let seq = index.apply(vec![put(999, &named("x"), 1)]).await.unwrap()[0].seq;
    assert_eq!(seq, Some(events.last().unwrap().seq + 1));
}

#[tokio::test]
async fn the_event_log_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let config = SledConfig { event_retention: 300, ..config(dir.path()) };
    let index = SledIndex::open(config.clone()).unwrap();
    for n in 0..10 {
        index.apply((0..100).map(|m| put(n * 100 + m, &named("x"), 1)).collect()).await.unwrap();
        let kept = index.events(0, 10_000).await.unwrap();
        let expected = usize::try_from((n + 1) * 100).unwrap();
        assert!(kept.len() >= expected.min(300) && kept.len() < 300 + 128, "{} kept", kept.len());
        assert_eq!(kept.last().unwrap().seq, (n + 1) * 100);
    }
    drop(index);
    let index = SledIndex::open(config).unwrap();
    let kept = index.events(0, 10_000).await.unwrap();
    assert!(kept.len() >= 300 && kept.last().unwrap().seq == 1_000);
}

/// sled's background writes outlive its handle by a moment; opening waits for them.
#[tokio::test]
async fn an_index_that_was_just_dropped_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledIndex::open(config(dir.path())).unwrap());
    let file = std::fs::File::open(config(dir.path()).path.join("db").join("db")).unwrap();
    file.try_lock().unwrap();
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(file);
    });
    assert!(SledIndex::open(config(dir.path())).unwrap().is_empty());
    late.join().unwrap();
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for place in [file.clone(), file.join("below")] {
        let text = SledIndex::open(config(&place)).err().unwrap().to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let first = SledIndex::open(config(dir.path())).unwrap();
    let refused = SledIndex::open(config(dir.path())).err().unwrap();
    assert!(matches!(refused, IndexError::Backend { .. }));
    let text = refused.to_string();
    assert!(text.contains("in use by another process") && text.contains("pid "), "{text}");
    assert!(open_or_set_aside(config(dir.path()), &Noon).is_err());
    assert!(first.apply(vec![put(1, &named("x"), 1)]).await.unwrap()[0].changed);
    drop(first);
    assert_eq!(SledIndex::open(config(dir.path())).unwrap().len(), 1);
}

#[tokio::test]
async fn a_cache_that_is_too_small_is_raised() {
    for cache_bytes in [0, MIN_CACHE_BYTES - 1, MIN_CACHE_BYTES] {
        let dir = tempfile::tempdir().unwrap();
        let index = SledIndex::open(SledConfig { cache_bytes, ..config(dir.path()) }).unwrap();
        assert!(index.apply(vec![put(1, &named("x"), 1)]).await.unwrap()[0].changed);
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index"), "a file, no directory").unwrap();
    let error = open_or_set_aside(config(dir.path()), &Noon).err().unwrap();
    assert!(matches!(error, IndexError::Backend { .. }), "{error}");
}

/// Every file of an index, with its content.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

/// Opens a possibly damaged index: either it is set aside, or everything in it is as it was.
async fn right_or_set_aside(dir: &Path, rows: &[dir_core::index::Row]) -> bool {
    let opened = open_or_set_aside(config(dir), &Noon).unwrap();
    let index = opened.index;
    if let Some(aside) = opened.set_aside {
        assert!(index.is_empty() && aside.path.is_dir() && !aside.reason.is_empty());
        assert!(index.apply(vec![put(1, &named("rebuilt"), 1)]).await.unwrap()[0].changed);
        drop(index);
        std::fs::remove_dir_all(aside.path).unwrap();
        return true;
    }
    assert_eq!(index.len(), rows.len() as u64);
    for row in rows {
        assert_eq!(index.row(&row.cid).await.unwrap().as_ref(), Some(row));
    }
    match index.events(0, 1_000).await {
        Ok(events) => assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]),
        Err(error) => assert!(matches!(error, IndexError::Damaged(_)), "{error}"),
    }
    false
}

async fn populated(dir: &Path) -> Vec<dir_core::index::Row> {
    let mut generator = Generator::new(43);
    let index = SledIndex::open(config(dir)).unwrap();
    let mut rows = fill(&index, (0..120).map(|_| generator.facts()).collect()).await;
    index.apply((0..3).map(|n| delete(n, 5)).collect()).await.unwrap();
    rows.drain(..3);
    index.close().await.unwrap();
    rows
}

/// Writes the files of a closed index anew, each as `change` makes it.
fn restore(dir: &Path, pristine: &[(PathBuf, Vec<u8>)], mut change: impl FnMut(usize, &mut Vec<u8>)) {
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    std::fs::create_dir_all(dir.join("index/db/blobs")).unwrap();
    for (n, (path, bytes)) in pristine.iter().enumerate() {
        let mut bytes = bytes.clone();
        change(n, &mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn flipped_bits_never_change_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let rows = populated(dir.path()).await;
    let pristine = files(&dir.path().join("index"));
    restore(dir.path(), &pristine, |_, _| {});
    assert!(!right_or_set_aside(dir.path(), &rows).await, "the copy itself is not what was copied");
    let mut numbers = Numbers::new(47);
    let mut noticed = 0;
    let rounds = 60;
    for round in 0..rounds {
        // One to three bits, where something was written, in each file in turn.
        let flips = 1 + round % 3;
        restore(dir.path(), &pristine, |n, bytes| {
            let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            if n == round % pristine.len() && !written.is_empty() {
                for _ in 0..flips {
                    bytes[*numbers.pick(&written)] ^= 1 << numbers.below(8);
                }
            }
        });
        noticed += usize::from(right_or_set_aside(dir.path(), &rows).await);
    }
    assert!(noticed > rounds / 4, "only {noticed} of {rounds} were noticed");
}

#[tokio::test]
async fn a_tail_that_is_gone_is_noticed_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let index = SledIndex::open(config(dir.path())).unwrap();
    index.apply(vec![put(1, &named("x"), 1)]).await.unwrap();
    index.close().await.unwrap();
    let old = files(&dir.path().join("index"));
    let index = SledIndex::open(config(dir.path())).unwrap();
    index.apply(vec![put(2, &named("y"), 2)]).await.unwrap();
    index.close().await.unwrap();
    // Consistent, but of an earlier time: what recovery makes of a lost tail.
    for (path, _) in files(&dir.path().join("index")) {
        if path.file_name().unwrap() != "clean" {
            std::fs::remove_file(&path).unwrap();
        }
    }
    for (path, bytes) in old {
        if path.file_name().unwrap() != "clean" {
            std::fs::write(path, bytes).unwrap();
        }
    }
    let error = SledIndex::open(config(dir.path())).err().unwrap();
    assert!(matches!(error, IndexError::Damaged(_)), "{error}");
    let opened = open_or_set_aside(config(dir.path()), &Noon).unwrap();
    let aside = opened.set_aside.unwrap();
    assert_eq!(aside.path, dir.path().join("index.damaged-20260301T120000Z"));
    assert!(aside.reason.contains("closed with 2 rows"), "{}", aside.reason);
}

#[tokio::test]
async fn an_unfinished_snapshot_of_a_killed_process_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let rows = populated(dir.path()).await;
    let left = dir.path().join("index/db/snap.00000000000FFFFF.generating");
    std::fs::write(&left, b"half of a snapshot").unwrap();
    assert!(!right_or_set_aside(dir.path(), &rows).await);
    assert!(!left.exists());
}

#[tokio::test]
async fn a_rebuild_fills_an_index_without_events() {
    let dir = tempfile::tempdir().unwrap();
    let index = SledIndex::open(config(dir.path())).unwrap();
    let put = |n| Change::Put { cid: cid(n), facts: named("x"), at: Timestamp(7), event: None, owner: None };
    index.apply((0..400).map(put).collect()).await.unwrap();
    drop(index);
    let index = SledIndex::open(config(dir.path())).unwrap();
    assert_eq!((index.len(), index.events(0, 9).await.unwrap().len()), (400, 0));
    assert_eq!(everything(&index, &Query::default(), 100).await.len(), 400);
    let pulled = Change::Put {
        cid: cid(1),
        facts: named("x"),
        at: Timestamp(8),
        event: Some(EventKind::RecordPulled),
        owner: None,
    };
    assert_eq!(index.apply(vec![pulled]).await.unwrap()[0].seq, Some(1));
}
