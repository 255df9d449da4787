//! The ops routes: `/livez`, `/readyz`, `/startupz`, `/healthz`, `/metrics`, `/info`, `/version` and `/`.
//!
//! Every answer comes from memory and costs the same with one record or a million. GET and HEAD only;
//! anything else is 405, an unknown path 404, both as JSON.

mod health;
mod info;
mod page;

pub use health::{ComponentHealth, HealthReport, HealthSource, Status};
pub use info::{Info, InfoSource, Limits};

use crate::headers;
use axum::extract::State;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use page::Form;
use prometheus::Registry;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// What this program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct About {
    /// Name of the program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Commit it was built from; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_sha: Option<&'static str>,
    /// Target triple it was built for.
    pub target: &'static str,
}

/// What the routes answer from.
#[derive(Clone)]
pub struct OpsState {
    /// Health of the process.
    pub health: Arc<dyn HealthSource>,
    /// Metrics; `None` takes `/metrics` away.
    pub metrics: Option<Registry>,
    /// What clients have to know.
    pub info: Arc<dyn InfoSource>,
    /// Name and version.
    pub about: About,
}

/// The router of the ops listener.
pub fn router(state: OpsState) -> Router {
    let mut routes = Router::new()
        .route("/", get(root))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/healthz", get(healthz));
    if state.metrics.is_some() {
        routes = routes.route("/metrics", get(metrics));
    }
    routes
        .method_not_allowed_fallback(not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(headers::add))
        .with_state(state)
}

async fn root(State(state): State<OpsState>) -> Response {
    Json(json!({ "name": state.about.name, "version": state.about.version })).into_response()
}

async fn version(State(state): State<OpsState>) -> Response {
    Json(state.about).into_response()
}

async fn info(State(state): State<OpsState>) -> Response {
    match state.info.info() {
        Some(info) => Json(info).into_response(),
        None => probe(false, Some("the services are not up yet".to_owned())),
    }
}

/// 200 with `ok`, or 503 with the cause.
fn probe(good: bool, obstacle: Option<String>) -> Response {
    if good {
        return Json(json!({ "status": "ok" })).into_response();
    }
    let reason = obstacle.unwrap_or_else(|| "not started".to_owned());
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unavailable", "reason": reason })))
        .into_response()
}

async fn livez(State(state): State<OpsState>) -> Response {
    let report = state.health.report();
    probe(report.live, report.obstacle)
}

async fn readyz(State(state): State<OpsState>) -> Response {
    let report = state.health.report();
    probe(report.ready, report.obstacle)
}

async fn startupz(State(state): State<OpsState>) -> Response {
    let report = state.health.report();
    probe(report.started, report.obstacle)
}

async fn healthz(State(state): State<OpsState>) -> Response {
    let report = state.health.report();
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(report)).into_response()
}

async fn metrics(State(state): State<OpsState>, headers: HeaderMap) -> Response {
    let families = state.metrics.as_ref().map(Registry::gather).unwrap_or_default();
    let form = Form::wanted(headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()));
    match form.write(&families) {
        Ok(text) => ([(CONTENT_TYPE, form.content_type())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written out");
            let body = Json(json!({ "error": "metrics cannot be written out" }));
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
    }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "not found" }))).into_response()
}

async fn not_allowed() -> Response {
    let body = Json(json!({ "error": "method not allowed; use GET or HEAD" }));
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], body).into_response()
}
