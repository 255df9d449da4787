//! Where watches begin, on both indexes, whose logs begin as those of real nodes do: far above 0.

use dir_core::index::{Change, RecordIndex};
use dir_core::{Cid, Clock, EventKind, RecordFacts, Timestamp};
use dir_engine::{Deps, Engine, EngineConfig, EventFilter, WatchEnd, Watched};
use dir_index::{MemoryConfig, MemoryIndex, SledConfig, SledIndex, first_seq};
use dir_oasf::BuiltinRules;
use dir_store::{Limits, MemoryStore};
use futures::{Stream, StreamExt};
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_767_225_600_000);
/// Less than a log on disk trims at a time.
const KEPT: u64 = 100;
/// So many changes leave nothing of those before.
const MANY: u64 = 3 * KEPT;

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        NOW
    }
}

struct Node {
    engine: Engine,
    index: Arc<dyn RecordIndex>,
    first: u64,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new(index: Arc<dyn RecordIndex>, dir: tempfile::TempDir) -> Self {
        let deps = Deps {
            store: Arc::new(MemoryStore::new(Limits::default())),
            index: index.clone(),
            rules: Arc::new(BuiltinRules::default()),
            clock: Arc::new(Standing),
        };
        Self { engine: Engine::new(deps, EngineConfig::default()), index, first: first_seq(NOW), _dir: dir }
    }

    fn both() -> [Self; 2] {
        let dir = || tempfile::tempdir().unwrap();
        let memory =
            MemoryConfig { event_retention: KEPT, first_seq: first_seq(NOW), ..MemoryConfig::default() };
        let home = dir();
        let sled = SledConfig {
            event_retention: KEPT,
            first_seq: first_seq(NOW),
            ..SledConfig::new(home.path().join("index"))
        };
        [
            Self::new(Arc::new(MemoryIndex::with_config(&memory)), dir()),
            Self::new(Arc::new(SledIndex::open(sled).unwrap()), home),
        ]
    }

    async fn change(&self, count: u64) {
        let change = Change::Put {
            cid: Cid::of(b"x"),
            facts: Arc::new(RecordFacts::default()),
            at: NOW,
            event: Some(EventKind::RecordPushed),
            owner: None,
        };
        self.index.apply(vec![change; usize::try_from(count).unwrap()]).await.unwrap();
    }

    fn watch(
        &self,
        since: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Watched, WatchEnd>> + use<>, WatchEnd> {
        self.engine.watch(since, EventFilter::default(), Duration::from_secs(3600))
    }

    /// What is told up to the first bookmark: the numbers of the changes, and that of the bookmark.
    async fn replayed(stream: impl Stream<Item = Result<Watched, WatchEnd>>) -> (Vec<u64>, u64) {
        let mut stream = std::pin::pin!(stream);
        let mut seqs = Vec::new();
        loop {
            match stream.next().await.unwrap().unwrap() {
                Watched::Event(event) => seqs.push(event.seq),
                Watched::Bookmark(at) => return (seqs, at),
            }
        }
    }
}

#[tokio::test]
async fn zero_is_from_the_oldest_change_that_is_kept() {
    for node in Node::both() {
        let first = node.first;
        assert_eq!(Node::replayed(node.watch(Some(0)).unwrap()).await, (vec![], first - 1));
        node.change(3).await;
        let all = (first..first + 3).collect::<Vec<_>>();
        assert_eq!(Node::replayed(node.watch(Some(0)).unwrap()).await, (all, first + 2));
        // Also when the log has forgotten its first changes, and forgets more before they are read.
        node.change(MANY).await;
        let asked = node.watch(Some(0)).unwrap();
        let before = node.index.event_span();
        node.change(MANY).await;
        let span = node.index.event_span();
        assert!(first < before.oldest && before.oldest < span.oldest);
        assert_eq!(Node::replayed(asked).await, ((span.oldest..span.next).collect(), span.next - 1));
    }
}

#[tokio::test]
async fn other_cursors_below_the_log_stay_refused_and_say_what_is_kept() {
    for node in Node::both() {
        let first = node.first;
        let said = |since| node.watch(Some(since)).err().map(|end| end.to_string());
        let resume = format!("read the records anew and resume with since={}", first - 1);
        for since in [1, first - 2] {
            let empty = format!("cursor {since} has expired: no change is kept; {resume}");
            assert_eq!(said(since), Some(empty));
        }
        assert!(node.watch(Some(first - 1)).is_ok());
        node.change(2).await;
        let kept = format!("cursor 1 has expired: the oldest change kept is {first}; {resume}");
        assert_eq!(said(1), Some(kept));
        assert!(matches!(node.watch(Some(first + 2)), Err(WatchEnd::Unknown { .. })));
    }
}

#[tokio::test]
async fn a_cursor_whose_followers_are_forgotten_while_it_waits_is_refused() {
    for node in Node::both() {
        node.change(3).await;
        let asked = node.watch(Some(node.first - 1)).unwrap();
        node.change(MANY).await;
        let end = std::pin::pin!(asked).next().await.unwrap();
        assert!(matches!(end, Err(WatchEnd::Expired { oldest: Some(_), .. })), "{end:?}");
    }
}
