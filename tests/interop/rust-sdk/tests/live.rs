//! What a user of the public Rust SDK does: push, pull, look up, search and delete, in the authentication
//! mode that the environment names (`DIRECTORY_CLIENT_*`). Needs a running server; `make test` starts one.

use agntcy_dir::models::core_v1::{Record, RecordRef};
use agntcy_dir::models::search_v1::{
    RecordQuery, RecordQueryType, SearchCiDsRequest, SearchRecordsRequest,
};
use agntcy_dir::{Client, Config};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

async fn client() -> Client {
    let config = Config::from_env().expect("DIRECTORY_CLIENT_* are set");
    Client::new(config).await.expect("the client can be made")
}

/// Records that no other run has: the name carries the time.
fn records(test: &str, count: usize) -> Vec<Record> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    (0..count)
        .map(|i| {
            serde_json::from_value(json!({ "data": {
                "name": format!("interop/{test}-{now}-{i}"),
                "version": "v1.2.3",
                "schema_version": "0.8.0",
                "description": "Made by the interop suite <&>, ünïcode, and numbers",
                "authors": ["Interop <interop@example.org>"],
                "created_at": "2025-03-19T17:06:37Z",
                "skills": [{ "name": "natural_language_processing/text_completion", "id": 10201 }],
                "domains": [{ "name": "technology/networking", "id": 103 }],
                "locators": [{ "type": "docker_image", "url": "https://registry.example.org/agent" }],
                "modules": [],
                "annotations": { "suite": "interop" }
            } }))
            .unwrap()
        })
        .collect()
}

fn name(record: &Record) -> String {
    let value: Value = serde_json::to_value(record).unwrap();
    value["data"]["name"].as_str().unwrap().to_owned()
}

fn by_name(name: &str) -> Vec<RecordQuery> {
    vec![RecordQuery { r#type: RecordQueryType::Name as i32, value: name.to_owned(), negate: false }]
}

#[tokio::test]
async fn push_answers_one_cid_a_record_in_order_and_is_idempotent() {
    let c = client().await;
    let records = records("push", 20);
    let refs = c.push(records.clone()).await.unwrap();
    assert_eq!(refs.len(), 20);
    assert!(refs.iter().all(|r| r.cid.len() == 59 && r.cid.starts_with("baearei")), "{refs:?}");
    assert_eq!(c.push(records).await.unwrap(), refs, "the same records have the same CIDs");
}

#[tokio::test]
async fn pull_gives_back_what_was_pushed() {
    let c = client().await;
    let records = records("pull", 5);
    let refs = c.push(records.clone()).await.unwrap();
    assert_eq!(c.pull(refs).await.unwrap(), records);
}

#[tokio::test]
async fn lookup_tells_the_metadata() {
    let c = client().await;
    let refs = c.push(records("lookup", 2)).await.unwrap();
    let metas = c.lookup(refs.clone()).await.unwrap();
    assert_eq!(metas.len(), 2);
    for (meta, reference) in metas.iter().zip(&refs) {
        assert_eq!(meta.cid, reference.cid);
        assert_eq!(meta.schema_version, "0.8.0");
        assert_eq!(meta.created_at, "2025-03-19T17:06:37Z");
        assert_eq!(meta.annotations.get("version").map(String::as_str), Some("v1.2.3"));
        assert_eq!(meta.annotations.get("suite").map(String::as_str), Some("interop"));
    }
}

#[tokio::test]
async fn an_acknowledged_record_is_found_at_once() {
    let c = client().await;
    let records = records("search", 3);
    let refs = c.push(records.clone()).await.unwrap();
    for (record, reference) in records.iter().zip(&refs) {
        let queries = by_name(&name(record));
        let request = SearchCiDsRequest { queries: queries.clone(), ..Default::default() };
        let hits = c.search_cids(request).await.unwrap();
        assert_eq!(hits.iter().map(|h| h.record_cid.as_str()).collect::<Vec<_>>(), [reference.cid.as_str()]);
        let request = SearchRecordsRequest { queries, ..Default::default() };
        let found = c.search_records(request).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].record.as_ref(), Some(record));
    }
}

#[tokio::test]
async fn a_deleted_record_is_gone_everywhere() {
    let c = client().await;
    let records = records("delete", 1);
    let refs = c.push(records.clone()).await.unwrap();
    c.delete(refs.clone()).await.unwrap();
    let gone = c.pull(refs.clone()).await.unwrap_err().to_string();
    assert!(gone.contains("record not found"), "{gone}");
    let gone = c.lookup(refs).await.unwrap_err().to_string();
    assert!(gone.contains("record not found"), "{gone}");
    let request = SearchCiDsRequest { queries: by_name(&name(&records[0])), ..Default::default() };
    assert!(c.search_cids(request).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_cid_is_not_found() {
    let c = client().await;
    let unknown = RecordRef { cid: "baeareicecnx2gvntm6fbcrvnc336qze6st5u7qq7457igegamd3bzkx7ra".into() };
    let error = c.pull(vec![unknown]).await.unwrap_err().to_string();
    assert!(error.contains("record not found"), "{error}");
}
