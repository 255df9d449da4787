//! The verdict of a schema server, against one on loopback.

use crate::{doc, facts};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use dir_core::rules::{RecordRules, RuleError};
use dir_core::{Class, Classified};
use dir_oasf::{RESPONSE_MAX, RemoteRules, SetupError, TIMEOUT_DEFAULT};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

/// A server that answers everything alike and keeps what it was asked.
async fn server(status: StatusCode, answer: impl Into<String>) -> (String, Seen) {
    let answer = answer.into();
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let (kept, answer) = (Arc::clone(&kept), answer.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            kept.lock().unwrap().push((line, kind, String::from_utf8(body.to_vec()).unwrap()));
            (status, answer).into_response()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, seen)
}

fn rules(url: &str, timeout: Duration) -> Result<RemoteRules, SetupError> {
    // A second installation answers an error, which says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    RemoteRules::new(url, timeout)
}

async fn verdict(url: &str, version: &str) -> Result<(), RuleError> {
    let text = format!("{{\"schema_version\":\"{version}\",\"name\":\"<n>\"}}");
    rules(url, TIMEOUT_DEFAULT).unwrap().validate(&doc(&text), &facts(&text)).await
}

#[tokio::test]
async fn the_request_is_what_a_schema_server_expects() {
    let (address, seen) = server(StatusCode::OK, r#"{"errors":[],"warnings":[{"message":"w"}]}"#).await;
    // Without a scheme, and with one slash too many.
    assert_eq!(verdict(&format!("{address}/"), "1.0.0").await, Ok(()));
    assert_eq!(verdict(&format!("http://{address}/base"), "1.0.0/x?y").await, Ok(()));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0, "POST /api/1.0.0/validate/object/record?missing_recommended=true");
    assert_eq!(seen[0].1, "application/json");
    assert_eq!(doc(&seen[0].2), doc(r#"{"schema_version":"1.0.0","name":"<n>"}"#));
    assert_eq!(seen[1].0, "POST /base/api/1.0.0%2Fx%3Fy/validate/object/record?missing_recommended=true");
}

#[tokio::test]
async fn errors_come_first_and_carry_path_and_constraint() {
    let answer = r#"{"errors":[
        {"error":"attribute_required_missing","message":"Missing.","attribute_path":"name"},
        {"message":"Plain."},
        {"error":"constraint_failed","message":"One of.","attribute_path":"skills[0]","constraint":{"at_least_one":["id","name"]}},
        {"error":"other","message":"No constraint.","constraint":{"x":1}}],
        "warnings":[{"message":"Old.","attribute_path":"domains","value":{"x":1}},{"message":"Hm."}],"error_count":4}"#;
    let (address, _) = server(StatusCode::OK, answer).await;
    let error = verdict(&address, "1.0.0").await.unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    assert_eq!(
        error.to_string(),
        "record validation failed: [ERROR: Missing. Attribute path: name. ERROR: Validation Error: Plain. \
         ERROR: One of. Attribute path: skills[0]. Constraint: {\"at_least_one\":[\"id\",\"name\"]} \
         ERROR: Validation Error: No constraint. WARNING: Old. Attribute path: domains. WARNING: Hm.]"
    );
}

const PREFIX: &str = "failed to validate record: failed to validate record: schema URL validation failed: ";

/// The cause of a verdict that could not be had.
fn cause(verdict: Result<(), RuleError>) -> String {
    let error = verdict.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let text = error.to_string();
    text.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn a_server_that_cannot_judge_is_no_verdict() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NOT_FOUND, StatusCode::ACCEPTED] {
        let (address, _) = server(status, "{}").await;
        let url = format!("http://{address}/api/1.0.0/validate/object/record?missing_recommended=true");
        assert_eq!(
            cause(verdict(&address, "1.0.0").await),
            format!("failed to validate record at URL {url}: HTTP {}", status.as_u16())
        );
    }
    for answer in ["<html>", "[]", r#"{"errors":5}"#] {
        let (address, _) = server(StatusCode::OK, answer).await;
        let text = cause(verdict(&address, "1.0.0").await);
        assert!(text.starts_with("failed to decode validation response from URL http://"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_silent_is_no_verdict() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text = r#"{"schema_version":"1.0.0"}"#;
    // It accepts and never answers.
    let silent = rules(&address.to_string(), Duration::from_millis(50)).unwrap();
    let said = cause(silent.validate(&doc(text), &facts(text)).await);
    assert!(said.starts_with(&format!("failed to send POST request to http://{address}/api/")), "{said}");
    // Bound and never listening: refused for as long as it is kept.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let said = cause(verdict(&format!("http://user:secret@{address}"), "1.0.0").await);
    assert!(said.starts_with(&format!("failed to send POST request to http://{address}/api/")), "{said}");
    assert!(!said.contains("secret"));
}

#[tokio::test]
async fn the_answer_has_its_limit() {
    let filled = |size: usize| format!("{{}}{}", " ".repeat(size - 2));
    let (address, _) = server(StatusCode::OK, filled(RESPONSE_MAX)).await;
    assert_eq!(verdict(&address, "1.0.0").await, Ok(()));
    let (address, _) = server(StatusCode::OK, filled(RESPONSE_MAX + 1)).await;
    assert!(cause(verdict(&address, "1.0.0").await).ends_with("longer than 4194304 bytes"));
}

#[test]
fn what_is_no_server_is_refused_at_start() {
    let shown = rules("http://user:secret@host/", TIMEOUT_DEFAULT).unwrap();
    assert_eq!(format!("{shown:?}"), "RemoteRules { base: \"http://host\", .. }");
    for url in ["ftp://x", "http://", "http://user:secret@", "https://user:secret@ho st"] {
        let text = rules(url, TIMEOUT_DEFAULT).unwrap_err().to_string();
        assert!(text.contains("oasf_api_validation.schema_url") && !text.contains("secret"), "{text}");
    }
}
