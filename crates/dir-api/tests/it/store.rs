//! `StoreService`: streaming rules, statuses and texts.

use crate::node::{Mood, Node, Setup, cid, json, message, push, record, reference, soon};
use bytes::Bytes;
use dir_api::AppConfig;
use dir_core::Cid;
use dir_proto::agntcy::dir::core::v1::{Record, RecordRef};
use futures::{Stream, StreamExt};
use prost::Message;
use serde_json::json;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Answers until the stream ends, and how it ended.
pub(crate) async fn drain<T>(
    mut answers: impl Stream<Item = Result<T, Status>> + Unpin,
) -> (Vec<T>, Result<(), Status>) {
    let mut all = Vec::new();
    while let Some(answer) = soon(answers.next()).await {
        match answer {
            Ok(answer) => all.push(answer),
            Err(status) => return (all, Err(status)),
        }
    }
    (all, Ok(()))
}

pub(crate) async fn pushed(node: &Node, records: Vec<Record>) -> (Vec<RecordRef>, Result<(), Status>) {
    let mut client = node.store_client().await;
    drain(soon(client.push(futures::stream::iter(records))).await.unwrap().into_inner()).await
}

pub(crate) async fn pulled(node: &Node, cids: &[&str]) -> (Vec<Record>, Result<(), Status>) {
    let asked: Vec<_> = cids.iter().map(|cid| reference(cid)).collect();
    let mut client = node.store_client().await;
    drain(soon(client.pull(futures::stream::iter(asked))).await.unwrap().into_inner()).await
}

async fn deleted(node: &Node, cids: &[&str]) -> Result<(), Status> {
    let asked: Vec<_> = cids.iter().map(|cid| reference(cid)).collect();
    soon(node.store_client().await.delete(futures::stream::iter(asked))).await.map(|_| ())
}

#[track_caller]
pub(crate) fn is(status: &Result<(), Status>, code: Code, text: &str) {
    let status = status.as_ref().expect_err("an error was expected");
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn a_record_goes_in_and_comes_out() {
    let node = Node::start().await;
    let cids = push(&node, vec![record("a"), record("b"), record("a")]).await;
    assert_eq!(cids, [cid(&json("a")), cid(&json("b")), cid(&json("a"))]);
    let (records, end) = pulled(&node, &[&cids[0], &cids[1], &cids[0]]).await;
    assert_eq!(records, [record("a"), record("b"), record("a")]);
    assert!(end.is_ok());
    assert_eq!(node.store.puts.load(Ordering::SeqCst), 2, "the repeat is not written again");
    // From memory, without asking the store again.
    let gets = node.store.gets.load(Ordering::SeqCst);
    assert_eq!(pulled(&node, &[&cids[0]]).await.0, [record("a")]);
    assert_eq!(node.store.gets.load(Ordering::SeqCst), gets);
}

#[tokio::test]
async fn empty_members_and_lists_come_back_as_they_were() {
    let node = Node::start().await;
    let mut value = json("a");
    value["x"] = json!({"null": null, "list": [], "object": {}, "text": "", "zero": 0, "no": false, "<&>": "\u{2028}"});
    let cids = push(&node, vec![message(&value)]).await;
    assert_eq!(cids, [cid(&value)]);
    assert_eq!(pulled(&node, &[&cids[0]]).await.0, [message(&value)]);
}

#[tokio::test]
async fn each_answer_comes_before_the_next_message() {
    let node = Node::start().await;
    let mut client = node.store_client().await;
    let (send, messages) = mpsc::channel(1);
    let mut answers = soon(client.push(ReceiverStream::new(messages))).await.unwrap().into_inner();
    for name in ["a", "b", "c"] {
        send.send(record(name)).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().cid, cid(&json(name)));
    }
    drop(send);
    assert_eq!(soon(answers.message()).await.unwrap(), None);

    let (send, messages) = mpsc::channel(1);
    let mut records = soon(client.pull(ReceiverStream::new(messages))).await.unwrap().into_inner();
    let (ask, messages) = mpsc::channel(1);
    let mut metas = soon(client.lookup(ReceiverStream::new(messages))).await.unwrap().into_inner();
    for name in ["c", "a", "b"] {
        let cid = cid(&json(name));
        send.send(reference(&cid)).await.unwrap();
        assert_eq!(soon(records.message()).await.unwrap().unwrap(), record(name));
        ask.send(reference(&cid)).await.unwrap();
        assert_eq!(soon(metas.message()).await.unwrap().unwrap().cid, cid);
    }
    drop((send, ask));
    assert_eq!(soon(records.message()).await.unwrap(), None);
    assert_eq!(soon(metas.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_without_messages_is_legal() {
    let node = Node::start().await;
    assert!(pushed(&node, vec![]).await.1.is_ok());
    assert!(pulled(&node, &[]).await.1.is_ok());
    assert!(deleted(&node, &[]).await.is_ok());
    let nothing = futures::stream::iter(Vec::<RecordRef>::new());
    let lookup = soon(node.store_client().await.lookup(nothing)).await.unwrap().into_inner();
    assert_eq!(drain(lookup).await.0.len(), 0);
}

#[tokio::test]
async fn names_that_are_no_cid() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    node.store.mood(Mood::Unavailable);
    for name in
        ["x", "latest", &known.to_uppercase(), &known[1..], "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKZABC"]
    {
        // The store is not asked: it would not answer.
        is(
            &pulled(&node, &[name]).await.1,
            Code::NotFound,
            &format!("failed to pull record: record not found: {name}"),
        );
        is(
            &deleted(&node, &[name]).await,
            Code::NotFound,
            &format!("failed to delete record: record not found: {name}"),
        );
        let lookup = node.store_client().await.lookup(futures::stream::iter([reference(name)])).await;
        let (_, end) = drain(lookup.unwrap().into_inner()).await;
        is(&end, Code::NotFound, &format!("failed to lookup record: record not found: {name}"));
    }
    is(&pulled(&node, &[""]).await.1, Code::InvalidArgument, "record cid is required");
    is(&deleted(&node, &[""]).await, Code::InvalidArgument, "record cid is required");
    let lookup = node.store_client().await.lookup(futures::stream::iter([reference("")])).await;
    is(&drain(lookup.unwrap().into_inner()).await.1, Code::InvalidArgument, "record cid is required");
}

#[tokio::test]
async fn an_absent_record_is_not_found_after_earlier_answers() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let absent = Cid::of(b"nothing").to_string();
    let (records, end) = pulled(&node, &[&known, &absent, &known]).await;
    assert_eq!(records.len(), 1);
    is(&end, Code::NotFound, &format!("failed to pull record: record not found: {absent}"));
    let lookup = futures::stream::iter([reference(&known), reference(&absent)]);
    let (metas, end) = drain(node.store_client().await.lookup(lookup).await.unwrap().into_inner()).await;
    assert_eq!(metas.len(), 1);
    is(&end, Code::NotFound, &format!("failed to lookup record: record not found: {absent}"));
}

#[tokio::test]
async fn content_that_does_not_match_its_cid_never_leaves() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    assert!(node.store.inner.corrupt(&known.parse().unwrap(), Bytes::from_static(b"{}")));
    let (records, end) = pulled(&node, &[&known]).await;
    assert!(records.is_empty());
    is(&end, Code::DataLoss, &format!("failed to pull record: content does not match CID {known}"));
    assert_eq!(node.sample(&["directory_engine_total", "content_mismatch"]), Some(1.0));
}

#[tokio::test]
async fn a_store_that_fails_is_unavailable_and_tells_nothing() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let absent = Cid::of(b"nothing").to_string();
    for (mood, what) in
        [(Mood::Unavailable, "store unavailable"), (Mood::Slow, "store did not answer in time")]
    {
        node.store.mood(mood);
        let text = |op: &str| format!("failed to {op}: {what}");
        is(&pulled(&node, &[&known]).await.1, Code::Unavailable, &text("pull record"));
        is(&pushed(&node, vec![record("new")]).await.1, Code::Unavailable, &text("push record to store"));
        is(&deleted(&node, &[&known]).await, Code::Unavailable, &text("delete record"));
        let lookup = node.store_client().await.lookup(futures::stream::iter([reference(&absent)])).await;
        let (_, end) = drain(lookup.unwrap().into_inner()).await;
        is(&end, Code::Unavailable, &text("lookup record"));
        // What the index and the memory know is served all the same.
        let lookup = node.store_client().await.lookup(futures::stream::iter([reference(&known)])).await;
        assert!(drain(lookup.unwrap().into_inner()).await.1.is_ok());
        assert!(pushed(&node, vec![record("a")]).await.1.is_ok());
    }
    node.store.mood(Mood::Unsupported);
    is(
        &deleted(&node, &[&known]).await,
        Code::Unimplemented,
        "failed to delete record: registry does not support OCI delete API; use the registry's web UI or native API to delete packages",
    );
    node.store.mood(Mood::Garbage);
    is(
        &pulled(&node, &[&known]).await.1,
        Code::Internal,
        "failed to pull record: manifest has no layers for CID x",
    );
    node.store.mood(Mood::Works);
    assert!(pulled(&node, &[&known]).await.1.is_ok());
}

#[tokio::test]
async fn lookup_tells_what_the_record_says_of_itself() {
    let node = Node::start().await;
    let mut value = json("a");
    value["annotations"] = json!({"team": "blue", "name": "mine"});
    value["previous_record_cid"] = json!("older");
    let known = push(&node, vec![message(&value)]).await.remove(0);
    let ask = async || {
        let lookup = node.store_client().await.lookup(futures::stream::iter([reference(&known)])).await;
        drain(lookup.unwrap().into_inner()).await.0.remove(0)
    };
    let meta = ask().await;
    assert_eq!((meta.cid.as_str(), meta.schema_version.as_str()), (known.as_str(), "0.8.0"));
    assert_eq!(meta.created_at, "2026-01-01T00:00:00Z");
    let annotations: std::collections::BTreeMap<_, _> =
        meta.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("name", "mine"),
        ("oasf-version", "0.8.0"),
        ("previous-cid", "older"),
        ("team", "blue"),
        ("version", "v1.0.0"),
    ];
    assert_eq!(annotations.into_iter().collect::<Vec<_>>(), expected);
    // The manifest in the store says the same, when the index does not know the record.
    let other = Node::start().await;
    other.store.adopt(&node.store, &known, &value).await;
    let lookup = other.store_client().await.lookup(futures::stream::iter([reference(&known)])).await;
    assert_eq!(drain(lookup.unwrap().into_inner()).await.0.remove(0), meta);
}

#[tokio::test]
async fn delete_takes_a_record_away_and_knows_absent_ones() {
    let node = Node::start().await;
    let cids = push(&node, vec![record("a"), record("b"), record("c")]).await;
    assert!(pulled(&node, &[&cids[0]]).await.1.is_ok());
    let absent = Cid::of(b"nothing").to_string();
    // The stream ends at the absent one; what was deleted before it stays deleted.
    is(
        &deleted(&node, &[&cids[0], &absent, &cids[1]]).await,
        Code::NotFound,
        &format!("failed to delete record: record not found: {absent}"),
    );
    let gone = format!("failed to pull record: record not found: {}", cids[0]);
    is(&pulled(&node, &[&cids[0]]).await.1, Code::NotFound, &gone);
    assert!(pulled(&node, &[&cids[1]]).await.1.is_ok());
    assert!(deleted(&node, &[&cids[1], &cids[2]]).await.is_ok());
    is(
        &deleted(&node, &[&cids[1]]).await,
        Code::NotFound,
        &format!("failed to delete record: record not found: {}", cids[1]),
    );
    // Pushed again it is there again.
    assert_eq!(push(&node, vec![record("a")]).await, [cids[0].clone()]);
    assert!(pulled(&node, &[&cids[0]]).await.1.is_ok());
}

#[tokio::test]
async fn an_answer_above_the_send_limit_is_refused_in_words() {
    let app = AppConfig { max_send_msg_size: 300, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let size = record("a").encoded_len();
    let text = format!(
        "failed to send record: rpc error: code = ResourceExhausted desc = trying to send message larger than max ({size} vs. 300)"
    );
    is(&pulled(&node, &[&known]).await.1, Code::Internal, &text);
    let app = AppConfig { max_send_msg_size: size, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    assert!(pulled(&node, &[&known]).await.1.is_ok(), "exactly the limit passes");
}
