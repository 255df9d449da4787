//! How a node ends.

use crate::client::{open_push, plain, push, record};
use crate::node::{Node, get, until};
use nix::sys::signal::Signal;
use tempfile::tempdir;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test(flavor = "multi_thread")]
async fn n5_a_drain_is_announced_before_it_begins() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev", "--set", "shutdown.lb_wait=3s"]);
    let (grpc, ops) = (node.grpc(), node.ops());
    node.signal(Signal::SIGTERM);
    let (_, reason) = until("not ready", || get(ops, "/readyz").filter(|(code, _)| *code == 503));
    assert!(reason.contains("draining"), "{reason}");
    assert_eq!(get(ops, "/livez").unwrap().0, 200);
    // Load balancers have not noticed yet: new connections and calls still work.
    let channel = plain(grpc).await;
    assert_eq!(push(&channel, vec![record("late")]).await.unwrap().len(), 1);
    let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::NotServing, "gRPC health mirrors readiness");
    assert_eq!(node.wait(), Some(0));
    let log = node.log();
    let at =
        |step: &str| log.find(&format!("\"step\":\"{step}\"")).unwrap_or_else(|| panic!("{step}: {log}"));
    let order = ["load-balancer-wait", "connections", "jobs", "commits", "index", "store", "ops"].map(at);
    assert!(order.is_sorted(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn n5_open_calls_have_the_grace_and_then_end_with_unavailable() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev", "--set", "shutdown.grace=1s"]);
    let channel = plain(node.grpc()).await;
    let (records, mut answers) = open_push(&channel).await;
    records.send(record("one")).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    node.signal(Signal::SIGTERM);
    let ended = answers.message().await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "connection draining"));
    assert_eq!(node.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn n5_a_second_signal_ends_it_at_once_with_1() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev", "--set", "shutdown.grace=10m"]);
    let channel = plain(node.grpc()).await;
    let (records, mut answers) = open_push(&channel).await;
    records.send(record("one")).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    node.signal(Signal::SIGINT);
    node.wait_line("stopping; a second signal stops at once");
    let status = until("the end", || {
        if node.ended().is_none() {
            node.signal(Signal::SIGINT);
        }
        node.ended()
    });
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_delivered_twice_is_one_request() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev"]);
    node.signal(Signal::SIGTERM);
    node.signal(Signal::SIGINT);
    assert_eq!(node.wait(), Some(0), "{}", node.log());
}

#[test]
fn a_hangup_reopens_the_log_and_stops_nothing() {
    let home = tempdir().unwrap();
    let node = Node::start(home.path(), &["--dev"]);
    let log = node.rotate_log();
    node.signal(Signal::SIGHUP);
    until("a fresh log file", || log.exists().then_some(()));
    assert_eq!(node.stop(), Some(0));
    let fresh = std::fs::read_to_string(&log).unwrap();
    assert!(fresh.contains("\"message\":\"stopped\""), "{fresh}");
}
