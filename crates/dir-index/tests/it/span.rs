//! Which events the log holds, over restarts.

use dir_core::index::{Change, EventSpan, RecordIndex};
use dir_core::{Cid, EventKind, Timestamp};
use dir_index::{SledConfig, SledIndex, first_seq, open_or_set_aside};
use std::time::Duration;

async fn write(index: &SledIndex, n: usize) {
    write_at(index, n, 0).await;
}

async fn write_at(index: &SledIndex, n: usize, at: i64) {
    let change =
        Change::Delete { cid: Cid::of(b"x"), at: Timestamp(at), event: Some(EventKind::RecordDeleted) };
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

#[tokio::test]
async fn events_above_their_age_are_removed_and_the_newest_never() {
    let dir = tempfile::tempdir().unwrap();
    let age = Some(Duration::from_secs(60));
    let config = SledConfig { event_max_age: age, ..SledConfig::new(dir.path().join("index")) };
    let index = SledIndex::open(config).unwrap();
    write_at(&index, 200, 1_000).await;
    write_at(&index, 100, 50_000).await;
    // At its edge: the oldest are exactly a minute old.
    write_at(&index, 1, 61_000).await;
    assert_eq!(index.event_span(), EventSpan { oldest: 1, next: 302 });
    // One batch lies wholly before the horizon; the next one has events of the second write.
    write_at(&index, 1, 61_001).await;
    assert_eq!(index.event_span(), EventSpan { oldest: 129, next: 303 });
    write_at(&index, 1, 200_000).await;
    assert_eq!(index.event_span(), EventSpan { oldest: 257, next: 304 });
    assert_eq!(index.events(256, 100).await.unwrap().len(), 47);
}

struct At(i64);

impl dir_core::Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(self.0)
    }
}

#[tokio::test]
async fn a_log_that_begins_anew_reuses_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let open = |now| open_or_set_aside(SledConfig::new(&path), &At(now)).unwrap().index;
    let index = open(1_700_000_000_000);
    let begin = index.event_span().next;
    assert_eq!(begin, first_seq(Timestamp(1_700_000_000_000)));
    write(&index, 5).await;
    index.close().await.unwrap();
    drop(index);
    // The same log goes on, whatever the clock says.
    let index = open(1_800_000_000_000);
    assert_eq!(index.event_span(), EventSpan { oldest: begin, next: begin + 5 });
    drop(index);
    std::fs::remove_dir_all(&path).unwrap();
    let index = open(1_700_000_000_001);
    assert!(index.event_span().oldest > begin + 5);
}
