//! Push: order, checks, what is left behind when something goes wrong.

use crate::frames::call;
use crate::node::{Node, Setup, cid, json, message, record, soon, until};
use crate::store::{is, pulled, pushed};
use bytes::Bytes;
use dir_api::AppConfig;
use dir_engine::EngineConfig;
use dir_proto::agntcy::dir::core::v1::RecordRef;
use prost::Message;
use serde_json::json;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";

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
