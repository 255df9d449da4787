//! Connections: settings, first request, idleness, age, shutdown, identity.

use crate::frames::{GOAWAY, PING, Peer, SETTINGS};
use crate::node::{Node, Setup, push, record, reference, soon, until, when};
use dir_api::{ServeConfig, ServeEnd};
use dir_core::{Principal, Timestamp};
use dir_proto::agntcy::dir::core::v1::RecordRef;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

const SOON: Duration = Duration::from_millis(60);
const LATE: Duration = Duration::from_secs(600);

/// Limits that do not end anything within a test.
fn patient() -> ServeConfig {
    ServeConfig {
        keepalive_interval: None,
        first_request_timeout: Some(LATE),
        idle_timeout: Some(LATE),
        max_age: Some(LATE),
        age_grace: LATE,
        drain_grace: LATE,
        ..ServeConfig::default()
    }
}

async fn node(serve: ServeConfig) -> Node {
    Node::with(Setup { serve, ..Setup::default() }).await
}

/// A stream of pulls that stays open.
struct Open {
    send: mpsc::Sender<RecordRef>,
    records: tonic::Streaming<dir_proto::agntcy::dir::core::v1::Record>,
}

impl Open {
    async fn pull(node: &Node) -> Self {
        let (send, messages) = mpsc::channel(4);
        let records = soon(node.store_client().await.pull(ReceiverStream::new(messages))).await.unwrap();
        Self { send, records: records.into_inner() }
    }

    async fn works(&mut self, cid: &str) {
        self.send.send(reference(cid)).await.unwrap();
        assert!(soon(self.records.message()).await.unwrap().is_some());
    }

    async fn ended(&mut self) -> Status {
        soon(self.records.message()).await.expect_err("an error")
    }
}

#[tokio::test]
async fn the_limits_of_a_connection_are_announced() {
    let serve = ServeConfig { max_concurrent_streams: 77, ..patient() };
    let node = node(serve).await;
    let settings = Peer::connect(node.addr).await.wait_for(SETTINGS).await.unwrap().payload;
    let value = |id: u8| {
        settings.chunks(6).find(|s| s[..2] == [0, id]).map(|s| u32::from_be_bytes([s[2], s[3], s[4], s[5]]))
    };
    assert_eq!(value(3), Some(77), "MAX_CONCURRENT_STREAMS");
    assert_eq!(value(4), Some(1 << 20), "INITIAL_WINDOW_SIZE");
    assert_eq!(value(5), Some(64 * 1024), "MAX_FRAME_SIZE");
    assert_eq!(value(6), Some(16 * 1024), "MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn e_a_peer_that_asks_nothing_goes() {
    let node = node(ServeConfig { first_request_timeout: Some(SOON), ..patient() }).await;
    // Also one that does not even say that it speaks HTTP/2.
    let mut silent = Peer::silent(node.addr).await;
    silent.closed().await;
    let mut peer = Peer::connect(node.addr).await;
    assert!(peer.wait_for(GOAWAY).await.is_some());
    peer.closed().await;
    until(|| node.sample(&["drained_total", "first_request"]) == Some(2.0)).await;
    // One that asked in time stays.
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    Peer::connect(node.addr).await.closed().await;
    open.works(&known).await;
}

#[tokio::test]
async fn e_an_idle_connection_goes_and_an_open_call_keeps_it() {
    let node = node(ServeConfig { idle_timeout: Some(SOON), ..patient() }).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    open.works(&known).await;
    let mut idle = Peer::connect(node.addr).await;
    assert!(idle.wait_for(GOAWAY).await.is_some());
    idle.closed().await;
    open.works(&known).await;
    drop(open);
    until(|| node.sample(&["connections", "open"]) == Some(0.0)).await;
    assert_eq!(node.sample(&["connections", "draining"]), Some(0.0));
}

#[tokio::test]
async fn e_an_old_connection_is_told_to_go_and_its_calls_finish() {
    let node = node(ServeConfig { max_age: Some(SOON), ..patient() }).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    until(|| node.sample(&["drained_total", "age"]).is_some_and(|n| n >= 1.0)).await;
    let mut peer = Peer::connect(node.addr).await;
    assert!(peer.wait_for(GOAWAY).await.is_some(), "a real GOAWAY comes first");
    open.works(&known).await;
    drop(open.send);
    assert!(soon(open.records.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn e_after_its_grace_an_old_connection_ends() {
    let node = node(ServeConfig { max_age: Some(SOON), age_grace: SOON, ..patient() }).await;
    let status = Open::pull(&node).await.ended().await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "connection draining"));
    until(|| node.sample(&["connections", "draining"]) == Some(0.0)).await;
}

#[tokio::test]
async fn keepalive_pings_and_cuts_who_does_not_answer() {
    let serve = ServeConfig { keepalive_interval: Some(SOON), keepalive_timeout: SOON, ..patient() };
    let node = node(serve).await;
    let mut peer = Peer::connect(node.addr).await;
    assert!(peer.wait_for(PING).await.is_some());
    peer.closed().await;
    // Who answers stays: several pings long.
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    for _ in 0..3 {
        let mut peer = Peer::connect(node.addr).await;
        peer.closed().await;
    }
    open.works(&known).await;
}

#[tokio::test]
async fn n5_a_drain_lets_calls_finish_and_takes_no_new_connections() {
    let mut node = node(patient()).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    open.works(&known).await;
    let mut peer = Peer::connect(node.addr).await;
    assert!(peer.wait_for(SETTINGS).await.is_some());
    node.drain.cancel();
    assert!(peer.wait_for(GOAWAY).await.is_some());
    peer.closed().await;
    open.works(&known).await;
    assert!(!node.served.is_finished());
    drop(open.send);
    assert!(soon(open.records.message()).await.unwrap().is_none());
    assert_eq!(soon(&mut node.served).await.unwrap(), ServeEnd::Drained);
    assert!(tokio::net::TcpStream::connect(node.addr).await.is_err(), "the listener is gone");
}

#[tokio::test]
async fn n5_a_connection_that_arrives_as_the_drain_begins_is_told_like_the_rest() {
    let node = node(patient()).await;
    // As long as the open call lasts, the drain does.
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    open.works(&known).await;
    node.drain.cancel();
    let mut late = Peer::connect(node.addr).await;
    assert!(late.wait_for(GOAWAY).await.is_some(), "cut without a word");
    late.closed().await;
    open.works(&known).await;
}

#[tokio::test]
async fn n5_after_the_grace_of_a_drain_calls_end_unavailable() {
    let mut node = node(ServeConfig { drain_grace: SOON, ..patient() }).await;
    let mut open = Open::pull(&node).await;
    node.drain.cancel();
    let status = open.ended().await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "connection draining"));
    assert_eq!(soon(&mut node.served).await.unwrap(), ServeEnd::Drained);
    assert_eq!(node.sample(&["handled_total", "\"Pull\"", "\"Unavailable\""]), Some(1.0));
}

#[tokio::test]
async fn n5_a_stream_that_never_ends_by_itself_does_not_hold_up_a_drain() {
    let mut node = node(patient()).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(node.channel().await);
    for service in ["", "other"] {
        let asked = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let mut watch = soon(health.watch(asked)).await.unwrap().into_inner();
        assert!(soon(watch.message()).await.unwrap().is_some());
        if service == "other" {
            node.drain.cancel();
            let status = soon(watch.message()).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "connection draining"));
        }
    }
    assert_eq!(soon(&mut node.served).await.unwrap(), ServeEnd::Drained);
}

#[tokio::test]
async fn a_kill_cuts_what_is_left() {
    let mut node = node(patient()).await;
    let mut open = Open::pull(&node).await;
    node.drain.cancel();
    node.kill.cancel();
    assert_eq!(soon(&mut node.served).await.unwrap(), ServeEnd::Drained);
    open.ended().await;
}

#[tokio::test]
async fn a_dead_accept_loop_is_told() {
    let deps = node(patient()).await;
    let (drain, kill) = (CancellationToken::new(), CancellationToken::new());
    let none = futures::stream::empty::<dir_api::Conn<tokio::net::TcpStream>>();
    let end = soon(dir_api::serve(none, deps.app.clone(), patient(), drain, kill)).await;
    assert_eq!(end, ServeEnd::IncomingClosed);
}

#[tokio::test]
async fn d_a_peer_that_is_no_longer_trusted_is_out() {
    let gone = CancellationToken::new();
    let revoked = gone.clone();
    let setup = Setup { serve: patient(), ..Setup::default() };
    let node = Node::shaped(setup, move |_, mut conn| {
        conn.revoked = when(revoked.clone());
        conn
    })
    .await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let mut open = Open::pull(&node).await;
    open.works(&known).await;
    gone.cancel();
    let status = open.ended().await;
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "identity no longer trusted"));
    until(|| node.sample(&["connections", "open"]) == Some(0.0)).await;
    assert!(node.sample(&["drained_total", "revoked"]).unwrap() >= 1.0);
}

/// A node whose peers have SVIDs with this much life left.
async fn with_svids(left: Duration) -> Node {
    let setup = Setup { serve: patient(), ..Setup::default() };
    Node::shaped(setup, move |clock, mut conn| {
        let now = dir_core::Clock::now(clock);
        let mut peer = (*conn.peer).clone();
        peer.principal = Principal::Spiffe("spiffe://example.org/client".parse().unwrap());
        peer.not_before = Some(now);
        peer.not_after = Some(Timestamp(now.0 + i64::try_from(left.as_millis()).unwrap()));
        conn.peer = Arc::new(peer);
        conn
    })
    .await
}

#[tokio::test]
async fn e_a_connection_ends_with_the_svid_of_its_peer() {
    let node = with_svids(Duration::from_secs(4)).await;
    let mut open = Open::pull(&node).await;
    let status = open.ended().await;
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "identity expired"));
    until(|| node.sample(&["connections", "open"]) == Some(0.0)).await;
    assert_eq!(node.sample(&["drained_total", "expiry"]), Some(1.0));
}

#[tokio::test]
async fn e_a_call_after_the_end_of_the_svid_is_refused_on_a_connection_that_still_stands() {
    let node = with_svids(LATE).await;
    let mut client = node.store_client().await;
    let nothing = || futures::stream::iter(Vec::<RecordRef>::new());
    assert!(client.delete(nothing()).await.is_ok());
    let moment = Duration::from_millis(1);
    node.clock.advance(LATE.saturating_sub(moment));
    assert!(client.delete(nothing()).await.is_ok());
    node.clock.advance(moment);
    let status = client.delete(nothing()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "identity expired"));
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_their_turn() {
    let node = node(ServeConfig { max_concurrent_streams: 2, ..patient() }).await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    let channel = node.channel().await;
    let open = async || {
        let mut client =
            dir_proto::agntcy::dir::store::v1::store_service_client::StoreServiceClient::new(channel.clone());
        let (send, messages) = mpsc::channel(4);
        (send, soon(client.pull(ReceiverStream::new(messages))).await.unwrap().into_inner())
    };
    let (first, second) = (open().await, open().await);
    let mut third = Box::pin(open());
    assert!(futures::FutureExt::now_or_never(&mut third).is_none());
    drop(first);
    let (send, mut records) = soon(third).await;
    send.send(reference(&known)).await.unwrap();
    assert!(soon(records.next()).await.unwrap().is_ok());
    drop(second);
}
