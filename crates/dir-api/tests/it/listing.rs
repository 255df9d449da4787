//! `SearchService`: values to filter by, summaries, and empty answers that explain themselves.

use crate::node::{Mood, Node, Setup, json, message, push, record, soon};
use dir_api::AppConfig;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, ListFilterValuesRequest, ListRecordSummariesRequest, RecordQuery, RecordQueryType,
    RecordSummary, SearchCiDsRequest, SearchRecordsRequest,
};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

async fn client(node: &Node) -> SearchServiceClient<Channel> {
    SearchServiceClient::new(node.channel().await)
}

async fn values(node: &Node, fields: &[i32]) -> Vec<(i32, Vec<String>)> {
    let request = ListFilterValuesRequest { fields: fields.to_vec() };
    let answer = soon(client(node).await.list_filter_values(request)).await.unwrap().into_inner();
    answer.fields.into_iter().map(|entry| (entry.field, entry.values)).collect()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn values_are_distinct_sorted_and_gone_with_their_last_record() {
    let node = Node::start().await;
    let nothing: Vec<(i32, Vec<String>)> = [4, 6, 8, 10, 11].map(|kind| (kind, Vec::new())).into();
    assert_eq!(values(&node, &[]).await, nothing);
    let mut second = json("b");
    second["authors"] = serde_json::json!(["Zoe <z@example.org>", "A <a@example.org>", "Ärzte"]);
    second["skills"] = serde_json::json!([{"id": 1, "name": "Z/skill"}, {"id": 7, "name": "z/skill"}]);
    second["modules"] = serde_json::json!([{"name": "runtime/mcp", "data": {}}]);
    let cids = push(&node, vec![message(&json("a")), message(&second)]).await;
    let all = [
        (4, texts(&["Z/skill", "natural_language_processing/text_completion", "z/skill"])),
        (6, texts(&["runtime/mcp"])),
        (8, texts(&["technology"])),
        (10, texts(&["A <a@example.org>", "Zoe <z@example.org>", "Ärzte"])),
        (11, texts(&["0.8.0"])),
    ];
    assert_eq!(values(&node, &[]).await, all);
    assert_eq!(values(&node, &[11, 4]).await, [all[4].clone(), all[0].clone()], "as requested");
    let gone = futures::stream::iter([crate::node::reference(&cids[1])]);
    node.store_client().await.delete(gone).await.unwrap();
    assert_eq!(values(&node, &[6, 10]).await, [(6, vec![]), (10, texts(&["A <a@example.org>"]))]);
}

#[tokio::test]
async fn fields_that_are_not_listed_and_fields_named_twice_are_refused() {
    let node = Node::start().await;
    for (fields, text) in [
        (vec![2], "the values of RECORD_QUERY_TYPE_VERSION are not listed"),
        (vec![4, 0], "the values of RECORD_QUERY_TYPE_UNSPECIFIED are not listed"),
        (vec![16], "the values of unknown query type 16 are not listed"),
        (vec![4, 11, 4], "field RECORD_QUERY_TYPE_SKILL_NAME is named twice"),
    ] {
        let request = ListFilterValuesRequest { fields };
        let status = client(&node).await.list_filter_values(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{}", status.message());
    }
}

async fn summaries(
    node: &Node,
    limit: Option<u32>,
    offset: Option<u32>,
    queries: Vec<RecordQuery>,
) -> (Vec<RecordSummary>, bool, u32) {
    let request = ListRecordSummariesRequest { queries, limit, offset, sort_mode: 0 };
    let answer = soon(client(node).await.list_record_summaries(request)).await.unwrap().into_inner();
    (answer.records, answer.has_more, answer.total_count)
}

fn query(kind: RecordQueryType, value: &str) -> RecordQuery {
    RecordQuery { r#type: kind.into(), value: value.into(), negate: false }
}

#[tokio::test]
async fn pages_of_summaries_have_their_sizes() {
    let node = Node::start().await;
    let mut cids = Vec::new();
    for n in 0..102 {
        cids.extend(push(&node, vec![message(&json(&format!("agent-{n:03}")))]).await);
        node.clock.advance(Duration::from_secs(1));
    }
    cids.reverse();
    for (limit, offset, expected, more) in [
        (None, None, 0..50, true),
        (Some(0), None, 0..50, true),
        (Some(1), Some(1), 1..2, true),
        (Some(100), None, 0..100, true),
        (Some(101), None, 0..100, true),
        (Some(u32::MAX), Some(2), 2..102, false),
        (Some(2), Some(100), 100..102, false),
        (Some(2), Some(99), 99..101, true),
        (None, Some(102), 102..102, false),
    ] {
        let (page, has_more, total) = summaries(&node, limit, offset, vec![]).await;
        let page: Vec<_> = page.into_iter().map(|summary| summary.cid).collect();
        assert_eq!((page.as_slice(), has_more, total), (&cids[expected], more, 102), "{limit:?} {offset:?}");
    }
    let found = query(RecordQueryType::Name, "agent-00*");
    let (page, has_more, total) = summaries(&node, Some(3), None, vec![found.clone()]).await;
    assert_eq!((page.len(), has_more, total), (3, true, 10));
    let counted = client(&node).await.count_records(CountRecordsRequest { queries: vec![found] }).await;
    assert_eq!(counted.unwrap().into_inner().total_count, total);
}

#[tokio::test]
async fn a_summary_is_what_the_index_knows_and_no_record_is_read() {
    let node = Node::start().await;
    let mut value = json("acme.org/agent");
    value["authors"] = serde_json::json!(["b", "a"]);
    value["skills"] = serde_json::json!([{"id": 7, "name": "z/s"}, {"id": 1, "name": "a/s"}]);
    let cid = push(&node, vec![message(&value)]).await.remove(0);
    let (page, ..) = summaries(&node, None, None, vec![]).await;
    let expected = RecordSummary {
        cid,
        name: "acme.org/agent".into(),
        version: "v1.0.0".into(),
        schema_version: "0.8.0".into(),
        description: "An agent for tests.".into(),
        created_at: "2026-01-01T00:00:00Z".into(),
        authors: texts(&["a", "b"]),
        skills: texts(&["a/s", "z/s"]),
        domains: texts(&["technology"]),
        modules: vec![],
    };
    assert_eq!(page, [expected]);
    assert_eq!(node.store.gets.load(std::sync::atomic::Ordering::SeqCst), 0);
    let request = ListRecordSummariesRequest {
        queries: vec![query(RecordQueryType::SkillId, "x")],
        ..Default::default()
    };
    let status = client(&node).await.list_record_summaries(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

fn described(name: &str, letters: usize) -> dir_proto::agntcy::dir::core::v1::Record {
    let mut value = json(name);
    value["description"] = "x".repeat(letters).into();
    message(&value)
}

#[tokio::test]
async fn a_page_of_large_summaries_ends_where_a_message_does() {
    let node = Node::start().await;
    for n in 0..6 {
        push(&node, vec![described(&format!("large-{n}"), 1 << 20)]).await;
        node.clock.advance(Duration::from_secs(1));
    }
    push(&node, vec![record("small")]).await;
    let (mut names, mut sizes, mut goes_on) = (Vec::new(), Vec::new(), true);
    while goes_on {
        let offset = u32::try_from(names.len()).unwrap();
        let (page, has_more, total) = summaries(&node, None, Some(offset), vec![]).await;
        assert_eq!(total, 7);
        sizes.push(page.len());
        names.extend(page.into_iter().map(|summary| summary.name));
        goes_on = has_more;
    }
    assert_eq!(sizes, [4, 3], "the small one and three, then three");
    let all = ["small", "large-5", "large-4", "large-3", "large-2", "large-1", "large-0"];
    assert_eq!(names, all);
}

#[tokio::test]
async fn a_page_is_as_large_as_it_may_be_and_has_one_record_at_least() {
    let request = ListRecordSummariesRequest::default();
    let free = Node::start().await;
    push(&free, vec![described("a", 300), described("b", 300)]).await;
    let whole = client(&free).await.list_record_summaries(request.clone()).await.unwrap().into_inner();
    // There has to be room for `has_more`, and for a count of four bytes more.
    let size = prost::Message::encoded_len(&whole) + 2 + 4;
    for (limit, expected) in [(size, 2), (size - 1, 1)] {
        let app = AppConfig { max_send_msg_size: limit, ..AppConfig::default() };
        let node = Node::with(Setup { app, ..Setup::default() }).await;
        push(&node, vec![described("a", 300), described("b", 300)]).await;
        let (page, has_more, total) = summaries(&node, None, None, vec![]).await;
        assert_eq!((page.len(), has_more, total), (expected, expected == 1, 2), "{limit}");
    }
    let app = AppConfig { max_send_msg_size: 400, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    push(&node, vec![described("a", 300)]).await;
    let refused = async |offset: Option<u32>| {
        let request = ListRecordSummariesRequest { offset, ..ListRecordSummariesRequest::default() };
        client(&node).await.list_record_summaries(request).await.map(|_| ()).unwrap_err()
    };
    let status = refused(None).await;
    let begin = "failed to send record summaries: larger than max (";
    let end = " vs. 400); one record alone is too large here: go on after it, with offset 1";
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with(begin) && status.message().ends_with(end), "{}", status.message());
    let (page, has_more, total) = summaries(&node, None, Some(1), vec![]).await;
    assert_eq!((page.len(), has_more, total), (0, false, 1));
}

#[tokio::test]
async fn values_that_cannot_be_sent_say_what_can() {
    let app = AppConfig { max_send_msg_size: 40, ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    push(&node, vec![record("a")]).await;
    assert_eq!(values(&node, &[8]).await, [(8, texts(&["technology"]))]);
    for (fields, todo) in [
        (vec![], "ask for one field at a time"),
        (vec![4], "this field has too many values to list; search by some of them, with wildcards"),
    ] {
        let status =
            client(&node).await.list_filter_values(ListFilterValuesRequest { fields }).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let text = status.message();
        assert!(
            text.starts_with("failed to send filter values: larger than max (") && text.ends_with(todo),
            "{text}"
        );
    }
}

/// Number of answers, and the trailers that say why there is none.
async fn why(node: &Node, request: SearchCiDsRequest) -> (usize, Option<String>, Option<String>) {
    let mut found = soon(client(node).await.search_ci_ds(request)).await.unwrap().into_inner();
    let mut count = 0;
    while soon(found.message()).await.unwrap().is_some() {
        count += 1;
    }
    let trailers = soon(found.trailers()).await.unwrap().unwrap_or_default();
    let get = |key: &str| trailers.get(key).map(|value| value.to_str().unwrap().to_owned());
    (count, get("directory-empty-reason"), get("directory-empty-detail"))
}

#[tokio::test]
async fn an_empty_answer_of_records_explains_itself_too() {
    let engine = dir_engine::EngineConfig { cache_bytes: 0, ..dir_engine::EngineConfig::default() };
    let node = Node::with(Setup { engine, ..Setup::default() }).await;
    let never = tokio_util::sync::CancellationToken::new();
    node.engine.rebuild(&dir_engine::MemoryJournal::default(), &never).await.unwrap();
    push(&node, vec![message(&json("a")), message(&json("b"))]).await;
    let why = async |name: &str| {
        let queries = vec![query(RecordQueryType::Name, name)];
        let request = SearchRecordsRequest { queries, ..Default::default() };
        let mut found = soon(client(&node).await.search_records(request)).await.unwrap().into_inner();
        let mut count = 0;
        while soon(found.message()).await.unwrap().is_some() {
            count += 1;
        }
        let trailers = soon(found.trailers()).await.unwrap().unwrap_or_default();
        let get = |key: &str| trailers.get(key).map(|value| value.to_str().unwrap().to_owned());
        (count, get("directory-empty-reason").zip(get("directory-empty-detail")))
    };
    let says = |reason: &str, detail: &str| (0, Some((reason.to_owned(), detail.to_owned())));
    assert_eq!(why("a").await, (1, None));
    assert_eq!(why("c").await, says("no-match", "no record matches the filters"));
    // A record that cannot be read is left out, which is another reason.
    node.store.mood(Mood::Unavailable);
    assert_eq!(why("a").await, says("unreadable", "1 record matches, and it could not be read"));
    assert_eq!(why("*").await, says("unreadable", "2 records match, and none of them could be read"));
}

#[tokio::test]
async fn an_empty_answer_explains_itself() {
    let node = Node::start().await;
    let journal = dir_engine::MemoryJournal::default();
    let (_, reason, _) = why(&node, SearchCiDsRequest::default()).await;
    assert_eq!(reason.as_deref(), Some("index-rebuilding"), "a new index does not know the store yet");
    let never = tokio_util::sync::CancellationToken::new();
    node.engine.rebuild(&journal, &never).await.unwrap();
    let (_, reason, detail) = why(&node, SearchCiDsRequest::default()).await;
    assert_eq!(
        (reason.as_deref(), detail.as_deref()),
        (Some("no-records"), Some("no record is stored here"))
    );
    push(&node, vec![message(&json("a"))]).await;
    assert_eq!(why(&node, SearchCiDsRequest::default()).await, (1, None, None));
    let other = vec![query(RecordQueryType::Name, "b")];
    let (count, reason, _) = why(&node, SearchCiDsRequest { queries: other, ..Default::default() }).await;
    assert_eq!((count, reason.as_deref()), (0, Some("no-match")));
    let (_, reason, detail) = why(&node, SearchCiDsRequest { offset: Some(1), ..Default::default() }).await;
    let text = "1 record matches, and it is before the offset";
    assert_eq!((reason.as_deref(), detail.as_deref()), (Some("beyond-offset"), Some(text)));
    push(&node, vec![message(&json("b"))]).await;
    let (_, _, detail) = why(&node, SearchCiDsRequest { offset: Some(2), ..Default::default() }).await;
    assert_eq!(detail.as_deref(), Some("2 records match, all of them before the offset"));
}
