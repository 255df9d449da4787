//! Rate limits as callers meet them.

use crate::node::{Node, Setup, soon};
use dir_api::{AppConfig, Rate, RateConfig};
use dir_core::Principal;
use dir_proto::agntcy::dir::search::v1::CountRecordsRequest;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use tonic::{Code, Status};

const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";

/// `google.rpc.Status`, of which the details are of interest.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// A node whose next connection is `who`.
async fn node(rates: RateConfig) -> (Node, Arc<Mutex<Principal>>) {
    let who = Arc::new(Mutex::new(Principal::Anonymous));
    let next = who.clone();
    let app = AppConfig { rates: Some(rates), ..AppConfig::default() };
    let node = Node::shaped(Setup { app, ..Setup::default() }, move |_, mut conn| {
        Arc::make_mut(&mut conn.peer).principal = next.lock().clone();
        conn
    })
    .await;
    (node, who)
}

async fn count(node: &Node) -> Result<(), Status> {
    let mut client = SearchServiceClient::new(node.channel().await);
    soon(client.count_records(CountRecordsRequest::default())).await.map(|_| ())
}

#[tokio::test]
async fn a_refused_call_says_so_to_the_byte_and_when_to_come_again() {
    let slow = Rate { rps: 0.001, burst: 2 };
    let (node, _) = node(RateConfig { global: Some(slow), ..RateConfig::default() }).await;
    count(&node).await.unwrap();
    count(&node).await.unwrap();
    let refused = count(&node).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        format!(
            "{COUNT} is rejected by grpc_ratelimit middleware, please retry later. rpc error: code = \
             ResourceExhausted desc = rate limit exceeded"
        )
    );
    let ms: u64 = refused.metadata().get("retry-after-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=1_000_000).contains(&ms), "{ms}");

    let details = Details::decode(refused.details()).unwrap();
    assert_eq!(details.code, 8);
    assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let delay = RetryInfo::decode(&*details.details[0].value).unwrap().retry_delay.unwrap();
    let delay =
        u64::try_from(delay.seconds).unwrap() * 1000 + u64::try_from(delay.nanos).unwrap() / 1_000_000;
    assert_eq!(delay, ms);
    assert_eq!(node.sample(&["rate_limited_total", "bucket=\"global\""]), Some(1.0));
    assert_eq!(node.sample(&["rate_limited_total", "bucket=\"client\""]), Some(0.0));
    let code = [r#"grpc_code="ResourceExhausted""#, r#"grpc_method="CountRecords""#];
    assert_eq!(node.sample(&code), Some(1.0), "a refused call is counted like any other");
}

#[tokio::test]
async fn an_identity_has_one_bucket_over_all_its_connections() {
    let slow = Rate { rps: 0.001, burst: 3 };
    let (node, who) = node(RateConfig { per_client: Some(slow), ..RateConfig::default() }).await;
    let caller = |name: &str| Principal::Spiffe(format!("spiffe://acme.example/{name}").parse().unwrap());
    *who.lock() = caller("noisy");
    for _ in 0..3 {
        count(&node).await.unwrap();
    }
    assert_eq!(count(&node).await.unwrap_err().code(), Code::ResourceExhausted);
    *who.lock() = caller("quiet");
    for _ in 0..3 {
        count(&node).await.unwrap();
    }
    *who.lock() = Principal::Anonymous;
    for _ in 0..5 {
        count(&node).await.unwrap();
    }
    assert_eq!(node.sample(&["rate_limited_total", "bucket=\"client\""]), Some(1.0));
}

#[tokio::test]
async fn messages_inside_a_stream_are_free() {
    use crate::node::record;
    let methods =
        [("/agntcy.dir.store.v1.StoreService/Push".to_owned(), Rate { rps: 0.001, burst: 1 })].into();
    let (node, _) = node(RateConfig { methods, ..RateConfig::default() }).await;
    let records = (0..50).map(|n| record(&format!("acme.example/{n}"))).collect();
    assert_eq!(crate::node::push(&node, records).await.len(), 50);
    let mut client = node.store_client().await;
    let refused = soon(client.push(futures::stream::iter([record("x")]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(node.sample(&["rate_limited_total", "bucket=\"method\""]), Some(1.0));
}
