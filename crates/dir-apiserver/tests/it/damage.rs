//! A damaged index is set aside and rebuilt from the store, and pulls do not wait for it.

use crate::client::{count, plain, pull, push, record};
use crate::node::{Node, get};
use dir_proto::directory::admin::v1::GetIndexStatusRequest;
use dir_proto::directory::admin::v1::admin_service_client::AdminServiceClient;
use dir_proto::directory::admin::v1::get_index_status_response::State;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

/// Records in the store.
const RECORDS: u32 = 400;
/// Every byte at a multiple of this is flipped.
const STEP: usize = 97;

/// Flips bits all over the files of the index, small ones included.
fn flip(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            flip(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().step_by(STEP).for_each(|b| *b ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_rebuilt_while_pulls_are_served() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &[]);
    let channel = plain(node.grpc()).await;
    let records: Vec<_> = (0..RECORDS).map(|n| record(&format!("kept-{n}"))).collect();
    let cids = push(&channel, records.clone()).await.unwrap();
    drop(channel);
    assert_eq!(node.stop(), Some(0));

    let index = home.path().join(".dir/index");
    flip(&index);
    // An earlier rebuild had come this far, with the index that is lost now.
    std::fs::write(home.path().join(".dir/rebuild"), cids.iter().max().unwrap()).unwrap();
    let mut node = Node::start(home.path(), &[]);
    let channel = plain(node.grpc()).await;
    assert_eq!(pull(&channel, &cids).await.unwrap(), records, "pulls do not wait");
    let aside = node.wait_line("damaged index set aside");
    assert!(Path::new(aside["moved_to"].as_str().unwrap()).is_dir(), "kept for inspection: {aside}");
    node.wait_line("index rebuild started");

    let mut admin = AdminServiceClient::new(channel.clone());
    let status = tokio::time::timeout(crate::node::PATIENCE, async {
        loop {
            let status = admin.get_index_status(GetIndexStatusRequest {}).await.unwrap().into_inner();
            if status.state() == State::Ready {
                return status;
            }
            assert_eq!(status.state(), State::Rebuilding);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let status = status.await.expect("rebuilt");
    assert_eq!((status.walked, status.records), (u64::from(RECORDS), u64::from(RECORDS)));
    assert_eq!(count(&channel, "kept-*").await, RECORDS);
    let healthy = || {
        let health: Value = serde_json::from_str(&get(node.ops(), "/healthz")?.1).ok()?;
        (health["components"]["index"]["status"] == "healthy").then_some(())
    };
    crate::node::until("index healthy", healthy);
    node.wait_line("index rebuild finished");
}
