//! What `StoreJobsService` refuses before it starts anything. The jobs themselves: `store_jobs.rs` of the product.

use crate::frames::call;
use crate::node::Node;
use bytes::Bytes;
use dir_proto::directory::admin::v1::{AuditStoreRequest, RepairStoreRequest, ReshardStoreRequest};
use prost::Message;
use tonic::Code;

async fn refused(node: &Node, method: &str, message: &impl Message) -> (Code, String) {
    let path = format!("/directory.admin.v1.StoreJobsService/{method}");
    let outcome = call(node, &path, vec![Bytes::from(message.encode_to_vec())]).await;
    assert!(outcome.messages.is_empty());
    (outcome.status.code(), outcome.status.message().to_owned())
}

#[tokio::test]
async fn requests_without_a_meaning_are_named() {
    let node = Node::start().await;
    let (code, text) =
        refused(&node, "AuditStore", &AuditStoreRequest { depth: 3, from: String::new() }).await;
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, "depth: 3 is no AuditDepth"));
    let (code, text) = refused(&node, "ReshardStore", &ReshardStoreRequest::default()).await;
    let wanted = "to: write STORE_LAYOUT_SINGLE or _SHARDED";
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, wanted));
    for (percent, code) in [(100, Code::FailedPrecondition), (101, Code::InvalidArgument)] {
        let request =
            RepairStoreRequest { max_removal_percent: Some(percent), ..RepairStoreRequest::default() };
        assert_eq!(refused(&node, "RepairStore", &request).await.0, code, "{percent}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_looked_after_says_so() {
    let node = Node::start().await;
    for method in ["AuditStore", "RepairStore"] {
        let (code, text) = refused(&node, method, &AuditStoreRequest::default()).await;
        assert_eq!(code, Code::FailedPrecondition, "{method}");
        assert!(text.ends_with("this store cannot be looked after"), "{text}");
    }
}
