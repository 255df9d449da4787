//! Events reach listeners in order, with labels, and never hold anybody up.

use crate::world::{World, cid};
use dir_core::EventKind::{RecordDeleted, RecordPulled, RecordPushed};
use dir_engine::EngineConfig;

#[tokio::test]
async fn listeners_hear_what_happens_from_then_on() {
    let world = World::new();
    world.push("before").await.unwrap();
    let mut listener = world.engine.events().listen();
    world.push("a").await.unwrap();
    world.pull(&cid("a")).await.unwrap();
    assert_eq!(world.engine.pull_cached(&cid("a")), None, "a pull is told of, cached or not");
    world.pull(&cid("a")).await.unwrap();
    world.engine.delete(&cid("a")).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(listener.next().await.unwrap().unwrap());
    }
    let kinds: Vec<_> = heard.iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [RecordPushed, RecordPulled, RecordPulled, RecordDeleted]);
    assert!(heard.iter().all(|n| n.cid == cid("a")));
    let labels = ["/skills/a/b", "/domains/c", "/locators/source_code"];
    assert_eq!(*heard[0].labels, labels);
    assert_eq!(*heard[1].labels, labels);
    assert!(heard[3].labels.is_empty());
    assert_eq!(heard[1].seq, None);
    assert!(heard[0].seq < heard[3].seq);
    drop(listener);
    assert!(world.engine.pull_cached(&cid("before")).is_none());
    world.pull(&cid("before")).await.unwrap();
    assert!(world.engine.pull_cached(&cid("before")).is_some(), "nobody listens any more");
}

#[tokio::test]
async fn a_slow_listener_loses_what_is_new_and_knows_how_many() {
    let world = World::with(EngineConfig { event_buffer: 4, ..EngineConfig::default() });
    let mut slow = world.engine.events().listen();
    let mut quick = world.engine.events().listen();
    for n in 0..10 {
        world.push(&format!("r{n}")).await.unwrap();
        quick.next().await.unwrap().unwrap();
    }
    for n in 0..4 {
        assert_eq!(slow.next().await.unwrap().unwrap().cid, cid(&format!("r{n}")));
    }
    assert_eq!(slow.next().await, Some(Err(6)));
    world.push("later").await.unwrap();
    assert_eq!(slow.next().await.unwrap().unwrap().cid, cid("later"));
}

#[tokio::test]
async fn a_rebuild_is_no_event() {
    let world = World::new();
    world.push("a").await.unwrap();
    let other = World::over(world.store.clone(), EngineConfig::default());
    let mut listener = other.engine.events().listen();
    let cancel = tokio_util::sync::CancellationToken::new();
    other.engine.rebuild(&dir_engine::MemoryJournal::default(), &cancel).await.unwrap();
    other.push("b").await.unwrap();
    assert_eq!(listener.next().await.unwrap().unwrap().cid, cid("b"));
}
