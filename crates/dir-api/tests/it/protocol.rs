//! What is decided before any service: limits of messages, deadlines, request ids, content types, panics.

use crate::frames::{call, call_with};
use crate::node::{Mood, Node, Setup, cid, json, push, record, reference, soon, until};
use bytes::Bytes;
use dir_api::AppConfig;
use dir_proto::agntcy::dir::core::v1::Record;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Version};
use prost::Message;
use prost::encoding::WireType;
use prost_types::DescriptorProto;
use std::collections::BTreeMap;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::metadata::MetadataValue;

const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";

/// A record message of exactly this size.
fn sized(bytes: usize) -> Record {
    let mut value = json("sized");
    let grow = |n: usize| "x".repeat(n);
    let mut size = bytes;
    loop {
        value["padding"] = grow(size).into();
        let record = crate::node::message(&value);
        match record.encoded_len() {
            len if len == bytes => return record,
            len => size = size + bytes - len,
        }
    }
}

#[tokio::test]
async fn a_message_at_the_receive_limit_passes_and_one_byte_more_does_not() {
    let app = AppConfig { max_recv_msg_size: 10_000, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let outcome = call(&node, PUSH, vec![sized(10_000).encode_to_vec().into()]).await;
    assert_eq!(outcome.status.code(), Code::Ok, "{}", outcome.status.message());
    let text = "grpc: received message larger than max (10001 vs. 10000)";
    // After earlier answers.
    let messages = vec![record("a").encode_to_vec().into(), sized(10_001).encode_to_vec().into()];
    let outcome = call(&node, PUSH, messages).await;
    assert_eq!(outcome.messages.len(), 1);
    assert_eq!((outcome.status.code(), outcome.status.message()), (Code::ResourceExhausted, text));
    // Unary calls and single requests of server streams alike.
    for path in
        [COUNT, "/agntcy.dir.search.v1.SearchService/SearchCIDs", "/grpc.health.v1.Health/Check", PULL]
    {
        let outcome = call(&node, path, vec![Bytes::from(vec![0; 10_001])]).await;
        assert_eq!(
            (outcome.status.code(), outcome.status.message()),
            (Code::ResourceExhausted, text),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_default_limit_is_four_mebibytes() {
    let node = Node::start().await;
    let outcome = call(&node, PUSH, vec![sized(4_194_304).encode_to_vec().into()]).await;
    assert_eq!(outcome.status.code(), Code::Ok, "{}", outcome.status.message());
    let outcome = call(&node, PUSH, vec![sized(4_194_305).encode_to_vec().into()]).await;
    let text = "grpc: received message larger than max (4194305 vs. 4194304)";
    assert_eq!((outcome.status.code(), outcome.status.message()), (Code::ResourceExhausted, text));

    // With a higher receive limit the record's own limit decides.
    let app = AppConfig { max_recv_msg_size: 8 << 20, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let outcome = call(&node, PUSH, vec![sized(4_194_305).encode_to_vec().into()]).await;
    let text = "record validation failed: [record size 4194305 bytes exceeds maximum allowed size of 4194304 bytes (4MB)]";
    assert_eq!((outcome.status.code(), outcome.status.message()), (Code::InvalidArgument, text));
}

#[tokio::test]
async fn bytes_that_do_not_parse_are_the_transports_matter() {
    let node = Node::start().await;
    let lookup = "/agntcy.dir.store.v1.StoreService/Lookup";
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for path in
        [PULL, lookup, COUNT, "/grpc.health.v1.Health/Check", "/agntcy.dir.store.v1.StoreService/Delete"]
    {
        let outcome = call(&node, path, vec![Bytes::from_static(&[0x0a, 0x7f, 0x00])]).await;
        assert_eq!(outcome.status.code(), Code::Internal, "{path}");
        let text = outcome.status.message();
        assert!(text.starts_with("grpc: failed to unmarshal the received message: "), "{path}: {text}");
    }
    // The generated codec of reflection drops the stream; it must not hang either.
    let outcome = call(&node, reflection, vec![Bytes::from_static(&[0x0a, 0x7f, 0x00])]).await;
    assert!(outcome.messages.is_empty());
}

#[tokio::test]
async fn n3_a_deadline_ends_waiting_calls_and_waiting_streams() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    node.store.reads.forget_permits(usize::MAX);
    let mut request = tonic::Request::new(vec![reference(&known).encode_to_vec().into()]);
    // Long: the client of this test keeps the time as well, until our headers are there.
    request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("5S"));
    let outcome = call_with(node.channel().await, PULL, request).await;
    assert_eq!(
        (outcome.status.code(), outcome.status.message()),
        (Code::DeadlineExceeded, "context deadline exceeded")
    );
    // A unary call whose request never comes to its end.
    let mut stuck = Stuck::open(&node, COUNT, "50m").await;
    let trailers = stuck.trailers().await;
    assert_eq!(trailers["grpc-status"], "4");
    until(|| node.sample(&["handled", "CountRecords", "\"DeadlineExceeded\""]) == Some(1.0)).await;
}

/// A call whose client says nothing after its headers.
struct Stuck {
    answer: h2::client::ResponseFuture,
    _send: h2::SendStream<Bytes>,
}

impl Stuck {
    async fn open(node: &Node, path: &str, timeout: &str) -> Self {
        let mut client = plain_client(node).await;
        let request = Request::post(format!("http://node{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap();
        let (answer, send) = client.send_request(request, false).unwrap();
        Self { answer, _send: send }
    }

    async fn trailers(&mut self) -> HeaderMap {
        soon(&mut self.answer).await.unwrap().headers().clone()
    }
}

async fn plain_client(node: &Node) -> h2::client::SendRequest<Bytes> {
    let io = soon(TcpStream::connect(node.addr)).await.unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    soon(client.ready()).await.unwrap()
}

#[tokio::test]
async fn n3_malformed_deadlines() {
    let node = Node::start().await;
    for (timeout, why) in [
        ("123456789S", "timeout string is too long"),
        ("1x", "timeout unit is not recognized"),
        ("S", "timeout string is too short"),
        ("-1S", "timeout value is not a number"),
    ] {
        let mut stuck = Stuck::open(&node, COUNT, timeout).await;
        let response = soon(&mut stuck.answer).await.unwrap();
        assert_eq!(response.status(), 400, "{timeout}");
        assert_eq!(response.headers()["grpc-status"], "13");
        assert_eq!(response.headers()["grpc-message"], format!("malformed grpc-timeout: {why}"));
    }
    assert_eq!(node.sample(&["handled", "CountRecords", "\"Internal\""]), Some(4.0));
}

#[tokio::test]
async fn n1_requests_that_are_no_grpc_calls() {
    let node = Node::start().await;
    let ask = async |method: Method, content_type: Option<&str>| {
        let mut request = Request::builder().method(method).uri(format!("http://node{COUNT}"));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.version(Version::HTTP_2).body(()).unwrap();
        let (answer, _) = plain_client(&node).await.send_request(request, true).unwrap();
        let response = soon(answer).await.unwrap();
        let (parts, mut body) = response.into_parts();
        assert!(soon(body.data()).await.is_none(), "headers alone");
        let mut headers: Vec<_> =
            parts.headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        headers.sort();
        (parts.status.as_u16(), headers)
    };
    let golden = |text: &str| {
        vec![
            "content-type: application/grpc".to_owned(),
            format!("grpc-message: invalid gRPC request content-type \"{text}\""),
            "grpc-status: 3".to_owned(),
        ]
    };
    assert_eq!(ask(Method::GET, None).await, (415, golden("")));
    assert_eq!(ask(Method::POST, Some("application/json")).await, (415, golden("application/json")));
    assert_eq!(ask(Method::POST, Some("application/grpc-web")).await, (415, golden("application/grpc-web")));
    assert_eq!(ask(Method::POST, Some("a%b")).await, (415, golden("a%25b")));
    let (status, headers) = ask(Method::GET, Some("application/grpc")).await;
    assert_eq!((status, headers[2].as_str()), (405, "grpc-status: 13"));
    // Subtypes are gRPC; nothing of the above was counted as a call.
    let (status, headers) = ask(Method::POST, Some("application/grpc+proto")).await;
    assert_eq!(status, 200);
    assert!(headers.iter().any(|h| h == "grpc-status: 13"), "{headers:?}");
    assert_eq!(node.sample(&["started_total", "CountRecords"]), Some(1.0));
}

#[tokio::test]
async fn n4_every_call_has_a_request_id() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let ask = async |id: Option<&'static str>, messages: Vec<Bytes>| {
        let mut request = tonic::Request::new(messages);
        if let Some(id) = id {
            request.metadata_mut().insert("x-request-id", MetadataValue::from_static(id));
        }
        let outcome = call_with(channel.clone(), PUSH, request).await;
        outcome.trailers.get("x-request-id").expect("an id").to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("from-the-client"), vec![]).await, "from-the-client");
    assert_eq!(ask(Some("on-errors-too"), vec![Bytes::new()]).await, "on-errors-too");
    let (first, second) = (ask(None, vec![]).await, ask(None, vec![]).await);
    assert_ne!(first, second);
    let long: &'static str = "x".repeat(129).leak();
    assert_eq!(ask(Some(&long[..128]), vec![]).await, long[..128]);
    assert_ne!(ask(Some(long), vec![]).await, long, "too long is not taken over");
    assert_ne!(ask(Some("with space"), vec![]).await, "with space");
    // Trailers-only answers carry it as well.
    let unknown = call_with(channel.clone(), "/no.Service/Method", tonic::Request::new(vec![])).await;
    assert!(unknown.trailers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_nothing_else_notices() {
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let absent = dir_core::Cid::of(b"nothing").to_string();
    node.store.mood(Mood::Panics);
    // In the body of a stream, after an answer …
    let mut client = node.store_client().await;
    let mut other = node.store_client().await;
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let open = other.lookup(tokio_stream::wrappers::ReceiverStream::new(messages)).await.unwrap();
    let asked = futures::stream::iter([reference(&known), reference(&absent)]);
    let answers: Vec<_> = client.lookup(asked).await.unwrap().into_inner().collect().await;
    assert!(answers[0].is_ok());
    let status = answers[1].as_ref().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal server error"));
    // … in a task of its own …
    let answers = client.push(futures::stream::iter([record("new")])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert_eq!(answers[0].as_ref().unwrap_err().code(), Code::Internal);
    // … and in a handler before its response.
    let status = client.delete(futures::stream::iter([reference(&known)])).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    node.store.mood(Mood::Works);
    send.send(reference(&known)).await.unwrap();
    assert_eq!(soon(open.into_inner().message()).await.unwrap().unwrap().cid, known);
    assert_eq!(node.sample(&["handled", "Lookup", "\"Internal\""]), Some(1.0));
    assert_eq!(push(&node, vec![record("new")]).await, [cid(&json("new"))]);
}

/// Every declared message, by its full name.
fn declared() -> BTreeMap<String, DescriptorProto> {
    let files = &dir_proto::file_descriptor_set().file;
    let all = files.iter().flat_map(|file| file.message_type.iter().map(move |message| (file, message)));
    all.map(|(file, message)| (format!(".{}.{}", file.package(), message.name()), message.clone())).collect()
}

#[tokio::test]
async fn bytes_that_do_not_parse_are_told_of_in_the_names_of_the_api() {
    let node = Node::start().await;
    let (messages, mut told) = (declared(), 0);
    for file in &dir_proto::file_descriptor_set().file {
        for (service, method) in file.service.iter().flat_map(|s| s.method.iter().map(move |m| (s, m))) {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let request = &messages[method.input_type()];
            for field in &request.field {
                // A group: nothing in the API is one.
                let number = u32::try_from(field.number()).unwrap();
                let mut broken = bytes::BytesMut::new();
                prost::encoding::encode_key(number, WireType::StartGroup, &mut broken);
                let status = call(&node, &path, vec![broken.freeze()]).await.status;
                if status.code() == Code::Unimplemented {
                    continue;
                }
                assert_eq!(status.code(), Code::Internal, "{path}: {}", status.message());
                let text = status.message().strip_prefix("grpc: failed to unmarshal the received message: ");
                let named = format!("{}.{}: ", request.name(), field.name());
                // The bytes of a pushed record are not read by generated code.
                let raw = path.ends_with("StoreService/Push");
                assert!(
                    text.is_some_and(|text| raw || text.starts_with(&named)),
                    "{path}: {text:?}, not {named}"
                );
                told += 1;
            }
        }
    }
    assert!(told > 30, "{told}");
    // Inside, too.
    let wrong = bytes::Bytes::from_static(&[0x0a, 0x02, 0x0a, 0x00]);
    let status = call(&node, "/agntcy.dir.search.v1.SearchService/SearchCIDs", vec![wrong]).await.status;
    let text =
        "grpc: failed to unmarshal the received message: RecordQuery.type: SearchCIDsRequest.queries: ";
    assert!(status.message().starts_with(text), "{}", status.message());
}
