//! Which events the log holds, over restarts.

use dir_core::index::{Change, EventSpan, RecordIndex};
use dir_core::{Cid, EventKind, Timestamp};
use dir_index::{SledConfig, SledIndex};

async fn write(index: &SledIndex, n: usize) {
    let change =
        Change::Delete { cid: Cid::of(b"x"), at: Timestamp(0), event: Some(EventKind::RecordDeleted) };
    index.apply(vec![change; n]).await.unwrap();
}

#[tokio::test]
async fn the_span_is_what_can_be_read_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = SledConfig { event_retention: 10, ..SledConfig::new(dir.path().join("index")) };
    let index = SledIndex::open(config.clone()).unwrap();
    assert_eq!(index.event_span(), EventSpan { oldest: 1, next: 1 });
    write(&index, 5).await;
    assert_eq!(index.event_span(), EventSpan { oldest: 1, next: 6 });
    // Trimmed 128 at a time.
    write(&index, 10 + 128).await;
    let span = EventSpan { oldest: 129, next: 144 };
    assert_eq!(index.event_span(), span);
    let first = |events: Vec<dir_core::Event>| events.first().map(|event| event.seq);
    assert_eq!(first(index.events(0, 10).await.unwrap()), Some(129));
    // Without a close, as a process that is killed leaves it.
    drop(index);
    let index = SledIndex::open(config.clone()).unwrap();
    assert_eq!(index.event_span(), span);
    index.close().await.unwrap();
    drop(index);
    let index = SledIndex::open(config).unwrap();
    assert_eq!(index.event_span(), span);
    assert_eq!(first(index.events(128, 1).await.unwrap()), Some(129));
}
