//! `EventService`.

use crate::node::{Node, Setup, json, message, push, record, reference, soon};
use dir_engine::EngineConfig;
use dir_proto::agntcy::dir::events::v1::event_service_client::EventServiceClient;
use dir_proto::agntcy::dir::events::v1::{Event, EventType, ListenRequest, ListenResponse};
use dir_proto::agntcy::dir::search::v1::SearchRecordsRequest;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use futures::StreamExt;
use std::collections::BTreeSet;
use tonic::{Code, Streaming};

async fn listen(node: &Node, request: ListenRequest) -> Streaming<ListenResponse> {
    // The headers are here before anything has happened.
    soon(EventServiceClient::new(node.channel().await).listen(request)).await.unwrap().into_inner()
}

async fn next(events: &mut Streaming<ListenResponse>) -> Event {
    soon(events.message()).await.unwrap().unwrap().event.unwrap()
}

async fn pull(node: &Node, cid: &str) {
    let asked = futures::stream::iter([reference(cid)]);
    let pulled = node.store_client().await.pull(asked).await.unwrap().into_inner();
    assert_eq!(soon(pulled.count()).await, 1);
}

async fn delete(node: &Node, cid: &str) {
    node.store_client().await.delete(futures::stream::iter([reference(cid)])).await.unwrap();
}

#[tokio::test]
async fn what_happens_is_heard_in_its_order_with_labels() {
    let node = Node::start().await;
    let mut events = listen(&node, ListenRequest::default()).await;
    let mut other = listen(&node, ListenRequest::default()).await;
    let cid = push(&node, vec![record("a")]).await.remove(0);
    push(&node, vec![record("a")]).await;
    pull(&node, &cid).await;
    pull(&node, &cid).await;
    let mut search = SearchServiceClient::new(node.channel().await);
    let found = search.search_records(SearchRecordsRequest::default()).await.unwrap().into_inner();
    assert_eq!(found.count().await, 1, "assembling a result is no pull");
    delete(&node, &cid).await;
    let labels = [
        "/skills/natural_language_processing/text_completion",
        "/domains/technology",
        "/locators/docker_image",
    ];
    let mut ids = BTreeSet::new();
    for (kind, labels) in [
        (EventType::RecordPushed, &labels[..]),
        (EventType::RecordPushed, &labels),
        (EventType::RecordPulled, &labels),
        (EventType::RecordPulled, &labels),
        (EventType::RecordDeleted, &[]),
    ] {
        let event = next(&mut events).await;
        assert_eq!((event.r#type(), event.resource_id.as_str()), (kind, cid.as_str()));
        assert_eq!(event.labels, labels);
        assert!(event.metadata.is_empty());
        assert_eq!(event.timestamp.unwrap().seconds, 1_767_225_600);
        assert_eq!(uuid::Uuid::parse_str(&event.id).unwrap().get_version_num(), 4);
        assert_eq!(next(&mut other).await, event, "an event is the same to everybody");
        assert!(ids.insert(event.id), "and has an id of its own");
    }
}

#[tokio::test]
async fn filters_of_a_kind_are_alternatives_and_kinds_add_up() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let kinds = |list: &[EventType]| list.iter().map(|kind| *kind as i32).collect::<Vec<_>>();
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let any = ListenRequest::default();
    let mut by_kind = listen(
        &node,
        ListenRequest {
            event_types: kinds(&[EventType::RecordDeleted, EventType::RecordPulled, EventType::SyncCreated]),
            ..any.clone()
        },
    )
    .await;
    let cid_filters = vec!["no cid".to_owned(), known.clone()];
    let mut by_cid = listen(&node, ListenRequest { cid_filters, ..any.clone() }).await;
    let label_filters = texts(&["/domains/tech", "nothing"]);
    let mut by_label = listen(&node, ListenRequest { label_filters, ..any.clone() }).await;
    let label_filters = texts(&["/domains/TECH"]);
    let mut never = listen(&node, ListenRequest { label_filters, ..any.clone() }).await;
    let mut unknown = listen(&node, ListenRequest { event_types: vec![10, 99], ..any.clone() }).await;
    let mut both = listen(
        &node,
        ListenRequest {
            event_types: kinds(&[EventType::RecordPushed]),
            label_filters: texts(&["/skills/other"]),
            ..any
        },
    )
    .await;

    let mut other = json("b");
    other["skills"] = serde_json::json!([{"id": 1, "name": "other/skill"}]);
    other["domains"] = serde_json::json!([{"id": 1, "name": "else"}]);
    let other = push(&node, vec![message(&other)]).await.remove(0);
    pull(&node, &known).await;
    pull(&node, &other).await;
    delete(&node, &known).await;

    let mut heard = Vec::new();
    for _ in 0..3 {
        let event = next(&mut by_kind).await;
        heard.push((event.r#type(), event.resource_id));
    }
    let expected = [
        (EventType::RecordPulled, known.clone()),
        (EventType::RecordPulled, other.clone()),
        (EventType::RecordDeleted, known.clone()),
    ];
    assert_eq!(heard, expected);
    assert_eq!(next(&mut by_cid).await.r#type(), EventType::RecordPulled);
    assert_eq!(next(&mut by_cid).await.r#type(), EventType::RecordDeleted);
    assert_eq!(next(&mut by_label).await.resource_id, known);
    assert_eq!(next(&mut both).await.resource_id, other);
    // What the others must not have heard would come before the end.
    node.drain.cancel();
    for stream in [&mut never, &mut unknown, &mut by_label, &mut both] {
        assert_eq!(soon(stream.message()).await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_slow_reader_loses_events_and_keeps_its_stream() {
    let engine = EngineConfig { event_buffer: 4, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    // The listener is not polled while this happens: one thread runs all, and this test does not yield to it.
    let mut slow = node.engine.events().listen();
    let mut fast = listen(&node, ListenRequest::default()).await;
    for n in 0..50 {
        let cid = push(&node, vec![record(&format!("r{n}"))]).await.remove(0);
        assert_eq!(next(&mut fast).await.resource_id, cid, "one who reads is not held up");
    }
    assert_eq!(node.sample(&["directory_engine_total", "event_dropped"]), Some(46.0));
    for _ in 0..4 {
        soon(slow.next()).await.unwrap().unwrap();
    }
    assert_eq!(soon(slow.next()).await, Some(Err(46)));
    let cid = push(&node, vec![record("last")]).await.remove(0);
    assert_eq!(soon(slow.next()).await.unwrap().unwrap().cid.to_string(), cid);
}

#[tokio::test]
async fn a_buffer_of_none_is_one_of_one_event() {
    let engine = EngineConfig { event_buffer: 0, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let mut slow = node.engine.events().listen();
    let cids = push(&node, vec![record("a"), record("b")]).await;
    assert_eq!(soon(slow.next()).await.unwrap().unwrap().cid.to_string(), cids[0]);
    assert_eq!(soon(slow.next()).await, Some(Err(1)));
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let node = Node::start().await;
    let mut events = listen(&node, ListenRequest::default()).await;
    assert_eq!(node.engine.events().listeners(), 1);
    node.drain.cancel();
    let status = soon(events.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "connection draining"));
    soon(node.served).await.unwrap();
}

#[tokio::test]
async fn a_listener_that_goes_leaves_nothing_behind() {
    let node = Node::start().await;
    let events = listen(&node, ListenRequest::default()).await;
    drop(events);
    crate::node::until(|| node.engine.events().listeners() == 0).await;
}

#[tokio::test]
async fn a_single_event_reaches_a_thousand_listeners_on_few_connections() {
    let node = Node::start().await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let client = EventServiceClient::new(node.channel().await);
        for _ in 0..250 {
            let stream = soon(client.clone().listen(ListenRequest::default())).await.unwrap().into_inner();
            streams.push(stream);
        }
    }
    for name in ["a", "b"] {
        let cid = push(&node, vec![record(name)]).await.remove(0);
        for stream in &mut streams {
            assert_eq!(next(stream).await.resource_id, cid);
        }
    }
    assert_eq!(node.engine.stats().losses.events.get(), 0);
}

/// Events of twenty kilobytes, more of them than windows of HTTP/2 and sockets hold for who does not read.
const FLOOD: usize = 300;

#[tokio::test]
async fn who_does_not_read_loses_events_and_keeps_the_stream_while_others_hear_all() {
    let engine = EngineConfig { event_buffer: 4, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let mut stuck = listen(&node, ListenRequest::default()).await;
    let mut quick = listen(&node, ListenRequest::default()).await;
    let mut wide = json("wide");
    wide["skills"] = (0..40)
        .map(|n| serde_json::json!({"id": 1, "name": format!("{n}/{}", "x".repeat(500))}))
        .collect::<Vec<_>>()
        .into();
    let mut cids = Vec::new();
    for _ in 0..FLOOD {
        let cid = push(&node, vec![message(&wide)]).await.remove(0);
        assert_eq!(next(&mut quick).await.resource_id, cid);
        cids.push(cid);
    }
    let losses = &node.engine.stats().losses;
    let lost = usize::try_from(losses.events.get()).unwrap();
    assert!((1..FLOOD).contains(&lost), "{lost}");
    // What was on its way comes, and what had room.
    let mut sent = cids.iter();
    for _ in lost..FLOOD {
        let cid = next(&mut stuck).await.resource_id;
        assert!(sent.any(|sent| *sent == cid), "in order");
    }
    assert_eq!((losses.events.get(), losses.episodes.get()), (lost as u64, 1));
    let cid = push(&node, vec![record("after")]).await.remove(0);
    assert_eq!(next(&mut stuck).await.resource_id, cid, "the stream goes on");
}
