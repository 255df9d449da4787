//! Searches that the policy narrows to some records, by their labels.

use crate::authz::Guarded;
use crate::node::{Node, Setup, json, message, push, soon, until};
use dir_api::method_catalogue;
use dir_core::Policy;
use dir_core::policy::{Conditions, NativeRule, RuleEffect, SEARCH_METHODS, UnknownMethod};
use dir_engine::EngineConfig;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, ListRecordSummariesRequest, RecordQuery, RecordQueryType, SearchCiDsRequest,
    SearchRecordsRequest,
};
use futures::StreamExt;
use std::sync::atomic::Ordering;
use tonic::{Code, Status};

const ALL: &str = "spiffe://acme.example/all";
const SOME: &str = "spiffe://acme.example/some";
const FINANCE: &str = "/domains/finance/*";

fn rule(id: &str, effect: RuleEffect, who: &str, methods: &[&str], labels: &[&str]) -> NativeRule {
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    NativeRule {
        id: id.into(),
        line: None,
        effect,
        principals: vec![who.into()],
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        not_after: None,
        limits: None,
        resources: (!labels.is_empty()).then_some(Conditions { owner: None, labels }),
    }
}

/// Everybody may do everything, but one caller's searches show nothing with these labels.
fn policy(hidden: &[&str]) -> Policy {
    let mut rules = vec![rule("all", RuleEffect::Allow, "spiffe://acme.example/**", &["*"], &[])];
    if !hidden.is_empty() {
        rules.push(rule("hidden", RuleEffect::Deny, SOME, &SEARCH_METHODS, hidden));
    }
    Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap().policy
}

/// Records of four domains, oldest first; their CIDs.
async fn fill(guarded: &Guarded) -> Vec<String> {
    let node = guarded.become_caller(ALL);
    let never = tokio_util::sync::CancellationToken::new();
    node.engine.rebuild(&dir_engine::MemoryJournal::default(), &never).await.unwrap();
    let mut cids = Vec::new();
    for domain in ["technology", "finance/banking", "Finance/banking", "finance"] {
        let mut value = json(&format!("agent-{}", cids.len()));
        value["domains"] = serde_json::json!([{"id": 7, "name": domain}]);
        cids.extend(push(node, vec![message(&value)]).await);
        node.clock.advance(std::time::Duration::from_secs(1));
    }
    cids
}

/// What a search finds, and the reason in its trailers.
async fn found(node: &Node, name: &str) -> (Vec<String>, Option<String>) {
    let queries =
        vec![RecordQuery { r#type: RecordQueryType::Name.into(), value: name.into(), negate: false }];
    let mut client = SearchServiceClient::new(node.channel().await);
    let request = SearchCiDsRequest { queries, ..Default::default() };
    let mut stream = soon(client.search_ci_ds(request)).await.unwrap().into_inner();
    let mut cids = Vec::new();
    while let Some(one) = soon(stream.message()).await.unwrap() {
        cids.push(one.record_cid);
    }
    let trailers = soon(stream.trailers()).await.unwrap().unwrap_or_default();
    (cids, trailers.get("directory-empty-reason").map(|reason| reason.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn all_four_searches_show_only_what_the_policy_lets_the_caller_see() {
    let guarded = Guarded::shaped(Setup::default()).await;
    guarded.set(policy(&[FINANCE]));
    let cids = fill(&guarded).await;
    let whole: Vec<String> = cids.iter().rev().cloned().collect();
    assert_eq!(found(guarded.become_caller(ALL), "*").await, (whole.clone(), None));

    // Labels are compared as they are spelled, and a label does not lie below itself.
    let visible = vec![cids[3].clone(), cids[2].clone(), cids[0].clone()];
    let node = guarded.become_caller(SOME);
    assert_eq!(found(node, "*").await, (visible, None));
    let mut client = SearchServiceClient::new(node.channel().await);
    let records = soon(client.search_records(SearchRecordsRequest::default())).await.unwrap().into_inner();
    assert_eq!(soon(records.map(|record| record.unwrap()).count()).await, 3);
    let count = soon(client.count_records(CountRecordsRequest::default())).await.unwrap().into_inner();
    assert_eq!(count.total_count, 3);
    let page = soon(client.list_record_summaries(ListRecordSummariesRequest::default())).await.unwrap();
    let page = page.into_inner();
    assert_eq!((page.records.len(), page.total_count, page.has_more), (3, 3, false));
    assert!(page.records.iter().all(|record| record.cid != cids[1]));

    // Whether a hidden record matches, or none at all, looks alike.
    let reason = Some("filtered-by-policy".to_owned());
    assert_eq!(found(node, "agent-1").await, (vec![], reason.clone()));
    assert_eq!(found(node, "nobody").await, (vec![], reason));
    assert_eq!(found(guarded.become_caller(ALL), "nobody").await.1.as_deref(), Some("no-match"));
}

#[tokio::test]
async fn an_allow_rule_with_labels_shows_these_records_alone() {
    let guarded = Guarded::shaped(Setup::default()).await;
    let rules = vec![
        rule("all", RuleEffect::Allow, ALL, &["*"], &[]),
        rule("finance", RuleEffect::Allow, SOME, &SEARCH_METHODS[..1], &[FINANCE, "/domains/finance"]),
    ];
    let policy = Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap().policy;
    guarded.set(policy);
    let cids = fill(&guarded).await;
    let node = guarded.become_caller(SOME);
    assert_eq!(found(node, "*").await.0, [cids[3].clone(), cids[1].clone()]);
    let mut client = SearchServiceClient::new(node.channel().await);
    let refused = soon(client.count_records(CountRecordsRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// Runs a search that waits for its records, puts another policy in force, and lets it go on.
async fn meanwhile(change: Policy) -> Result<usize, Status> {
    let engine = EngineConfig { cache_bytes: 0, ..EngineConfig::default() };
    let guarded = Guarded::shaped(Setup { engine, ..Setup::default() }).await;
    guarded.set(policy(&[FINANCE]));
    fill(&guarded).await;
    let node = guarded.become_caller(SOME);
    node.store.reads.forget_permits(usize::MAX);
    let mut client = SearchServiceClient::new(node.channel().await);
    let mut stream = soon(client.search_records(SearchRecordsRequest::default())).await?.into_inner();
    until(|| node.store.reading() > 0).await;
    guarded.set(change);
    node.store.reads.add_permits(1000);
    let mut count = 0;
    while soon(stream.message()).await?.is_some() {
        count += 1;
    }
    assert!(node.store.gets.load(Ordering::SeqCst) > 0);
    Ok(count)
}

#[tokio::test]
async fn a_search_under_way_ends_when_it_may_show_something_else() {
    assert_eq!(meanwhile(policy(&[FINANCE])).await.unwrap(), 3, "the same view goes on");
    for other in [policy(&["/domains/technology"]), policy(&[])] {
        let status = meanwhile(other).await.unwrap_err();
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.message(), "what the policy lets this search show has changed; search again");
    }
}
