//! The HTTP side (OCI distribution-spec 1.1).

use super::content::{Content, Repository, StoredManifest};
use super::{Access, Fault, Kind, Shared, Switches};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dir_core::Cid;
use dir_core::oci::INDEX;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bodies are taken up to this size.
const MAX_BODY: usize = 256 << 20;
/// The token that `/token` hands out.
const TOKEN: &str = "fake-registry-token";

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Base,
    Token,
    Blob(String, String),
    NewUpload(String),
    Upload(String),
    Manifest(String, String),
    Tags(String),
    Referrers(String, String),
    Nothing,
}

fn target(path: &str) -> Target {
    let Some(path) = path.strip_prefix("/v2/") else {
        return if path == "/token" { Target::Token } else { Target::Nothing };
    };
    if path.is_empty() {
        return Target::Base;
    }
    let split = |at: &str| path.rsplit_once(at).map(|(repo, rest)| (repo.to_owned(), rest.to_owned()));
    if let Some((repo, rest)) = split("/blobs/uploads/") {
        return if rest.is_empty() { Target::NewUpload(repo) } else { Target::Upload(repo) };
    }
    if let Some((repo, digest)) = split("/blobs/") {
        return Target::Blob(repo, digest);
    }
    if let Some((repo, reference)) = split("/manifests/") {
        return Target::Manifest(repo, reference);
    }
    if let Some((repo, digest)) = split("/referrers/") {
        return Target::Referrers(repo, digest);
    }
    path.strip_suffix("/tags/list").map_or(Target::Nothing, |repo| Target::Tags(repo.to_owned()))
}

fn kind(method: &Method, target: &Target) -> Kind {
    match (method.as_str(), target) {
        (_, Target::Base) => Kind::Ping,
        (_, Target::Token) => Kind::Token,
        ("HEAD", Target::Blob(..)) => Kind::BlobHead,
        ("GET", Target::Blob(..)) => Kind::BlobGet,
        ("DELETE", Target::Blob(..)) => Kind::BlobDelete,
        (_, Target::NewUpload(_)) => Kind::UploadPost,
        (_, Target::Upload(_)) => Kind::UploadPut,
        ("HEAD", Target::Manifest(..)) => Kind::ManifestHead,
        ("GET", Target::Manifest(..)) => Kind::ManifestGet,
        ("PUT", Target::Manifest(..)) => Kind::ManifestPut,
        ("DELETE", Target::Manifest(..)) => Kind::ManifestDelete,
        (_, Target::Tags(_)) => Kind::Tags,
        (_, Target::Referrers(..)) => Kind::Referrers,
        _ => Kind::Other,
    }
}

/// Code and message in the form of the specification.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if shared.stopped.load(std::sync::atomic::Ordering::SeqCst) {
        let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "stopped");
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return response;
    }
    let (parts, body) = request.into_parts();
    let target = target(parts.uri.path());
    let kind = kind(&parts.method, &target);
    *shared.counts.lock().entry(kind).or_default() += 1;
    let fault = take_fault(&shared, kind);
    match fault {
        Some(Fault::Status(code)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refuse(status, "UNKNOWN", "told to fail");
        }
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        _ => {}
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "body too large");
    };
    let mut switches = shared.switches.lock().clone();
    if let Some(Fault::Short(n)) = fault {
        switches.page_size = Some(n);
    }
    let response = answer(&shared, &switches, &parts, &target, body);
    match fault {
        Some(Fault::Corrupt) => corrupt(response).await,
        Some(Fault::Short(_)) => {
            let mut response = response;
            response.headers_mut().remove(header::LINK);
            response
        }
        Some(Fault::Cut) => cut(response).await,
        Some(Fault::DoneBut(code)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refuse(status, "UNKNOWN", "done, and told to fail")
        }
        _ => response,
    }
}

fn take_fault(shared: &Shared, kind: Kind) -> Option<Fault> {
    let mut faults = shared.faults.lock();
    let at = faults.iter().position(|(k, _)| *k == kind)?;
    Some(faults.remove(at).1)
}

async fn corrupt(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let mut bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default().to_vec();
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 1;
    }
    Response::from_parts(parts, Body::from(bytes))
}

async fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes.slice(..bytes.len() / 2)))
}

fn answer(shared: &Shared, switches: &Switches, parts: &Parts, target: &Target, body: Bytes) -> Response {
    if *target == Target::Token {
        return token(switches, parts, &body);
    }
    if let Some(challenge) = unauthorized(shared, switches, parts) {
        return challenge;
    }
    let query = query(parts.uri.query().unwrap_or_default());
    match target {
        Target::Base => StatusCode::OK.into_response(),
        Target::Blob(repo, digest) => blob(shared, switches, &parts.method, repo, digest),
        Target::NewUpload(repo) => new_upload(shared, switches, repo, &query, body),
        Target::Upload(repo) => upload(shared, switches, repo, &query, body),
        Target::Manifest(repo, reference) => manifest(shared, switches, parts, (repo, reference), body),
        Target::Tags(repo) => tags(shared, switches, repo, &query),
        Target::Referrers(repo, digest) => referrers(shared, switches, repo, digest, &query),
        Target::Token | Target::Nothing => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| text.replace("%3A", ":").replace("%2F", "/").replace("%2B", "+");
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn token(switches: &Switches, parts: &Parts, body: &Bytes) -> Response {
    let Access::Token(user, password) = &switches.access else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let refreshed = query(std::str::from_utf8(body).unwrap_or_default());
    let by_refresh = refreshed.get("grant_type").is_some_and(|g| g == "refresh_token")
        && refreshed.get("refresh_token") == Some(password);
    if by_refresh || basic(&parts.headers) == Some((user.clone(), password.clone())) {
        return axum::Json(json!({ "token": TOKEN, "access_token": TOKEN, "expires_in": 300 }))
            .into_response();
    }
    refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong user name or password")
}

fn unauthorized(shared: &Shared, switches: &Switches, parts: &Parts) -> Option<Response> {
    let given = basic(&parts.headers);
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    let (allowed, challenge) = match &switches.access {
        Access::Anonymous => (true, String::new()),
        Access::Basic(user, password) => {
            (given == Some((user.clone(), password.clone())), "Basic realm=\"fake\"".to_owned())
        }
        Access::BasicToWrite(user, password) => {
            (reads || given == Some((user.clone(), password.clone())), "Basic realm=\"fake\"".to_owned())
        }
        Access::Token(..) => {
            let header = parts.headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"fake\"", shared.address);
            (header == Some(&format!("Bearer {TOKEN}")), realm)
        }
    };
    if allowed {
        return None;
    }
    let mut response = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
    if let Ok(challenge) = challenge.parse() {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    Some(response)
}

fn blob(shared: &Shared, switches: &Switches, method: &Method, repo: &str, digest: &str) -> Response {
    let content = shared.content.lock();
    let found = content.repositories.get(repo).and_then(|r| r.blobs.get(digest));
    match (method.as_str(), found) {
        ("DELETE", _) if !switches.delete => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "no deletes")
        }
        ("DELETE", _) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        (_, None) => refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown"),
        (_, Some(bytes)) => bytes.clone().into_response(),
    }
}

fn created(switches: &Switches, location: &str, digest: &str) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(value) = digest.parse() {
        response.headers_mut().insert("docker-content-digest", value);
    }
    if switches.location
        && let Ok(value) = location.parse()
    {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn new_upload(
    shared: &Shared,
    switches: &Switches,
    repo: &str,
    query: &BTreeMap<String, String>,
    body: Bytes,
) -> Response {
    if let Some(digest) = query.get("digest")
        && switches.single_upload
        && !body.is_empty()
    {
        return store_blob(shared, switches, repo, digest, body);
    }
    let mut content = shared.content.lock();
    if let (Some(digest), Some(from), true) = (query.get("mount"), query.get("from"), switches.mount) {
        let blob = content.repositories.get(from).and_then(|r| r.blobs.get(digest)).cloned();
        if let Some(blob) = blob {
            content.repositories.entry(repo.to_owned()).or_default().blobs.insert(digest.clone(), blob);
            return created(switches, &format!("/v2/{repo}/blobs/{digest}"), digest);
        }
    }
    content.next_upload += 1;
    let location = format!("/v2/{repo}/blobs/uploads/{}?_state=opaque", content.next_upload);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
}

fn upload(
    shared: &Shared,
    switches: &Switches,
    repo: &str,
    query: &BTreeMap<String, String>,
    body: Bytes,
) -> Response {
    match query.get("digest") {
        Some(digest) if query.contains_key("_state") => store_blob(shared, switches, repo, digest, body),
        _ => refuse(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "digest or state missing"),
    }
}

fn store_blob(shared: &Shared, switches: &Switches, repo: &str, digest: &str, body: Bytes) -> Response {
    if Cid::of(&body).oci_digest() != digest {
        return refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "content does not match its digest");
    }
    let mut content = shared.content.lock();
    content.repositories.entry(repo.to_owned()).or_default().blobs.insert(digest.to_owned(), body);
    created(switches, &format!("/v2/{repo}/blobs/{digest}"), digest)
}

fn manifest(
    shared: &Shared,
    switches: &Switches,
    parts: &Parts,
    (repo, reference): (&str, &str),
    body: Bytes,
) -> Response {
    let mut content = shared.content.lock();
    match parts.method.as_str() {
        "PUT" => {
            let media_type =
                parts.headers.get(header::CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or("");
            let repository = content.repositories.entry(repo.to_owned()).or_default();
            put_manifest(switches, repository, (repo, reference), body, media_type)
        }
        _ if damage(&content, repo, reference).is_some() => {
            let deletes = parts.method == Method::DELETE;
            match damage(&content, repo, reference) {
                Some(status) if status != 404 && !deletes => {
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
                }
                _ => unknown_manifest(),
            }
        }
        "DELETE" if !switches.delete => refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "no deletes"),
        "DELETE" => {
            let keep = switches.tag_survives_delete;
            let found = content.repositories.get_mut(repo).is_some_and(|r| r.delete(reference, keep));
            if found { StatusCode::ACCEPTED.into_response() } else { unknown_manifest() }
        }
        _ => match content.repositories.get(repo).and_then(|r| r.manifest(reference)) {
            Some(StoredManifest { bytes, media_type }) => {
                let digest = Cid::of(bytes).oci_digest();
                let headers = [("content-type", media_type.clone()), ("docker-content-digest", digest)];
                (headers, bytes.clone()).into_response()
            }
            None => unknown_manifest(),
        },
    }
}

fn damage(content: &Content, repo: &str, reference: &str) -> Option<u16> {
    content.repositories.get(repo)?.damage_of(reference)
}

fn unknown_manifest() -> Response {
    refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
}

fn put_manifest(
    switches: &Switches,
    repository: &mut Repository,
    (repo, reference): (&str, &str),
    body: Bytes,
    media_type: &str,
) -> Response {
    if switches.check_blobs
        && let Some(missing) = repository.missing_blob(&body)
    {
        return refuse(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", &format!("{missing} unknown"));
    }
    let digest = Cid::of(&body).oci_digest();
    let by_digest = reference.contains(':');
    if by_digest && reference != digest {
        return refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "content does not match its digest");
    }
    let subject = Repository::subject(&body);
    repository.put_manifest((!by_digest).then_some(reference), body, media_type);
    let mut response = created(switches, &format!("/v2/{repo}/manifests/{digest}"), &digest);
    if let Some(Ok(subject)) =
        subject.filter(|_| switches.subject_header && switches.referrers).map(|s| s.parse())
    {
        response.headers_mut().insert("oci-subject", subject);
    }
    response
}

/// One page of `items` behind `last`, and the address of the next page.
fn page<T>(
    switches: &Switches,
    items: Vec<T>,
    query: &BTreeMap<String, String>,
    name: impl Fn(&T) -> String,
    path: &str,
) -> (Vec<T>, Option<String>) {
    let last = query.get("last");
    let mut rest: Vec<_> = match last.and_then(|l| items.iter().position(|i| name(i) == *l)) {
        Some(at) => items.into_iter().skip(at + 1).collect(),
        None => items,
    };
    let asked = query.get("n").and_then(|n| n.parse().ok());
    let size = [asked, switches.page_size].into_iter().flatten().min().unwrap_or(usize::MAX);
    if rest.len() <= size {
        return (rest, None);
    }
    rest.truncate(size);
    let next = rest.last().map(|i| format!("<{path}?last={}>; rel=\"next\"", name(i)));
    (rest, next)
}

fn listing(body: String, media_type: &str, next: Option<String>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, media_type.to_owned())], body).into_response();
    if let Some(Ok(next)) = next.map(|n| n.parse()) {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}

fn tags(shared: &Shared, switches: &Switches, repo: &str, query: &BTreeMap<String, String>) -> Response {
    let content = shared.content.lock();
    let Some(repository) = content.repositories.get(repo) else {
        return refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository unknown");
    };
    let all: Vec<_> = repository.tags.keys().cloned().collect();
    let (tags, next) = page(switches, all, query, Clone::clone, &format!("/v2/{repo}/tags/list"));
    listing(json!({ "name": repo, "tags": tags }).to_string(), "application/json", next)
}

fn referrers(
    shared: &Shared,
    switches: &Switches,
    repo: &str,
    digest: &str,
    query: &BTreeMap<String, String>,
) -> Response {
    if !switches.referrers {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    if Cid::from_oci_digest(digest).is_none() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let content = shared.content.lock();
    let Some(repository) = content.repositories.get(repo) else {
        return refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository unknown");
    };
    if let Some(status) = repository.any_damage() {
        return StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND).into_response();
    }
    let mut all = repository.referrers(digest, switches.listing_annotations);
    if let Some(wanted) = query.get("artifactType").filter(|_| switches.artifact_type_filter) {
        all.retain(|d| d["artifactType"] == *wanted.as_str());
    }
    let name = |d: &serde_json::Value| d["digest"].as_str().unwrap_or_default().to_owned();
    let (manifests, next) = page(switches, all, query, name, &format!("/v2/{repo}/referrers/{digest}"));
    let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string();
    listing(body, INDEX, next)
}
