//! `SearchService`.

use crate::node::{Node, Setup, json, message, push, record, soon, until};
use bytes::Bytes;
use dir_api::AppConfig;
use dir_engine::EngineConfig;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, RecordQuery, RecordQueryType, SearchCiDsRequest, SearchRecordsRequest, SortMode,
};
use futures::StreamExt;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Code;

fn query(kind: RecordQueryType, value: &str) -> RecordQuery {
    RecordQuery { r#type: kind.into(), value: value.into(), negate: false }
}

async fn node() -> (Node, Vec<String>) {
    // Small pages, so that a result has several.
    let engine = EngineConfig { page_size: 3, search_reads: 4, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let mut cids = Vec::new();
    for n in 0..10 {
        cids.extend(push(&node, vec![record(&format!("agent-{n}"))]).await);
        node.clock.advance(Duration::from_secs(1));
    }
    cids.reverse();
    (node, cids)
}

async fn cids(node: &Node, request: SearchCiDsRequest) -> Vec<String> {
    let mut client = SearchServiceClient::new(node.channel().await);
    let found = soon(client.search_ci_ds(request)).await.unwrap().into_inner();
    soon(found.map(|found| found.unwrap().record_cid).collect()).await
}

#[tokio::test]
async fn a_record_above_the_send_limit_is_left_out() {
    let (small, large) = (record("a"), record("a-longer-name"));
    // Room for the large record on its own, but not for the field around it.
    let app = AppConfig { max_send_msg_size: large.encoded_len(), ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    push(&node, vec![small.clone(), large]).await;
    let mut client = SearchServiceClient::new(node.channel().await);
    let found = soon(client.search_records(SearchRecordsRequest::default())).await.unwrap().into_inner();
    let found: Vec<_> = soon(found.map(|found| found.unwrap().record.unwrap()).collect()).await;
    assert_eq!(found, [small]);
}

#[tokio::test]
async fn the_newest_come_first_page_after_page() {
    let (node, newest_first) = node().await;
    assert_eq!(cids(&node, SearchCiDsRequest::default()).await, newest_first);
    let page = SearchCiDsRequest { limit: Some(4), offset: Some(2), ..Default::default() };
    assert_eq!(cids(&node, page).await, newest_first[2..6]);
    let unlimited =
        SearchCiDsRequest { limit: Some(0), offset: Some(7), sort_mode: 99, ..Default::default() };
    assert_eq!(
        cids(&node, unlimited).await,
        newest_first[7..],
        "0 is unlimited, an unknown order is RECENCY"
    );
    let relevance = SearchCiDsRequest { sort_mode: SortMode::Relevance.into(), ..Default::default() };
    assert_eq!(cids(&node, relevance).await, newest_first);
    let beyond = SearchCiDsRequest { offset: Some(10), ..Default::default() };
    assert!(cids(&node, beyond).await.is_empty());
    let one = SearchCiDsRequest {
        queries: vec![
            query(RecordQueryType::Name, "agent-3"),
            query(RecordQueryType::Unspecified, "ignored"),
        ],
        ..Default::default()
    };
    assert_eq!(cids(&node, one).await, [newest_first[6].clone()]);
}

#[tokio::test]
async fn a_record_is_found_as_soon_as_it_is_acknowledged_and_not_after_its_delete() {
    let node = Node::start().await;
    let mut client = SearchServiceClient::new(node.channel().await);
    let count = CountRecordsRequest { queries: vec![query(RecordQueryType::Name, "a")] };
    assert_eq!(client.count_records(count.clone()).await.unwrap().into_inner().total_count, 0);
    let known = push(&node, vec![record("a")]).await.remove(0);
    assert_eq!(client.count_records(count.clone()).await.unwrap().into_inner().total_count, 1);
    let gone = futures::stream::iter([crate::node::reference(&known)]);
    node.store_client().await.delete(gone).await.unwrap();
    assert_eq!(client.count_records(count).await.unwrap().into_inner().total_count, 0);
}

#[tokio::test]
async fn records_come_whole_in_order_and_unreadable_ones_are_left_out() {
    let (node, newest_first) = node().await;
    let broken = [&newest_first[1], &newest_first[8]];
    for cid in broken {
        assert!(node.store.inner.corrupt(&cid.parse().unwrap(), Bytes::from_static(b"{}")));
    }
    let mut client = SearchServiceClient::new(node.channel().await);
    let found = soon(client.search_records(SearchRecordsRequest::default())).await.unwrap().into_inner();
    let found: Vec<_> = soon(found.map(|found| found.unwrap().record.unwrap()).collect()).await;
    let expected: Vec<_> =
        (0..10).rev().filter(|n| ![8, 1].contains(n)).map(|n| record(&format!("agent-{n}"))).collect();
    assert_eq!(found, expected);
    assert_eq!(node.sample(&["directory_engine_total", "search_result_skipped"]), Some(2.0));
    // The limit counts matches, not what could be read.
    let request = SearchRecordsRequest { limit: Some(2), ..Default::default() };
    let found = client.search_records(request).await.unwrap().into_inner();
    assert_eq!(found.count().await, 1);
}

#[tokio::test]
async fn a_connection_has_sixteen_reads_for_all_its_searches_and_pulls() {
    let engine = EngineConfig { cache_bytes: 0, ..EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let cids = push(&node, (0..20).map(|n| record(&format!("agent-{n}"))).collect()).await;
    node.store.reads.forget_permits(usize::MAX);
    let mut client = SearchServiceClient::new(node.channel().await);
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(soon(client.search_records(SearchRecordsRequest::default())).await.unwrap().into_inner());
    }
    until(|| node.store.reading() == 16).await;
    // One more connection has as many of its own.
    let mut pulls = node.store_client().await;
    let references: Vec<_> = cids.iter().map(|cid| crate::node::reference(cid)).collect();
    let pulled = soon(pulls.pull(futures::stream::iter(references))).await.unwrap().into_inner();
    until(|| node.store.reading() == 32).await;
    node.store.reads.add_permits(1000);
    for found in found {
        assert_eq!(soon(found.map(|found| found.unwrap()).count()).await, 20);
    }
    assert_eq!(soon(pulled.map(|record| record.unwrap()).count()).await, 20);
    assert_eq!(node.store.reading_most.load(std::sync::atomic::Ordering::SeqCst), 32);
}

#[tokio::test]
async fn queries_without_a_meaning_are_refused_with_their_value() {
    let (node, _) = node().await;
    let mut client = SearchServiceClient::new(node.channel().await);
    let bad_id = vec![query(RecordQueryType::SkillId, "x")];
    let text = "failed to create filter options: failed to parse skill ID \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    let status = client.count_records(CountRecordsRequest { queries: bad_id.clone() }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    let request = SearchCiDsRequest { queries: bad_id.clone(), ..Default::default() };
    let mut found = client.search_ci_ds(request).await.unwrap().into_inner();
    let status = found.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    let request = SearchRecordsRequest { queries: bad_id, ..Default::default() };
    let mut found = client.search_records(request).await.unwrap().into_inner();
    assert_eq!(found.message().await.unwrap_err().message(), text);
    let unknown = RecordQuery { r#type: 16, value: "x".into(), negate: false };
    let request = SearchCiDsRequest { queries: vec![unknown], ..Default::default() };
    let status = client.search_ci_ds(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("unknown query type 16"), "{}", status.message());
}

#[tokio::test]
async fn every_schema_version_of_the_api_is_found() {
    let node = Node::start().await;
    let mut all = BTreeSet::new();
    for (version, locator) in [
        ("0.7.0", serde_json::json!({"type": "docker_image", "url": "https://example.org/i"})),
        ("0.8.0", serde_json::json!({"type": "docker_image", "url": "https://example.org/i"})),
        ("1.0.0", serde_json::json!({"type": "container_image", "urls": ["https://example.org/i"]})),
        ("1.1.0", serde_json::json!({"type": "container_image", "urls": ["https://example.org/i"]})),
    ] {
        let mut value = json("versions");
        value["schema_version"] = version.into();
        value["locators"] = serde_json::json!([locator]);
        all.extend(push(&node, vec![message(&value)]).await);
        let one = SearchCiDsRequest {
            queries: vec![query(RecordQueryType::SchemaVersion, version)],
            ..Default::default()
        };
        assert_eq!(cids(&node, one).await.len(), 1, "{version}");
    }
    let found: BTreeSet<_> = cids(&node, SearchCiDsRequest::default()).await.into_iter().collect();
    assert_eq!(found, all);
}
