//! The index from the store.

use crate::world::{World, cid};
use bytes::Bytes;
use dir_core::index::RecordIndex;
use dir_core::store::{Known, Presence, RecordStore, WalkMark};
use dir_core::{Class, Classified, Record, RecordFacts, Timestamp};
use dir_engine::{EngineConfig, Journaled, MemoryJournal, RebuildJournal, RebuildState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

/// A world with so many records in its store, one second apart, and a new index over that store.
async fn aged(records: i64) -> (World, World) {
    let old = World::new();
    for n in 0..records {
        old.clock.set(1_700_000_000 + n);
        old.push(&format!("r{n}")).await.unwrap();
    }
    let new = World::over(old.store.clone(), EngineConfig::default());
    (old, new)
}

async fn rebuild(world: &World, journal: &MemoryJournal) {
    world.engine.rebuild(journal, &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn a_new_index_answers_as_the_old_one_did() {
    let (old, new) = aged(600).await;
    let journal = MemoryJournal::default();
    assert!(new.engine.needs_rebuild(&journal));
    assert_eq!(new.engine.rebuild_status().state, RebuildState::Pending);
    rebuild(&new, &journal).await;
    assert_eq!(new.found().await, old.found().await, "the same records in the same order");
    let at = |world: &World| {
        let index = world.index.clone();
        async move { index.row(&cid("r7")).await.unwrap().unwrap() }
    };
    assert_eq!(at(&new).await, at(&old).await);
    let status = new.engine.rebuild_status();
    assert_eq!((status.state, status.records, status.walked), (RebuildState::Ready, 600, 600));
    assert_eq!((status.added, status.skipped), (600, 0));
    assert!(!new.engine.needs_rebuild(&journal));
    assert_eq!(journal.load().unwrap(), Journaled::Finished);
    // Once more changes nothing.
    rebuild(&new, &journal).await;
    let status = new.engine.rebuild_status();
    assert_eq!((status.walked, status.added), (600, 0));
}

#[tokio::test]
async fn an_index_that_was_set_aside_is_rebuilt_although_it_holds_records() {
    let (old, _) = aged(3).await;
    let config = EngineConfig { index_set_aside: true, ..EngineConfig::default() };
    let new = World::over(old.store.clone(), config);
    new.push("r1").await.unwrap();
    assert!(new.engine.needs_rebuild(&MemoryJournal::default()));
    rebuild(&new, &MemoryJournal::default()).await;
    assert_eq!(new.engine.rebuild_status().added, 2);
    assert_eq!(new.found().await, old.found().await);
}

#[tokio::test]
async fn what_is_corrupt_or_no_record_is_left_out_and_counted() {
    let (old, new) = aged(5).await;
    old.store.inner.corrupt(&cid("r1"), Bytes::from_static(b"{}"));
    let odd = Record::from_canonical(Bytes::from_static(br#"{"schema_version":"9.0.0"}"#));
    let facts = RecordFacts::default();
    old.store.inner.put(&odd, &facts, Timestamp(0), Presence::Unknown).await.unwrap();
    rebuild(&new, &MemoryJournal::default()).await;
    let status = new.engine.rebuild_status();
    assert_eq!((status.state, status.records, status.skipped), (RebuildState::Ready, 4, 2));
    assert!(!new.index.contains(&cid("r1")));
    assert_eq!(new.engine.stats().rebuild_skipped.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_is_waited_for_and_the_walk_goes_on_from_its_mark() {
    let (old, new) = aged(600).await;
    // The memory store marks every 256 records.
    new.store.walk_items.store(300, Ordering::SeqCst);
    new.store.cut_walks.store(2, Ordering::SeqCst);
    new.store.fail_gets.store(3, Ordering::SeqCst);
    rebuild(&new, &MemoryJournal::default()).await;
    assert_eq!(new.found().await, old.found().await);
    let walks = new.store.walks.lock().unwrap().clone();
    assert_eq!(walks[0], None);
    assert!(walks.len() >= 3);
    assert!(walks.last().unwrap().is_some(), "not from the beginning: {walks:?}");
    assert_eq!(new.engine.rebuild_status().added, 600);
}

#[tokio::test]
async fn an_interrupted_rebuild_goes_on_where_it_was() {
    let (old, new) = aged(600).await;
    let journal = Arc::new(StopAfter { inner: MemoryJournal::default(), stop: CancellationToken::new() });
    new.engine.rebuild(journal.as_ref(), &journal.stop).await.unwrap();
    let Journaled::At(mark) = journal.load().unwrap() else { panic!("a mark was noted") };
    assert_eq!(new.engine.rebuild_status().state, RebuildState::Rebuilding);
    let so_far = new.index.len();
    assert!((1..600).contains(&so_far), "{so_far}");
    assert!(new.engine.needs_rebuild(journal.as_ref()));
    new.engine.rebuild(&journal.inner, &CancellationToken::new()).await.unwrap();
    assert_eq!(new.store.walks.lock().unwrap().last(), Some(&Some(mark)));
    assert_eq!(new.found().await, old.found().await);
}

/// A journal that stops the rebuild at its first mark.
struct StopAfter {
    inner: MemoryJournal,
    stop: CancellationToken,
}

impl RebuildJournal for StopAfter {
    fn load(&self) -> std::io::Result<Journaled> {
        self.inner.load()
    }

    fn note(&self, mark: Option<&WalkMark>) -> std::io::Result<()> {
        if mark.is_some() {
            self.stop.cancel();
        }
        self.inner.note(mark)
    }

    fn done(&self) -> std::io::Result<()> {
        self.inner.done()
    }
}

#[tokio::test]
async fn an_index_that_fails_ends_the_rebuild_and_says_so() {
    let (_old, new) = aged(5).await;
    new.index.fail_applies.store(1, Ordering::SeqCst);
    let journal = MemoryJournal::default();
    let error = new.engine.rebuild(&journal, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let status = new.engine.rebuild_status();
    assert_eq!(status.state, RebuildState::Failed);
    assert_eq!(status.detail, "failed to rebuild the index: index unavailable");
    assert!(new.engine.needs_rebuild(&journal));
    rebuild(&new, &journal).await;
    assert_eq!(new.engine.rebuild_status().state, RebuildState::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_pushes_and_deletes_go_on_meanwhile() {
    let (_old, new) = aged(400).await;
    let new = Arc::new(new);
    let behind = new.clone();
    let job = tokio::spawn(async move { rebuild(&behind, &MemoryJournal::default()).await });
    for n in 0..400 {
        let name = format!("r{n}");
        match n % 4 {
            0 => new.engine.delete(&cid(&name)).await.unwrap(),
            1 => drop(new.pull(&cid(&name)).await.unwrap()),
            2 => drop(new.push(&name).await.unwrap()),
            _ => drop(new.push(&format!("new{n}")).await.unwrap()),
        }
    }
    job.await.unwrap();
    assert_eq!(new.index.len(), 400, "a hundred went, a hundred came");
    for n in 0..400 {
        let name = format!("r{n}");
        assert_eq!(new.index.contains(&cid(&name)), n % 4 != 0, "{name}");
        let there = new.store.inner.get(&cid(&name), Known::Unknown).await.is_ok();
        assert_eq!(there, n % 4 != 0, "{name}");
    }
}
