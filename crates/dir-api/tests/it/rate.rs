//! Rate limits as callers meet them.

use crate::node::{Node, Setup, reference, soon, until};
use dir_api::{AppConfig, Rate, RateConfig, method_catalogue};
use dir_core::policy::{NativeRule, RuleEffect, RuleLimits, UnknownMethod};
use dir_core::{Policy, Principal};
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
    let app = AppConfig { rates: Some(rates), ..AppConfig::default() };
    shaped(Setup { app, ..Setup::default() }).await
}

async fn shaped(setup: Setup) -> (Node, Arc<Mutex<Principal>>) {
    let who = Arc::new(Mutex::new(Principal::Anonymous));
    let next = who.clone();
    let node = Node::shaped(setup, move |_, mut conn| {
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
async fn g_a_refused_call_says_so_to_the_byte_and_when_to_come_again() {
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
async fn g_an_identity_has_one_bucket_over_all_its_connections() {
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
async fn g_messages_inside_a_stream_are_free() {
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

fn caller(name: &str) -> Principal {
    Principal::Spiffe(format!("spiffe://acme.example/{name}").parse().unwrap())
}

#[tokio::test]
async fn g_failed_authentications_are_told_to_wait_after_sixty() {
    let app = AppConfig { rates: Some(RateConfig::default()), ..AppConfig::default() };
    let (node, who) = shaped(Setup { app, authorized: true, ..Setup::default() }).await;
    let own = "acme.example".parse().unwrap();
    node.authorization.as_ref().unwrap().set(Policy::default_for(&own, &method_catalogue()));
    let mut client = SearchServiceClient::new(node.channel().await);
    let mut refused = Vec::new();
    // A token comes back each second: on a slow machine a few more calls fail before one is told to wait.
    while !refused.contains(&Code::ResourceExhausted) && refused.len() < 10_000 {
        refused.push(soon(client.count_records(CountRecordsRequest::default())).await.unwrap_err().code());
    }
    assert!(refused.len() > 60, "{}", refused.len());
    assert!(refused[..60].iter().all(|code| *code == Code::Unauthenticated));
    let told = soon(client.count_records(CountRecordsRequest::default())).await.unwrap_err();
    assert!(told.code() == Code::Unauthenticated || told.metadata().contains_key("retry-after-ms"));
    assert!(node.sample(&["rate_limited_total", "bucket=\"auth\""]).unwrap() >= 1.0);
    // Whoever has an identity is served from the same address all the while.
    *who.lock() = caller("honest");
    count(&node).await.unwrap();
}

/// A node with one rule about its callers, and a gateway.
async fn limited(limits: RuleLimits) -> (Node, Arc<Mutex<Principal>>) {
    let (node, who) = shaped(Setup { authorized: true, ..Setup::default() }).await;
    put(&node, limits);
    (node, who)
}

fn put(node: &Node, limits: RuleLimits) {
    let rule = NativeRule {
        id: "agents".into(),
        line: None,
        effect: RuleEffect::Allow,
        principals: vec!["spiffe://acme.example/**".into()],
        methods: vec!["@read".into()],
        not_after: None,
        limits: Some(limits),
        resources: None,
    };
    let loaded = Policy::from_rules(vec![rule], None, &method_catalogue(), UnknownMethod::Error).unwrap();
    node.authorization.as_ref().unwrap().set(loaded.policy);
}

#[tokio::test]
async fn g_a_rule_limits_each_of_its_callers() {
    let limits = RuleLimits { rps: Some(1), burst: Some(1000), max_streams: None };
    let (node, who) = limited(limits).await;
    *who.lock() = caller("noisy");
    let mut client = SearchServiceClient::new(node.channel().await);
    let mut calls = 0;
    let refused = loop {
        match soon(client.count_records(CountRecordsRequest::default())).await {
            Ok(_) => calls += 1,
            Err(refused) => break refused,
        }
    };
    assert!(calls >= 1000, "{calls}");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("rate limit exceeded")
            && refused.metadata().contains_key("retry-after-ms")
    );
    assert_eq!(node.sample(&["grant_limited_total", "limit=\"rate\""]), Some(1.0));
    // The same rule, another caller; and a policy that is taken anew fills nobody's bucket.
    *who.lock() = caller("quiet");
    count(&node).await.unwrap();
    put(&node, limits);
    let mut refusals = 0;
    for _ in 0..1000 {
        let outcome = soon(client.count_records(CountRecordsRequest::default())).await;
        refusals += usize::from(outcome.is_err());
    }
    assert!(refusals > 0, "the bucket was filled by the reload");
}

#[tokio::test]
async fn g_a_rule_limits_the_open_streams_of_a_caller() {
    let limits = RuleLimits { rps: None, burst: None, max_streams: Some(2) };
    let (node, who) = limited(limits).await;
    *who.lock() = caller("noisy");
    // Streams count over all connections of a caller.
    let open = async || {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
        soon(node.store_client().await.pull(stream)).await.map(|records| (send, records.into_inner()))
    };
    let (first, second) = (open().await.unwrap(), open().await.unwrap());
    let refused = open().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().ends_with("rate limit exceeded: 2 streams are open"), "{refused}");
    assert_eq!(node.sample(&["grant_limited_total", "limit=\"streams\""]), Some(1.0));
    count(&node).await.unwrap();
    *who.lock() = caller("quiet");
    let _other = open().await.unwrap();
    // One that ends makes room, however it ends: by its error, or by a client that goes away.
    *who.lock() = caller("noisy");
    let (send, mut records) = first;
    send.send(reference("nothing")).await.unwrap();
    assert!(soon(records.message()).await.is_err());
    let third = open().await.unwrap();
    assert!(open().await.is_err());
    drop((second, third));
    let canceled = || node.sample(&["grpc_server_handled_total", "\"Canceled\"", "\"Pull\""]) == Some(2.0);
    until(canceled).await;
    let _again = (open().await.unwrap(), open().await.unwrap());
}
