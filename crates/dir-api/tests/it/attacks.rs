//! Attacks on HTTP/2 against the serving loop: the attacker's connection is closed, others are served.

use crate::frames::{PING, Peer, SETTINGS};
use crate::node::{Node, Setup, push, record, until};
use dir_api::ServeConfig;
use std::time::Duration;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
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
async fn h_a_ping_flood_closes_the_connection() {
    let node = Node::start().await;
    attack(&node, &frame(PING, 0, 0, &[7; 8]).repeat(1000)).await;
    until(|| floods(&node) == Some(1.0)).await;
}

#[tokio::test]
async fn h_a_settings_flood_closes_the_connection() {
    let node = Node::start().await;
    attack(&node, &frame(SETTINGS, 0, 0, &[]).repeat(2000)).await;
    until(|| floods(&node) == Some(1.0)).await;
}

#[tokio::test]
async fn h_pings_within_the_strikes_are_answered() {
    let node = Node::start().await;
    let mut peer = Peer::connect(node.addr).await;
    peer.send(&frame(PING, 0, 0, &[7; 8]).repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(peer.wait_for(PING).await.unwrap().payload, [7; 8]);
    }
    assert_eq!(floods(&node), None);
}

#[tokio::test]
async fn h_ten_thousand_rapid_resets_close_the_connection() {
    let node = Node::start().await;
    let mut bytes = Vec::new();
    for n in 0..10_000_u32 {
        bytes.extend(frame(HEADERS, 0x4, 2 * n + 1, &REQUEST));
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    attack(&node, &bytes).await;
}

#[tokio::test]
async fn h_a_continuation_flood_closes_the_connection() {
    let node = Node::start().await;
    // A literal header with a long value again and again, and never the end of the headers.
    let header = [&[0x00, 1, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
    let more = frame(CONTINUATION, 0, 1, &header.repeat(40));
    let bytes = [frame(HEADERS, 0, 1, &REQUEST), more.repeat(200)].concat();
    attack(&node, &bytes).await;
}

#[tokio::test]
async fn h_a_preface_that_never_comes_closes_the_connection() {
    let serve =
        ServeConfig { first_request_timeout: Some(Duration::from_millis(50)), ..ServeConfig::default() };
    let node = Node::with(Setup { serve, ..Setup::default() }).await;
    let mut slow = Peer::silent(node.addr).await;
    slow.send(b"PRI * HTTP/2.0\r\n").await;
    slow.closed().await;
    let mut silent = Peer::silent(node.addr).await;
    silent.closed().await;
}
