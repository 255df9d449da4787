//! `directory.watch.v1.WatchService`.

use crate::node::{Node, Setup, push, record, reference, soon};
use dir_api::AppConfig;
use dir_proto::agntcy::dir::events::v1::EventType;
use dir_proto::directory::watch::v1::watch_response::Kind;
use dir_proto::directory::watch::v1::watch_service_client::WatchServiceClient;
use dir_proto::directory::watch::v1::{WatchRequest, WatchResponse};
use std::time::Duration;
use tonic::{Code, Status, Streaming};

async fn try_watch(node: &Node, request: WatchRequest) -> Result<Streaming<WatchResponse>, Status> {
    let mut client = WatchServiceClient::new(node.channel().await);
    soon(client.watch(request)).await.map(tonic::Response::into_inner)
}

async fn watch(node: &Node, since: Option<u64>) -> Streaming<WatchResponse> {
    try_watch(node, WatchRequest { since, ..WatchRequest::default() }).await.unwrap()
}

/// Sequence number, and the record of an event.
async fn next(stream: &mut Streaming<WatchResponse>) -> (u64, Option<String>) {
    let told = soon(stream.message()).await.unwrap().unwrap();
    match told.kind.unwrap() {
        Kind::Event(event) => (told.seq, Some(event.resource_id)),
        Kind::Bookmark(_) => (told.seq, None),
    }
}

#[tokio::test]
async fn a_watch_resumes_where_it_was() {
    let node = Node::start().await;
    let mut live = watch(&node, None).await;
    assert_eq!(next(&mut live).await, (0, None), "a cursor before anything has happened");
    let mut cids = Vec::new();
    for n in 0..600 {
        cids.extend(push(&node, vec![record(&format!("r{n}"))]).await);
    }
    for (seq, cid) in (1..).zip(&cids) {
        assert_eq!(next(&mut live).await, (seq, Some(cid.clone())));
    }
    for since in [0, 1, 255, 256, 257, 599, 600] {
        let mut replayed = watch(&node, Some(since)).await;
        for (seq, cid) in (1..).zip(&cids).skip(usize::try_from(since).unwrap()) {
            assert_eq!(next(&mut replayed).await, (seq, Some(cid.clone())), "since {since}");
        }
        assert_eq!(next(&mut replayed).await, (600, None), "everything is replayed");
    }
}

#[tokio::test]
async fn changes_while_a_watch_replays_come_once_and_in_order() {
    let node = Node::start().await;
    for n in 0..300 {
        push(&node, vec![record(&format!("before{n}"))]).await;
    }
    let mut streams = Vec::new();
    for since in [0, 100, 299] {
        streams.push((since, watch(&node, Some(since)).await));
    }
    let writing = async {
        for n in 0..300 {
            push(&node, vec![record(&format!("after{n}"))]).await;
        }
    };
    let reading = async {
        for (since, stream) in &mut streams {
            let mut at = *since;
            while at < 600 {
                let (seq, event) = next(stream).await;
                assert_eq!(seq, if event.is_some() { at + 1 } else { at });
                at = seq;
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn cursors_that_cannot_be_answered_say_where_to_start() {
    let node = Node::start().await;
    push(&node, vec![record("a")]).await;
    let refused = |since| {
        let request = WatchRequest { since: Some(since), ..WatchRequest::default() };
        async { try_watch(&node, request).await.unwrap_err() }
    };
    let status = refused(2).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("cursor 2 is not of this log, which ends at 1"), "{status:?}");
    assert_eq!(status.metadata().get("directory-watch-since").unwrap(), "1");
    // Two events more than are kept.
    let kept = usize::try_from(dir_index::DEFAULT_EVENT_RETENTION).unwrap();
    let facts = std::sync::Arc::new(dir_core::RecordFacts::default());
    let change = dir_core::index::Change::Put {
        cid: dir_core::Cid::of(b"x"),
        facts,
        at: dir_core::Timestamp(0),
        event: Some(dir_core::EventKind::RecordPushed),
        owner: None,
    };
    dir_core::index::RecordIndex::apply(node.index.as_ref(), vec![change; kept + 1]).await.unwrap();
    let status = refused(1).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("cursor 1 has expired: the oldest change kept is 3"), "{status:?}");
    assert_eq!(status.metadata().get("directory-watch-since").unwrap(), "2");
    for since in [2, 0] {
        let mut again = watch(&node, Some(since)).await;
        assert_eq!(next(&mut again).await.0, 3, "since {since}");
    }
}

#[tokio::test]
async fn idle_and_filtered_streams_get_bookmarks() {
    let app = AppConfig { watch_bookmark_interval: Duration::from_millis(20), ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let deletes = WatchRequest {
        since: Some(0),
        event_types: vec![EventType::RecordDeleted.into()],
        ..WatchRequest::default()
    };
    let mut stream = try_watch(&node, deletes).await.unwrap();
    assert_eq!(next(&mut stream).await, (0, None));
    assert_eq!(next(&mut stream).await, (0, None));
    let cid = push(&node, vec![record("a")]).await.remove(0);
    while next(&mut stream).await != (1, None) {}
    let gone = futures::stream::iter([reference(&cid)]);
    node.store_client().await.delete(gone).await.unwrap();
    let mut told = next(&mut stream).await;
    while told.1.is_none() {
        told = next(&mut stream).await;
    }
    assert_eq!(told, (2, Some(cid)));
    let pulls = WatchRequest { event_types: vec![EventType::RecordPulled.into()], ..WatchRequest::default() };
    assert_eq!(try_watch(&node, pulls).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_cid_that_is_none_is_refused_by_its_name() {
    let node = Node::start().await;
    let good = dir_core::Cid::of(b"x").to_string();
    let long = "x".repeat(10_000);
    for (bad, shown) in [("garbage", "\"garbage\""), (&good.to_uppercase(), "\"BAE"), (&long, "xxx\"")] {
        let cid_filters = vec![good.clone(), bad.to_owned()];
        let request = WatchRequest { cid_filters, ..WatchRequest::default() };
        let status = try_watch(&node, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with("cid_filters: \""), "{status:?}");
        assert!(status.message().contains(shown) && status.message().len() < 200, "{status:?}");
    }
}

#[tokio::test]
async fn a_watch_ends_when_the_server_stops() {
    let node = Node::start().await;
    let mut stream = watch(&node, None).await;
    assert_eq!(next(&mut stream).await, (0, None));
    node.drain.cancel();
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "connection draining"));
}

/// Changes that a stream cannot hold while nobody reads it: eight megabytes, of four kilobytes each.
const TOO_MANY: u64 = 2_000;
/// Changes that come at once.
const BURST: u64 = 100;

#[tokio::test]
async fn a_slow_watch_is_cut_with_the_cursor_to_resume_from() {
    let engine = dir_engine::EngineConfig { watch_buffer: 256, ..dir_engine::EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let mut slow = watch(&node, None).await;
    assert_eq!(next(&mut slow).await, (0, None));
    let mut quick = watch(&node, None).await;
    assert_eq!(next(&mut quick).await, (0, None));
    let skill = dir_core::facts::ClassFact { id: 1, name: "x".repeat(4096) };
    let facts = std::sync::Arc::new(dir_core::RecordFacts { skills: vec![skill], ..Default::default() });
    for n in 1..=TOO_MANY {
        if n % BURST > 0 {
            let change = dir_core::index::Change::Put {
                cid: dir_core::Cid::of(&n.to_be_bytes()),
                facts: facts.clone(),
                at: dir_core::Timestamp(0),
                event: Some(dir_core::EventKind::RecordPushed),
                owner: None,
            };
            dir_core::index::RecordIndex::apply(node.index.as_ref(), vec![change]).await.unwrap();
            continue;
        }
        // The engine hears of them with this one. Who reads gets all of them.
        push(&node, vec![record(&format!("burst-{n}"))]).await;
        for seq in n - BURST + 1..=n {
            assert_eq!(next(&mut quick).await.0, seq);
        }
    }
    // Who does not read gets what was on its way, and is told where to resume.
    let mut at = 0;
    let status = loop {
        match soon(slow.message()).await {
            Ok(told) => {
                let seq = told.unwrap().seq;
                assert_eq!(seq, at + 1);
                at = seq;
            }
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert!(at < TOO_MANY && status.message().contains("the reader is too slow"), "{at}: {status:?}");
    assert_eq!(status.metadata().get("directory-watch-since").unwrap(), at.to_string().as_str());
    let mut again = watch(&node, Some(at)).await;
    for seq in at + 1..=TOO_MANY {
        assert_eq!(next(&mut again).await.0, seq);
    }
}
