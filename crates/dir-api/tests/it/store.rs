//! `StoreService`: streaming rules, statuses and texts.

use crate::frames::call;
use crate::node::{Mood, Node, Setup, cid, json, message, push, record, reference, soon, until};
use bytes::Bytes;
use dir_api::AppConfig;
use dir_core::Cid;
use dir_engine::EngineConfig;
use dir_proto::agntcy::dir::core::v1::{Record, RecordRef};
use futures::{Stream, StreamExt};
use prost::Message;
use serde_json::json;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";

/// Answers until the stream ends, and how it ended.
async fn drain<T>(
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

async fn pushed(node: &Node, records: Vec<Record>) -> (Vec<RecordRef>, Result<(), Status>) {
    let mut client = node.store_client().await;
    drain(soon(client.push(futures::stream::iter(records))).await.unwrap().into_inner()).await
}

async fn pulled(node: &Node, cids: &[&str]) -> (Vec<Record>, Result<(), Status>) {
    let asked: Vec<_> = cids.iter().map(|cid| reference(cid)).collect();
    let mut client = node.store_client().await;
    drain(soon(client.pull(futures::stream::iter(asked))).await.unwrap().into_inner()).await
}

async fn deleted(node: &Node, cids: &[&str]) -> Result<(), Status> {
    let asked: Vec<_> = cids.iter().map(|cid| reference(cid)).collect();
    soon(node.store_client().await.delete(futures::stream::iter(asked))).await.map(|_| ())
}

#[track_caller]
fn is(status: &Result<(), Status>, code: Code, text: &str) {
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
async fn several_records_of_a_stream_are_in_flight_and_answers_keep_their_order() {
    let app = AppConfig { stream_in_flight: 4, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let names: Vec<String> = (0..6).map(|n| format!("r{n}")).collect();
    node.store.writes.forget_permits(usize::MAX);
    let mut client = node.store_client().await;
    let records: Vec<_> = names.iter().map(|n| record(n)).collect();
    let asked = client.push(futures::stream::iter(records));
    let mut answers = soon(asked).await.unwrap().into_inner();
    // Four writes wait at the same time, although nothing was answered yet; no fifth does.
    let waiting = || node.store.waiting.load(Ordering::SeqCst);
    let first = async {
        let next = answers.message();
        tokio::pin!(next);
        until(|| {
            use futures::FutureExt;
            assert!((&mut next).now_or_never().is_none());
            waiting() == 4
        })
        .await;
        assert_eq!(node.store.puts.load(Ordering::SeqCst), 0);
        node.store.writes.add_permits(6);
        soon(next).await.unwrap().unwrap().cid
    };
    let mut got = vec![first.await];
    while let Some(answer) = soon(answers.message()).await.unwrap() {
        got.push(answer.cid);
    }
    let expected: Vec<_> = names.iter().map(|n| cid(&json(n))).collect();
    assert_eq!(got, expected);
    assert_eq!(node.store.waiting_most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_refused_record_comes_after_earlier_answers_and_nothing_behind_it_is_stored() {
    let node = Node::start().await;
    let mut bad = json("bad");
    bad["schema_version"] = json!("2.0.0");
    let (answers, end) = pushed(&node, vec![record("a"), record("b"), message(&bad), record("behind")]).await;
    assert_eq!(answers.len(), 2);
    is(
        &end,
        Code::InvalidArgument,
        "record validation failed: [unsupported OASF version: 2.0.0 (major version 2 not supported)]",
    );
    assert_eq!(node.store.puts.load(Ordering::SeqCst), 2);
    assert!(pulled(&node, &[&cid(&json("a"))]).await.1.is_ok());
    let behind = cid(&json("behind"));
    let text = format!("failed to pull record: record not found: {behind}");
    is(&pulled(&node, &[&behind]).await.1, Code::NotFound, &text);
}

#[tokio::test]
async fn checks_of_a_push_in_their_order() {
    let engine = EngineConfig { max_record_bytes: 100_000, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let refused = async |raw: Vec<u8>| {
        let outcome = call(&node, PUSH, vec![Bytes::from(raw)]).await;
        assert!(outcome.messages.is_empty());
        (outcome.status.code(), outcome.status.message().to_owned())
    };
    let invalid = |cause: &str| (Code::InvalidArgument, format!("record validation failed: [{cause}]"));

    // Size comes first, even before anybody looks whether the bytes parse.
    assert_eq!(
        refused(vec![0xff; 100_001]).await,
        invalid("record size 100001 bytes exceeds maximum allowed size of 100000 bytes (0MB)")
    );
    assert_eq!(refused(vec![]).await, invalid("record is nil"));
    let with = |key: &str, value: serde_json::Value| {
        let mut all = json("x");
        all[key] = value;
        message(&all).encode_to_vec()
    };
    // No canonical form comes before a wrong version.
    let mut nan = message(&{
        let mut all = json("x");
        all["schema_version"] = json!("9.9.9");
        all
    });
    let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
    nan.data.as_mut().unwrap().fields.insert("n".into(), number);
    assert_eq!(refused(nan.encode_to_vec()).await, invalid("a number is NaN or infinite"));
    let mut kindless = record("x");
    kindless.data.as_mut().unwrap().fields.insert("n".into(), prost_types::Value { kind: None });
    assert_eq!(refused(kindless.encode_to_vec()).await, invalid("a google.protobuf.Value has no kind set"));
    let mut unversioned = json("x");
    unversioned.as_object_mut().unwrap().remove("schema_version");
    unversioned["name"] = json!(5);
    let (code, text) = refused(message(&unversioned).encode_to_vec()).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("record validation failed: [") && text.contains("schema_version"), "{text}");
    // A wrong type comes before what the rules say of the whole.
    let (code, text) = refused(with("name", json!(5))).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("record validation failed: ["), "{text}");
    let (code, text) = refused(with("skills", json!([]))).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("record validation failed: [ERROR: "), "{text}");
    // Bytes that are no message, and a string that is not UTF-8.
    assert_eq!(
        refused(vec![0xff; 9]).await,
        (
            Code::Internal,
            "grpc: failed to unmarshal the received message: cannot parse invalid wire-format data at byte 0"
                .into()
        )
    );
    let mut broken = record("name-to-break").encode_to_vec();
    let at = broken.windows(13).position(|w| w == b"name-to-break").unwrap();
    broken[at] = 0xff;
    assert_eq!(
        refused(broken).await,
        (
            Code::Internal,
            "grpc: failed to unmarshal the received message: string field contains invalid UTF-8".into()
        )
    );
    assert_eq!(node.store.puts.load(Ordering::SeqCst), 0, "nothing of all this was stored");
}

/// A record whose member `deep` is this many objects, each in the other.
fn nested(levels: usize) -> Vec<u8> {
    fn field(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        prost::encoding::encode_varint(body.len() as u64, &mut out);
        out.extend_from_slice(body);
        out
    }
    let mut object = Vec::new();
    for _ in 1..levels {
        // Struct.fields entry { key: "a", value: Value { struct_value } }
        let value = field(0x2a, &object);
        object = field(0x0a, &[field(0x0a, b"a"), field(0x12, &value)].concat());
    }
    let deep = field(0x0a, &[field(0x0a, b"deep"), field(0x12, &field(0x2a, &object))].concat());
    let flat = record("deep").data.unwrap().encode_to_vec();
    field(0x0a, &[flat, deep].concat())
}

#[tokio::test]
async fn three_thousand_nested_objects_pass_and_five_thousand_are_refused() {
    let node = Node::start().await;
    let outcome = call(&node, PUSH, vec![nested(3000).into()]).await;
    assert_eq!(outcome.status.code(), Code::Ok, "{}", outcome.status.message());
    let named = RecordRef::decode(outcome.messages[0].clone()).unwrap();
    let pulled = call(
        &node,
        "/agntcy.dir.store.v1.StoreService/Pull",
        vec![named.encode_to_vec().into(), named.encode_to_vec().into()],
    )
    .await;
    assert_eq!(pulled.messages.len(), 2);
    let back = dir_proto::wire::decode_record(&pulled.messages[0]).unwrap().unwrap();
    assert_eq!(dir_core::Record::from_doc(&back).unwrap().cid().to_string(), named.cid);

    let outcome = call(&node, PUSH, vec![nested(5000).into()]).await;
    assert_eq!(outcome.status.code(), Code::InvalidArgument);
    assert!(
        outcome.status.message().starts_with("record validation failed: ["),
        "{}",
        outcome.status.message()
    );
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

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_record_half_stored() {
    let node = Node::start().await;
    node.store.writes.forget_permits(usize::MAX);
    let mut client = node.store_client().await;
    let (send, messages) = mpsc::channel(1);
    send.send(record("a")).await.unwrap();
    let answers = soon(client.push(ReceiverStream::new(messages))).await.unwrap().into_inner();
    until(|| node.store.waiting.load(Ordering::SeqCst) == 1).await;
    drop((answers, send, client));
    let canceled = ["grpc_server_handled_total", "Push", "\"Canceled\""];
    until(|| node.sample(&canceled) == Some(1.0)).await;
    node.store.writes.add_permits(1);
    soon(node.engine.settle()).await;
    assert!(pulled(&node, &[&cid(&json("a"))]).await.1.is_ok());
    assert_eq!(node.engine.count(&dir_core::query::Query::default()).await.unwrap(), 1);
}
