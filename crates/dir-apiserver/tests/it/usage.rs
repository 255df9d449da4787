//! POPULARITY in the real binary: counted, kept over `kill -9` once handed over, and over a graceful end at once.

use crate::client::{plain, pull, push, record};
use crate::node::{Node, PATIENCE};
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::search::v1::{SearchCiDsRequest, SortMode};
use nix::sys::signal::Signal;
use std::time::Instant;
use tempfile::tempdir;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

const ON_DISK: [&str; 4] = ["--set", "authn.enabled=false", "--set", "shutdown.grace=1s"];

async fn most_popular(channel: &Channel) -> Vec<String> {
    let request =
        SearchCiDsRequest { sort_mode: SortMode::Popularity.into(), ..SearchCiDsRequest::default() };
    let found = SearchServiceClient::new(channel.clone()).search_ci_ds(request).await.unwrap().into_inner();
    found.map(|answer| answer.unwrap().record_cid).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn popularity_survives_a_kill_and_a_graceful_end() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &ON_DISK);
    let channel = plain(node.grpc()).await;
    let cids = push(&channel, ["a", "b", "c"].map(record).to_vec()).await.unwrap();
    let pulls = |n: usize, times: usize| vec![cids[n].clone(); times];
    pull(&channel, &[pulls(1, 3), pulls(0, 2)].concat()).await.unwrap();
    let expected = [cids[1].clone(), cids[0].clone(), cids[2].clone()];
    // Counts are handed over every few seconds.
    let end = Instant::now() + PATIENCE;
    while most_popular(&channel).await != expected {
        assert!(Instant::now() < end, "the counts were not handed over");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // What was handed over survives; what a crash may lose are later counts alone.
    node.signal(Signal::SIGKILL);
    node.wait();
    let mut node = Node::start(home.path(), &ON_DISK);
    let channel = plain(node.grpc()).await;
    assert_eq!(most_popular(&channel).await, expected);
    // A graceful end loses nothing, however soon after the pulls it comes.
    pull(&channel, &pulls(2, 9)).await.unwrap();
    drop(channel);
    assert_eq!(node.stop(), Some(0));
    let mut node = Node::start(home.path(), &ON_DISK);
    let channel = plain(node.grpc()).await;
    assert_eq!(most_popular(&channel).await, [cids[2].clone(), cids[1].clone(), cids[0].clone()]);
}
