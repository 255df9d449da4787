//! Attacks on HTTP/2 against the serving loop: the attacker's connection is closed, others are served.

use crate::frames::{PING, Peer, SETTINGS};
use crate::node::{Node, Setup, json, message, push, record, until};
use dir_api::ServeConfig;
use std::time::Duration;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A POST with a path of the static table: `:method POST`, `:scheme http`, `:path /`.
const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

/// The attacker sends this and is cut off, while an honest client is served.
async fn attack(node: &Node, bytes: &[u8]) {
    let mut attacker = Peer::connect(node.addr).await;
    attacker.send(bytes).await;
    assert_eq!(push(node, vec![record("acme.example/honest")]).await.len(), 1);
    attacker.closed().await;
    assert_eq!(push(node, vec![record("acme.example/honest")]).await.len(), 1);
}

fn floods(node: &Node) -> Option<f64> {
    node.sample(&["drained_total", "reason=\"flood\""])
}

#[tokio::test]
async fn abuse_ping_flood() {
    let node = Node::start().await;
    attack(&node, &frame(PING, 0, 0, &[7; 8]).repeat(1000)).await;
    until(|| floods(&node) == Some(1.0)).await;
}

#[tokio::test]
async fn abuse_control_frame_flood() {
    let node = Node::start().await;
    attack(&node, &frame(SETTINGS, 0, 0, &[]).repeat(2000)).await;
    until(|| floods(&node) == Some(1.0)).await;
}

#[tokio::test]
async fn abuse_no_pings_within_the_strikes_are_answered() {
    let node = Node::start().await;
    let mut peer = Peer::connect(node.addr).await;
    peer.send(&frame(PING, 0, 0, &[7; 8]).repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(peer.wait_for(PING).await.unwrap().payload, [7; 8]);
    }
    assert_eq!(floods(&node), Some(0.0));
}

#[tokio::test]
async fn abuse_no_pings_without_a_call_where_they_need_one() {
    // The interval lets every ping pass; without a call two hours have to lie between them.
    let serve =
        ServeConfig { ping_interval: Duration::ZERO, ping_without_stream: false, ..ServeConfig::default() };
    let node = Node::with(Setup { serve: serve.clone(), ..Setup::default() }).await;
    let ping = frame(PING, 0, 0, &[7; 8]);
    let mut quiet = Peer::connect(node.addr).await;
    quiet.send(&ping.repeat(4)).await;
    quiet.closed().await;
    until(|| floods(&node) == Some(1.0)).await;
    // With a call that stays open they may come.
    let mut calling = Peer::connect(node.addr).await;
    let headers = grpc_headers("/agntcy.dir.store.v1.StoreService/Pull");
    calling.send(&frame(HEADERS, 0x4, 1, &headers)).await;
    calling.wait_for(HEADERS).await.unwrap();
    for _ in 0..20 {
        calling.send(&ping).await;
        assert_eq!(calling.wait_for(PING).await.unwrap().payload, [7; 8]);
    }
    // And with the switch as it is by default, without one as well.
    let serve = ServeConfig { ping_without_stream: true, ..serve };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut quiet = Peer::connect(node.addr).await;
    for _ in 0..20 {
        quiet.send(&ping).await;
        assert_eq!(quiet.wait_for(PING).await.unwrap().payload, [7; 8]);
    }
    assert_eq!(floods(&node), Some(0.0));
}

#[tokio::test]
async fn abuse_rapid_reset_10k() {
    let node = Node::start().await;
    let mut bytes = Vec::new();
    for n in 0..10_000_u32 {
        bytes.extend(frame(HEADERS, 0x4, 2 * n + 1, &REQUEST));
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    attack(&node, &bytes).await;
}

#[tokio::test]
async fn abuse_continuation_flood() {
    let node = Node::start().await;
    // A literal header with a long value again and again, and never the end of the headers.
    let header = [&[0x00, 1, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
    let more = frame(CONTINUATION, 0, 1, &header.repeat(40));
    let bytes = [frame(HEADERS, 0, 1, &REQUEST), more.repeat(200)].concat();
    attack(&node, &bytes).await;
}

#[tokio::test]
async fn abuse_no_preface() {
    let serve =
        ServeConfig { first_request_timeout: Some(Duration::from_millis(50)), ..ServeConfig::default() };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut slow = Peer::silent(node.addr).await;
    slow.send(b"PRI * HTTP/2.0\r\n").await;
    slow.closed().await;
    let mut silent = Peer::silent(node.addr).await;
    silent.closed().await;
}

#[tokio::test]
async fn abuse_locally_provoked_resets() {
    let node = Node::start().await;
    let mut bytes = Vec::new();
    for n in 0..3_000_u32 {
        // A window that grows by nothing is a fault of the stream: the server has to reset it.
        bytes.extend(frame(HEADERS, 0x4, 2 * n + 1, &REQUEST));
        bytes.extend(frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4]));
    }
    attack(&node, &bytes).await;
}

#[tokio::test]
async fn abuse_64_kib_headers() {
    let node = Node::start().await;
    let header = [&[0x00, 1, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
    let block = [&REQUEST[..], &header.repeat(256)].concat();
    assert!(block.len() > 64 << 10);
    let mut bytes = Vec::new();
    for n in 0..8_u32 {
        let mut parts = block.chunks(16 << 10).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { 0x4 } else { 0 };
            bytes.extend(frame(kind, flags, 2 * n + 1, part));
            kind = CONTINUATION;
        }
    }
    attack(&node, &bytes).await;
    assert_eq!(node.sample(&["started_total", "grpc_method=\"Push\""]), Some(2.0), "the honest calls alone");
}

/// Headers of a gRPC call on this path.
fn grpc_headers(path: &str) -> Vec<u8> {
    let literal =
        |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [&[0x83, 0x86][..], &literal(&[0x04], path), &literal(&[0x0f, 0x10], "application/grpc")].concat()
}

/// Opens `count` calls of Pull for one record. The server may send `window` bytes on each.
fn pulls(cid: &str, count: u32, window: u32) -> Vec<u8> {
    let reference = [&[0x0a, u8::try_from(cid.len()).unwrap()], cid.as_bytes()].concat();
    let message = [&[0, 0, 0, 0, u8::try_from(reference.len()).unwrap()][..], &reference].concat();
    let headers = grpc_headers("/agntcy.dir.store.v1.StoreService/Pull");
    let mut bytes = frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
    for n in 0..count {
        bytes.extend(frame(HEADERS, 0x4, 2 * n + 1, &headers));
        bytes.extend(frame(0, 0x1, 2 * n + 1, &message));
    }
    bytes
}

/// A node that gives up soon, and the CID of a record of a mebibyte in it.
async fn impatient() -> (Node, String) {
    let serve = ServeConfig { stalled_timeout: Duration::from_millis(400), ..ServeConfig::default() };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut value = json("acme.example/large");
    value["padding"] = "x".repeat(1 << 20).into();
    let cid = push(&node, vec![message(&value)]).await.remove(0);
    (node, cid)
}

fn stalls(node: &Node) -> Option<f64> {
    node.sample(&["drained_total", "reason=\"stalled\""])
}

#[tokio::test]
async fn abuse_slow_reader_that_shuts_the_window() {
    for window in [0, 1] {
        let (node, cid) = impatient().await;
        let listen = frame(HEADERS, 0x4, 41, &grpc_headers("/agntcy.dir.events.v1.EventService/Listen"));
        let listen = [listen, frame(0, 0x1, 41, &[0; 5])].concat();
        attack(&node, &[pulls(&cid, 20, window), listen].concat()).await;
        until(|| stalls(&node) == Some(1.0)).await;
        let cut = || node.sample(&["grpc_server_handled_total", "\"Listen\"", "\"Canceled\""]);
        until(|| cut() == Some(1.0)).await;
    }
}

#[tokio::test]
async fn abuse_slow_reader_that_does_not_read_its_socket() {
    let (node, cid) = impatient().await;
    let mut attacker = Peer::connect(node.addr).await;
    let wide = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    attacker.send(&[wide, pulls(&cid, 100, 1 << 30)].concat()).await;
    until(|| stalls(&node) == Some(1.0)).await;
    assert_eq!(push(&node, vec![record("acme.example/honest")]).await.len(), 1);
}

#[tokio::test]
async fn abuse_per_stream_trickle() {
    let (node, cid) = impatient().await;
    let mut attacker = Peer::connect(node.addr).await;
    attacker.send(&pulls(&cid, 4, 1)).await;
    // A byte more on each stream, again and again.
    until(|| {
        let grow = (0..4_u32).flat_map(|n| frame(WINDOW_UPDATE, 0, 2 * n + 1, &1_u32.to_be_bytes()));
        futures::executor::block_on(attacker.send(&grow.collect::<Vec<_>>()));
        stalls(&node) == Some(1.0)
    })
    .await;
    attacker.closed().await;
    assert_eq!(push(&node, vec![record("acme.example/honest")]).await.len(), 1);
}

#[tokio::test]
async fn abuse_no_reader_is_cut_off_while_nothing_waits() {
    let (node, cid) = impatient().await;
    // A call that has nothing to say for several timeouts, on a connection that is otherwise quiet.
    let mut client = dir_proto::agntcy::dir::events::v1::event_service_client::EventServiceClient::new(
        node.channel().await,
    );
    let mut events = client
        .listen(dir_proto::agntcy::dir::events::v1::ListenRequest::default())
        .await
        .unwrap()
        .into_inner();
    // Attackers come and go meanwhile; each takes a timeout to be cut off.
    for count in 1..=4 {
        let mut attacker = Peer::connect(node.addr).await;
        attacker.send(&pulls(&cid, 1, 0)).await;
        attacker.closed().await;
        until(|| stalls(&node) == Some(f64::from(count))).await;
    }
    push(&node, vec![record("acme.example/news")]).await;
    crate::node::soon(events.message()).await.unwrap().unwrap();
    assert_eq!(stalls(&node), Some(4.0));
}

/// The beginning of so many pushes: of each `sent` bytes of a message that says it has four megabytes.
fn half_sent(first: u32, count: u32, sent: usize) -> Vec<u8> {
    let headers = grpc_headers("/agntcy.dir.store.v1.StoreService/Push");
    let begun = [&[0][..], &(4_u32 << 20).to_be_bytes(), &vec![0; sent - 5]].concat();
    (first..first + count)
        .flat_map(|n| {
            let open = frame(HEADERS, 0x4, 2 * n + 1, &headers);
            begun.chunks(16 << 10).fold(open, |all, part| [all, frame(0, 0, 2 * n + 1, part)].concat())
        })
        .collect()
}

/// A peer that may use the windows that the server offers: they hold once it has said so.
async fn wide_open(node: &Node) -> Peer {
    let mut peer = Peer::connect(node.addr).await;
    peer.wait_for(SETTINGS).await.unwrap();
    peer.send(&frame(SETTINGS, 0x1, 0, &[])).await;
    peer
}

fn refused(node: &Node, limit: &str) -> f64 {
    node.sample(&["unfinished_messages_refused_total", &format!("limit=\"{limit}\"")]).unwrap()
}

#[tokio::test]
async fn abuse_a_thousand_half_sent_messages_on_one_connection() {
    // However slow this machine is, what is held stays held.
    let stalled_timeout = Duration::from_secs(3600);
    let serve = ServeConfig { max_unfinished: 9 << 20, stalled_timeout, ..ServeConfig::default() };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut attacker = wide_open(&node).await;
    // Windows are not looked at: what was sent has to be taken before more is.
    let started = || node.sample(&["started_total", "grpc_method=\"Push\""]).unwrap();
    for first in 0..36 {
        attacker.send(&half_sent(first, 1, 256 << 10)).await;
        until(|| started() >= f64::from(first + 1)).await;
    }
    for first in (36..1000).step_by(4) {
        attacker.send(&half_sent(first, 4, 16 << 10)).await;
        until(|| started() >= f64::from(first + 4)).await;
    }
    // As many as fit are held, to the byte; not one more.
    until(|| refused(&node, "connection") >= 964.0).await;
    assert_eq!((refused(&node, "connection"), refused(&node, "process")), (964.0, 0.0));
    assert_eq!(push(&node, vec![record("acme.example/honest")]).await.len(), 1);
}

#[tokio::test]
async fn abuse_half_sent_messages_on_many_connections() {
    let serve = ServeConfig {
        max_unfinished_total: 16 << 20,
        stalled_timeout: Duration::from_secs(2),
        ..ServeConfig::default()
    };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut attackers = Vec::new();
    for _ in 0..100 {
        let mut attacker = wide_open(&node).await;
        attacker.send(&half_sent(0, 1, 512 << 10)).await;
        attackers.push(attacker);
    }
    // At most three quarters of what is held in all are large messages: two dozen of these.
    let ended = || refused(&node, "stalled") + refused(&node, "process");
    until(|| ended() >= 76.0).await;
    // Ordinary records have room meanwhile, and what does not go on does not stay.
    assert_eq!(push(&node, vec![record("acme.example/honest")]).await.len(), 1);
    until(|| ended() >= 100.0).await;
    let mut value = json("acme.example/large");
    value["padding"] = "x".repeat(3 << 20).into();
    assert_eq!(push(&node, vec![message(&value)]).await.len(), 1);
}
