//! Usage counters: what is counted, and what happens to counts that the index does not take.

use crate::world::World;
use dir_core::Cid;
use dir_core::index::{RecordIndex, Usage};
use std::sync::atomic::Ordering;

async fn counted(world: &World, cid: &Cid) -> Usage {
    world.index.row(cid).await.unwrap().unwrap().usage
}

#[tokio::test]
async fn pulls_and_lookups_are_counted_and_nothing_else() {
    let world = World::new();
    let (a, b) = (world.push("a").await.unwrap(), world.push("b").await.unwrap());
    world.pull(&a).await.unwrap();
    assert!(world.engine.pull_cached(&a).is_some());
    world.engine.lookup(&a).await.unwrap();
    world.engine.lookup(&b).await.unwrap();
    let absent = Cid::of(b"nobody");
    assert!(world.pull(&absent).await.is_err() && world.engine.lookup(&absent).await.is_err());
    assert_eq!(counted(&world, &a).await, Usage::default(), "a read writes nothing");
    world.engine.flush_usage().await.unwrap();
    assert_eq!(counted(&world, &a).await, Usage { pulls: 2, lookups: 1 });
    assert_eq!(counted(&world, &b).await, Usage { pulls: 0, lookups: 1 });
    world.engine.flush_usage().await.unwrap();
    assert_eq!(counted(&world, &a).await, Usage { pulls: 2, lookups: 1 }, "counted once");
}

#[tokio::test]
async fn counts_that_are_not_taken_are_kept() {
    let world = World::new();
    let a = world.push("a").await.unwrap();
    world.engine.lookup(&a).await.unwrap();
    world.index.fail_applies.store(1, Ordering::SeqCst);
    world.engine.flush_usage().await.unwrap_err();
    world.engine.lookup(&a).await.unwrap();
    world.engine.flush_usage().await.unwrap();
    assert_eq!(counted(&world, &a).await, Usage { pulls: 0, lookups: 2 });
}

#[tokio::test]
async fn counts_of_a_record_that_was_deleted_are_not_those_of_the_next() {
    let world = World::new();
    let record = world.push("a").await.unwrap();
    world.pull(&record).await.unwrap();
    world.engine.delete(&record).await.unwrap();
    assert_eq!(world.push("a").await.unwrap(), record);
    world.pull(&record).await.unwrap();
    world.engine.flush_usage().await.unwrap();
    assert_eq!(counted(&world, &record).await, Usage { pulls: 1, lookups: 0 });
}
