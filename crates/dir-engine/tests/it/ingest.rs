//! Push and delete: what is asked of the store, what survives failures, what concurrency may not break.

use crate::world::{World, cid, doc};
use dir_core::index::RecordIndex;
use dir_core::store::{Presence, RecordStore};
use dir_core::{Class, Classified, EventKind};
use dir_engine::{EngineConfig, MemoryJournal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_repeat_asks_the_store_nothing_and_is_an_event_all_the_same() {
    let world = World::new();
    assert_eq!(world.push("a").await.unwrap(), cid("a"));
    let row = world.index.row(&cid("a")).await.unwrap().unwrap();
    world.clock.set(1_800_000_000);
    assert_eq!(world.push("a").await.unwrap(), cid("a"));
    assert_eq!(world.store.puts.lock().unwrap().len(), 1);
    assert_eq!(world.index.row(&cid("a")).await.unwrap().unwrap(), row, "the row stays as it was");
    let events = world.index.events(0, 10).await.unwrap();
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::RecordPushed; 2]);
}

#[tokio::test]
async fn the_store_is_told_what_the_index_knows() {
    let world = World::new();
    world.push("before").await.unwrap();
    world.engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    world.push("after").await.unwrap();
    let told = world.store.puts.lock().unwrap().clone();
    assert_eq!(told, [Presence::Unknown, Presence::Absent], "an index that was not compared knows nothing");

    let shared = World::with(EngineConfig { exclusive_store: false, ..EngineConfig::default() });
    shared.engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    shared.push("a").await.unwrap();
    assert_eq!(*shared.store.puts.lock().unwrap(), [Presence::Unknown]);
}

#[tokio::test]
async fn a_record_that_the_store_had_keeps_its_time() {
    let first = World::new();
    first.push("a").await.unwrap();
    let created = first.index.row(&cid("a")).await.unwrap().unwrap().indexed_at;
    let second = World::over(first.store.clone(), EngineConfig::default());
    second.clock.set(1_900_000_000);
    second.push("a").await.unwrap();
    assert_eq!(second.index.row(&cid("a")).await.unwrap().unwrap().indexed_at, created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_pushes_at_the_same_time_are_one_record() {
    let world = Arc::new(World::new());
    let pushes: Vec<_> = (0..32)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.push("a").await.unwrap() })
        })
        .collect();
    for push in pushes {
        assert_eq!(push.await.unwrap(), cid("a"));
    }
    assert_eq!(world.store.puts.lock().unwrap().len(), 1);
    assert_eq!(world.found().await, [cid("a")]);
    assert_eq!(world.index.events(0, 100).await.unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_push_beside_a_delete_never_leaves_a_row_without_bytes() {
    let world = Arc::new(World::new());
    for round in 0..200 {
        world.push("a").await.unwrap();
        let both = world.clone();
        let push = tokio::spawn(async move { both.push("a").await.unwrap() });
        let both = world.clone();
        let delete = tokio::spawn(async move { both.engine.delete(&cid("a")).await });
        push.await.unwrap();
        delete.await.unwrap().unwrap();
        let stored = world.store.inner.resolve(&cid("a")).await.unwrap().is_some();
        assert_eq!(world.index.contains(&cid("a")), stored, "round {round}");
        assert_eq!(world.pull(&cid("a")).await.is_ok(), stored, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_that_fails_for_a_moment_is_asked_again() {
    let world = World::new();
    world.index.fail_applies.store(3, Ordering::SeqCst);
    world.push("a").await.unwrap();
    assert_eq!(world.found().await, [cid("a")], "acknowledged is searchable");
    assert_eq!(world.engine.stats().repairs.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_index_that_fails_for_long_is_repaired_later() {
    let world = World::new();
    world.index.fail_applies.store(10, Ordering::SeqCst);
    world.push("a").await.unwrap();
    assert_eq!(world.engine.stats().repairs.get(), 1);
    assert!(world.found().await.is_empty());
    world.engine.settle().await;
    assert_eq!(world.found().await, [cid("a")]);
}

#[tokio::test(start_paused = true)]
async fn repairs_are_bounded() {
    let world = World::with(EngineConfig { repair_queue: 1, ..EngineConfig::default() });
    world.index.fail_applies.store(1000, Ordering::SeqCst);
    world.push("a").await.unwrap();
    let error = world.push("b").await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert_eq!(error.to_string(), "failed to push record to store: index unavailable");
    world.index.fail_applies.store(0, Ordering::SeqCst);
    world.engine.settle().await;
    world.push("b").await.unwrap();
    assert_eq!(world.found().await.len(), 2);
}

#[tokio::test]
async fn a_closed_index_takes_no_push() {
    let world = World::new();
    world.index.close().await.unwrap();
    let error = world.push("a").await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
}

#[tokio::test]
async fn the_record_limit_is_the_largest_allowed() {
    let world = World::with(EngineConfig { max_record_bytes: 5000, ..EngineConfig::default() });
    world.engine.ingest(Some(doc("a")), 5000).await.unwrap();
    let error = world.engine.ingest(Some(doc("b")), 5001).await.unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    assert!(error.to_string().starts_with("record validation failed: [record size 5001 bytes exceeds"));
    assert_eq!(world.store.puts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn deletes_of_halves_complete_what_is_left() {
    let world = World::new();
    // A row whose bytes are gone.
    world.push("a").await.unwrap();
    world.store.inner.delete(&cid("a")).await.unwrap();
    world.engine.delete(&cid("a")).await.unwrap();
    assert!(world.found().await.is_empty());
    assert_eq!(world.engine.delete(&cid("a")).await.unwrap_err().class(), Class::NotFound);
    // Bytes without a row.
    let other = World::over(world.store.clone(), EngineConfig::default());
    world.push("b").await.unwrap();
    other.engine.delete(&cid("b")).await.unwrap();
    assert_eq!(other.store.inner.resolve(&cid("b")).await.unwrap(), None);
    let events = other.index.events(0, 10).await.unwrap();
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::RecordDeleted]);
}
