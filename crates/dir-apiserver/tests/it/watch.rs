//! Watches of the real binary: over restarts and `kill -9` no change is missed and none comes twice; an index that was
//! lost says so to those who resume.

use crate::client::{open_push, plain, push, record};
use crate::node::{Node, PATIENCE};
use dir_proto::directory::watch::v1::watch_response::Kind;
use dir_proto::directory::watch::v1::watch_service_client::WatchServiceClient;
use dir_proto::directory::watch::v1::{WatchRequest, WatchResponse};
use dir_testkit::generate::Numbers;
use nix::sys::signal::Signal;
use std::collections::{BTreeSet, HashSet};
use tempfile::tempdir;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Processes that end, every third of them gracefully.
const ROUNDS: usize = 9;

fn on_disk(index: &std::path::Path) -> Vec<String> {
    let set = |key: &str| ["--set".to_owned(), key.to_owned()];
    let path = format!("database.embedded.path={}", index.display());
    [set("authn.enabled=false"), set("shutdown.grace=1s"), set("database.type=embedded"), set(&path)].concat()
}

fn start(home: &std::path::Path, args: &[String]) -> Node {
    Node::start(home, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn watch(channel: &Channel, since: Option<u64>) -> Result<Streaming<WatchResponse>, Status> {
    let request = WatchRequest { since, ..WatchRequest::default() };
    Ok(WatchServiceClient::new(channel.clone()).watch(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<Option<WatchResponse>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("a change or a bookmark in time")
}

/// What a watcher has seen.
#[derive(Default)]
struct Seen {
    at: u64,
    pushed: HashSet<String>,
}

impl Seen {
    fn take(&mut self, told: WatchResponse) {
        let Some(Kind::Event(event)) = told.kind else {
            assert_eq!(told.seq, self.at, "a bookmark where nothing was skipped");
            return;
        };
        assert_eq!(told.seq, self.at + 1, "none missing and none twice");
        self.at = told.seq;
        assert!(self.pushed.insert(event.resource_id), "each record was pushed once");
    }
}

/// Reads until the stream ends, as it does when its server goes.
async fn read_on(mut stream: Streaming<WatchResponse>, mut seen: Seen) -> Seen {
    while let Ok(Some(told)) = next(&mut stream).await {
        seen.take(told);
    }
    seen
}

/// Pushes until `acks` answers have come, then ends the process; answers all that was acknowledged.
async fn push_and_end(node: &mut Node, channel: &Channel, round: usize, acks: usize) -> Vec<String> {
    let (records, mut answers) = open_push(channel).await;
    let feeder = tokio::spawn(async move {
        for n in 0.. {
            if records.send(record(&format!("watched-{round}-{n}"))).await.is_err() {
                return;
            }
        }
    });
    let signal = if round % 3 == 2 { Signal::SIGTERM } else { Signal::SIGKILL };
    let mut acknowledged = Vec::new();
    while let Ok(Some(answer)) = answers.message().await {
        acknowledged.push(answer.cid);
        if acknowledged.len() == acks {
            node.signal(signal);
        }
    }
    feeder.abort();
    assert_eq!(node.wait(), (signal == Signal::SIGTERM).then_some(0));
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_or_told_twice_over_kills_and_restarts() {
    let home = tempdir().unwrap();
    let args = on_disk(&home.path().join("index"));
    let mut numbers = Numbers::new(12);
    let mut acknowledged = BTreeSet::new();
    let mut seen: Option<Seen> = None;
    for round in 0..ROUNDS {
        let mut node = start(home.path(), &args);
        let channel = plain(node.grpc()).await;
        let mut stream = watch(&channel, seen.as_ref().map(|seen| seen.at)).await.unwrap();
        let mut so_far = seen.take().unwrap_or_default();
        if round == 0 {
            so_far.at = next(&mut stream).await.unwrap().unwrap().seq;
        }
        let reader = tokio::spawn(read_on(stream, so_far));
        let acks = 1 + numbers.below(60);
        acknowledged.extend(push_and_end(&mut node, &channel, round, acks).await);
        seen = Some(reader.await.unwrap());
    }
    // What was acknowledged and not told before the last end is told now.
    let mut node = start(home.path(), &args);
    let channel = plain(node.grpc()).await;
    let mut seen = seen.unwrap();
    let mut stream = watch(&channel, Some(seen.at)).await.unwrap();
    loop {
        let told = next(&mut stream).await.unwrap().unwrap();
        let end = matches!(told.kind, Some(Kind::Bookmark(_)));
        seen.take(told);
        if end {
            break;
        }
    }
    let missed: Vec<_> = acknowledged.iter().filter(|cid| !seen.pushed.contains(*cid)).collect();
    assert!(missed.is_empty(), "acknowledged and not told: {missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_tells_those_who_resume_where_to_start() {
    let home = tempdir().unwrap();
    let index = home.path().join("index");
    let args = on_disk(&index);
    let mut node = start(home.path(), &args);
    let channel = plain(node.grpc()).await;
    push(&channel, (0..5).map(|n| record(&format!("lost-{n}"))).collect()).await.unwrap();
    let mut stream = watch(&channel, None).await.unwrap();
    let cursor = next(&mut stream).await.unwrap().unwrap().seq;
    drop((stream, channel));
    assert_eq!(node.stop(), Some(0));
    std::fs::remove_dir_all(&index).unwrap();

    let mut node = start(home.path(), &args);
    let channel = plain(node.grpc()).await;
    // Enough changes that a log counted from one would have reached the old cursor's neighbourhood again.
    push(&channel, (0..8).map(|n| record(&format!("after-{n}"))).collect()).await.unwrap();
    let status = match watch(&channel, Some(cursor)).await {
        Err(status) => status,
        Ok(mut stream) => next(&mut stream).await.unwrap_err(),
    };
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains(&format!("cursor {cursor} has expired")), "{status:?}");
    let resume = status.metadata().get("directory-watch-since").unwrap().to_str().unwrap();
    let resume: u64 = resume.parse().unwrap();
    assert!(resume > cursor, "no number is given twice: {resume} after {cursor}");
    let mut stream = watch(&channel, Some(resume)).await.unwrap();
    let mut seen = Seen { at: resume, ..Seen::default() };
    for _ in 0..8 {
        seen.take(next(&mut stream).await.unwrap().unwrap());
    }
    assert_eq!(seen.pushed.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_is_from_the_oldest_change_kept() {
    let home = tempdir().unwrap();
    let memory = ["authn.enabled=false", "shutdown.grace=1s", "database.type=memory"];
    let memory = memory.iter().flat_map(|key| ["--set".to_owned(), (*key).to_owned()]).collect();
    for args in [on_disk(&home.path().join("index")), memory] {
        let mut node = start(home.path(), &args);
        let channel = plain(node.grpc()).await;
        let mut empty = watch(&channel, Some(0)).await.unwrap();
        let begin = next(&mut empty).await.unwrap().unwrap().seq;
        assert!(begin > 0, "no cursor that is handed out is 0");
        push(&channel, (0..3).map(|n| record(&format!("kept-{n}"))).collect()).await.unwrap();
        let mut stream = watch(&channel, Some(0)).await.unwrap();
        let mut seen = Seen { at: begin, ..Seen::default() };
        for _ in 0..4 {
            seen.take(next(&mut stream).await.unwrap().unwrap());
        }
        assert_eq!((seen.at, seen.pushed.len()), (begin + 3, 3));
        drop((empty, stream, channel));
        assert_eq!(node.stop(), Some(0));
    }
}
