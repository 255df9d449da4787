//! `kill -9` in mid-push: nothing acknowledged is lost, nothing searchable lacks its bytes.

use crate::client::{open_push, plain, pull, record, search};
use crate::node::Node;
use dir_testkit::generate::Numbers;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use tempfile::tempdir;
use tonic::transport::Channel;

/// Processes that are killed.
const ROUNDS: usize = 50;
/// Acknowledgements after which a process is killed, at most.
const ACKS_MAX: usize = 120;
/// Records asked for in one stream when everything is checked.
const PULL_CHUNK: usize = 500;

/// A node on disk, in plaintext.
const ON_DISK: [&str; 4] = ["--set", "authn.enabled=false", "--set", "shutdown.grace=1s"];

/// Pushes until `acks` answers have come, and goes on pushing while the process is killed. Answers every CID
/// that was acknowledged, also those whose answers were under way.
async fn push_and_kill(node: &mut Node, channel: &Channel, round: usize, acks: usize) -> Vec<String> {
    let (records, mut answers) = open_push(channel).await;
    let feeder = tokio::spawn(async move {
        for n in 0.. {
            if records.send(record(&format!("crash-{round}-{n}"))).await.is_err() {
                return;
            }
        }
    });
    let mut acknowledged = Vec::new();
    while let Ok(Some(answer)) = answers.message().await {
        acknowledged.push(answer.cid);
        if acknowledged.len() == acks {
            node.signal(Signal::SIGKILL);
        }
    }
    feeder.abort();
    assert!(acknowledged.len() >= acks, "the stream ended before the kill");
    assert_eq!(node.wait(), None, "killed by the signal");
    acknowledged
}

/// Everything acknowledged is found, and everything found has its bytes. `seen` were pulled in an earlier round.
async fn check(channel: &Channel, acknowledged: &BTreeSet<String>, seen: &mut BTreeSet<String>) {
    let found: BTreeSet<String> = search(channel, "crash-*").await.into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and not found: {lost:?}");
    let fresh: Vec<String> = found.difference(seen).cloned().collect();
    for chunk in fresh.chunks(PULL_CHUNK) {
        let records = pull(channel, chunk).await.unwrap();
        assert_eq!(records.len(), chunk.len(), "searchable without bytes");
    }
    seen.extend(fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let home = tempdir().unwrap();
    let mut numbers = Numbers::new(9);
    let (mut acknowledged, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        let mut node = Node::start(home.path(), &ON_DISK);
        let channel = plain(node.grpc()).await;
        check(&channel, &acknowledged, &mut seen).await;
        let acks = 1 + numbers.below(ACKS_MAX);
        acknowledged.extend(push_and_kill(&mut node, &channel, round, acks).await);
    }
    let mut node = Node::start(home.path(), &ON_DISK);
    let channel = plain(node.grpc()).await;
    check(&channel, &acknowledged, &mut BTreeSet::new()).await;
    drop(channel);
    assert_eq!(node.stop(), Some(0));
}
