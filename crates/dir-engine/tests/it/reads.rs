//! Pull: what is asked of the store, and what memory may answer.

use crate::world::{World, cid, message};
use bytes::Bytes;
use dir_core::query::Query;
use dir_core::store::Known;
use dir_core::{Class, Classified, Record};
use dir_engine::{Engine, EngineConfig, Op};
use futures::StreamExt;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_record_is_read_and_encoded_once() {
    let world = World::new();
    world.push("a").await.unwrap();
    assert_eq!(world.engine.pull_cached(&cid("a")), None);
    let first = world.pull(&cid("a")).await.unwrap();
    assert!(first.starts_with(b"message of {"));
    let never = |_: &Record| -> Result<Bytes, std::convert::Infallible> { panic!("encoded already") };
    assert_eq!(world.engine.pull(&cid("a"), never).await.unwrap(), first);
    assert_eq!(world.engine.pull_cached(&cid("a")).unwrap(), first);
    assert_eq!(*world.store.gets.lock().unwrap(), [Known::Live]);
    let stats = world.engine.stats();
    assert_eq!((stats.cache_hits.get(), stats.cache_misses.get()), (2, 1));
}

#[tokio::test]
async fn what_the_index_does_not_know_is_resolved_at_the_store() {
    let world = World::new();
    world.push("a").await.unwrap();
    let other = World::over(world.store.clone(), EngineConfig::default());
    other.pull(&cid("a")).await.unwrap();
    assert_eq!(world.store.gets.lock().unwrap().last(), Some(&Known::Unknown));
    let meta = other.engine.lookup(&cid("a")).await.unwrap();
    assert_eq!(meta, world.engine.lookup(&cid("a")).await.unwrap());
    let absent = other.pull(&cid("b")).await.unwrap_err();
    assert_eq!(absent.class(), Class::NotFound);
    assert_eq!(absent.to_string(), format!("failed to pull record: record not found: {}", cid("b")));
}

#[tokio::test]
async fn a_tag_whose_bytes_lie_is_no_answer_to_a_lookup() {
    let world = World::new();
    world.push("a").await.unwrap();
    let other = World::over(world.store.clone(), EngineConfig::default());
    world.store.inner.corrupt(&cid("a"), Bytes::from_static(b"{\"name\":\"b\"}"));
    assert_eq!(other.engine.lookup(&cid("a")).await.unwrap_err().class(), Class::Corrupt);
    assert_eq!(other.engine.stats().corrupt.get(), 1);
}

#[tokio::test]
async fn a_deleted_record_is_gone_from_memory_too() {
    let world = World::new();
    world.push("a").await.unwrap();
    world.pull(&cid("a")).await.unwrap();
    world.engine.delete(&cid("a")).await.unwrap();
    assert_eq!(world.engine.pull_cached(&cid("a")), None);
    assert_eq!(world.pull(&cid("a")).await.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn a_store_that_fails_is_no_absence_and_is_asked_again() {
    let world = World::new();
    world.push("a").await.unwrap();
    world.store.fail_gets.store(1, Ordering::SeqCst);
    let error = world.pull(&cid("a")).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert_eq!(error.to_string(), "failed to pull record: store unavailable");
    assert!(error.detail().unwrap().ends_with("GET: refused"), "the log knows more");
    world.pull(&cid("a")).await.unwrap();
}

#[tokio::test]
async fn corrupt_content_is_neither_served_nor_kept() {
    let world = World::new();
    world.push("a").await.unwrap();
    world.store.inner.corrupt(&cid("a"), Bytes::from_static(b"{\"name\":\"b\"}"));
    for _ in 0..2 {
        assert_eq!(world.pull(&cid("a")).await.unwrap_err().class(), Class::Corrupt);
    }
    assert_eq!(world.engine.stats().corrupt.get(), 2);
}

#[tokio::test]
async fn search_results_that_cannot_be_read_are_left_out() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.push(name).await.unwrap();
    }
    world.store.fail_gets.store(1, Ordering::SeqCst);
    let found: Vec<_> =
        world.engine.search_records(Query::default(), message, || std::future::ready(())).collect().await;
    assert_eq!(found.len(), 2);
    assert_eq!(world.engine.stats().search_skipped.get(), 1);
    assert_eq!(world.engine.count(&Query::default()).await.unwrap(), 3);
}

#[test]
fn names_of_records() {
    let known = cid("a");
    assert_eq!(Engine::name(Op::Pull, &known.to_string()).unwrap(), known);
    let empty = Engine::name(Op::Pull, "").unwrap_err();
    assert_eq!((empty.class(), empty.to_string().as_str()), (Class::Invalid, "record cid is required"));
    let other = Engine::name(Op::Lookup, "latest").unwrap_err();
    assert_eq!(other.class(), Class::NotFound);
    assert_eq!(other.to_string(), "failed to lookup record: record not found: latest");
}
