//! Our own bundle for others to fetch: an `https_spiffe` endpoint (SPIFFE Federation, section 5.2.2) that proves
//! itself with our SVID, asks nobody for a certificate, and answers GET alone.

use super::disk;
use super::document::{self, fingerprint};
use super::error::FederationError;
use super::json;
use super::metrics::PublishMetrics;
use crate::bundle::TrustBundle;
use crate::config::parse_endpoint;
use crate::feed::{self, FeedEvent, JwtBundlesFeed};
use crate::identity::Identity;
use crate::jwt::KEYS_MAX;
use crate::proto::JwtBundlesResponse;
use crate::update::domain_of;
use arc_swap::ArcSwap;
use bytes::Bytes;
use dir_core::{Clock, TrustDomain};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};

/// Paths at which the bundle is served: that of SPIRE, and one for a host that serves other things too.
const PATHS: [&str; 2] = ["/", "/.well-known/spiffe-bundle"];
/// Connections at the same time; more wait in the backlog.
const CONNECTIONS_MAX: usize = 64;
/// Longest handshake, and longest wait for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection lives no longer: one question, one answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a failed accept: with no file descriptors left, trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long the first edition waits for the keys of JWT-SVIDs.
const JWT_PATIENCE: Duration = Duration::from_secs(10);
/// Largest file of our own state.
const STATE_MAX: u64 = 4096;

/// How our own bundle is published.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// How often partners are asked to look; default 5 minutes.
    pub refresh_hint: Duration,
    /// File in which the sequence number is kept; without it a restart counts on from the time of day.
    pub state_file: Option<PathBuf>,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { refresh_hint: super::config::REFRESH_UNHINTED, state_file: None }
    }
}

/// The endpoint; it ends when this is dropped.
#[derive(Debug)]
pub struct BundleEndpoint {
    address: SocketAddr,
    _stop: DropGuard,
}

impl BundleEndpoint {
    /// Starts to serve the bundle of our own trust domain.
    pub fn start(
        listener: TcpListener,
        config: PublishConfig,
        identity: &Identity,
        clock: Arc<dyn Clock>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, FederationError> {
        let address = listener.local_addr().map_err(|e| FederationError::Publish {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            detail: e.to_string(),
        })?;
        let metrics = PublishMetrics::new(metrics);
        let mut author =
            Author { config, clock, metrics: metrics.clone(), jwt_keys: BTreeMap::new(), last: None };
        author.recall();
        let server = Arc::new(Server {
            body: ArcSwap::from_pointee(Bytes::new()),
            identity: identity.clone(),
            clock: author.clock.clone(),
            metrics,
        });
        let stop = CancellationToken::new();
        tokio::spawn(publish(author, listener, server, stop.clone()));
        info!(%address, spiffe_id = %identity.snapshot().leaf().id, "our bundle is published (https_spiffe)");
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What was published last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Edition {
    trust_domain: String,
    sequence: u64,
    keys: BTreeSet<String>,
}

/// Counts the editions.
struct Author {
    config: PublishConfig,
    clock: Arc<dyn Clock>,
    metrics: PublishMetrics,
    /// Keys that sign the JWT-SVIDs of our trust domain, by key ID.
    jwt_keys: BTreeMap<String, Value>,
    last: Option<Edition>,
}

impl Author {
    fn recall(&mut self) {
        let Some(path) = &self.config.state_file else { return };
        let read = disk::read_bounded(path, STATE_MAX * 16);
        match read.and_then(|b| b.map(|b| serde_json::from_slice(&b).map_err(Into::into)).transpose()) {
            Ok(last) => self.last = last,
            Err(fault) => warn!(%fault, path = %path.display(), "the last edition of our bundle is unknown"),
        }
    }

    /// The edition of these keys: the last one if nothing changed, otherwise the next. It begins at the time of day,
    /// so that a lost file does not make the number go back.
    fn edition(&self, domain: &TrustDomain, keys: BTreeSet<String>) -> Edition {
        let last = self.last.as_ref().filter(|last| last.trust_domain == domain.as_str());
        match last {
            Some(last) if last.keys == keys => last.clone(),
            last => {
                let now = u64::try_from(self.clock.now().secs()).unwrap_or(0);
                let sequence = last.map_or(0, |l| l.sequence.saturating_add(1)).max(now);
                Edition { trust_domain: domain.to_string(), sequence, keys }
            }
        }
    }

    /// Writes the document anew if our bundle changed.
    fn write(&mut self, server: &Server) {
        let snapshot = server.identity.snapshot();
        let domain = snapshot.leaf().id.trust_domain();
        let Some(bundle) = snapshot.bundles().get(domain) else { return };
        let edition = self.edition(domain, self.keys(bundle));
        let (body, left_out) =
            document::write(bundle, self.jwt_keys.values(), edition.sequence, self.config.refresh_hint);
        server.body.store(Arc::new(Bytes::from(body)));
        self.metrics.published(domain, edition.sequence);
        if self.last.as_ref() == Some(&edition) {
            return;
        }
        if left_out > 0 {
            warn!(left_out, "roots of a kind of key that a bundle document cannot name are not published");
        }
        info!(sequence = edition.sequence, keys = edition.keys.len(), "new edition of our bundle");
        if let Some(path) = &self.config.state_file {
            let bytes = serde_json::to_vec(&edition).map_err(std::io::Error::from);
            if let Err(fault) = bytes.and_then(|bytes| disk::replace(path, &bytes)) {
                error!(%fault, path = %path.display(), "the edition of our bundle cannot be remembered");
            }
        }
        self.last = Some(edition);
    }

    fn keys(&self, bundle: &TrustBundle) -> BTreeSet<String> {
        let roots = bundle.roots().iter().map(|root| fingerprint(root));
        roots.chain(self.jwt_keys.values().map(|key| fingerprint(key.to_string().as_bytes()))).collect()
    }

    /// Takes up the keys of JWT-SVIDs. A set that cannot be read changes nothing.
    fn take_jwt_keys(&mut self, server: &Server, message: &JwtBundlesResponse) {
        let snapshot = server.identity.snapshot();
        let own = snapshot.leaf().id.trust_domain();
        let Some((_, text)) =
            message.bundles.iter().find(|(name, _)| domain_of(name).is_ok_and(|d| d == *own))
        else {
            self.jwt_keys.clear();
            return;
        };
        match published_keys(text) {
            Ok(keys) => self.jwt_keys = keys,
            Err(fault) => {
                warn!(fault, "the keys of our JWT-SVIDs are unreadable; the last ones are published");
            }
        }
    }
}

/// Keys as a bundle document shows them: those with a name, by it, with their public members alone.
fn published_keys(text: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    const MEMBERS: [&str; 8] = ["kty", "kid", "alg", "crv", "x", "y", "n", "e"];
    let set = json::parse(text).map_err(|e| e.to_string())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("there is no list of keys")?;
    let shown = |key: &Value| {
        let key = key.as_object()?;
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let known = matches!(text("kty"), Some("EC" | "RSA" | "OKP"));
        let kid = text("kid").filter(|kid| !kid.is_empty())?;
        // The Workload API sends keys of JWT-SVIDs alone, and may leave the use away.
        let wanted = known && text("use").is_none_or(|u| u == "jwt-svid");
        let public = key.iter().filter(|(name, _)| MEMBERS.contains(&name.as_str()));
        let mut public: Map<String, Value> = public.map(|(n, v)| (n.clone(), v.clone())).collect();
        public.insert("use".to_owned(), "jwt-svid".into());
        wanted.then(|| (kid.to_owned(), Value::Object(public)))
    };
    Ok(keys.iter().filter_map(shown).take(KEYS_MAX).collect())
}

/// Writes the first edition, serves it, and writes a further one for each change.
async fn publish(mut author: Author, listener: TcpListener, server: Arc<Server>, stop: CancellationToken) {
    let mut tokens = match parse_endpoint(&server.identity.shared().config.socket) {
        Ok(endpoint) => {
            let wait = server.identity.shared().config.startup_wait.clone();
            Some(feed::spawn::<JwtBundlesFeed>(endpoint, wait, stop.clone()))
        }
        Err(_) => None,
    };
    // An edition without them would take them away from partners.
    let first = tokio::time::timeout(JWT_PATIENCE, first_jwt_keys(&mut tokens));
    match stop.run_until_cancelled(first).await {
        Some(Ok(Some(message))) => author.take_jwt_keys(&server, &message),
        Some(Ok(None) | Err(_)) => {
            warn!("our bundle is published without keys of JWT-SVIDs: none were received");
        }
        None => return,
    }
    author.write(&server);
    tokio::spawn(accept(listener, server.clone(), stop.clone()));
    let mut changes = server.identity.changes();
    // What changed since the first edition.
    changes.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            rotated = changes.changed() => if rotated.is_err() { return },
            event = next(&mut tokens) => match event {
                Some(FeedEvent::Message(message)) => author.take_jwt_keys(&server, &message),
                // What is published stays so while the agent is away.
                Some(FeedEvent::Opened | FeedEvent::Failed { .. }) => continue,
                None => {
                    tokens = None;
                    continue;
                }
            },
        }
        author.write(&server);
    }
}

type JwtEvents = Option<mpsc::Receiver<FeedEvent<JwtBundlesResponse>>>;

/// What comes next; nothing ever does from an agent that does not know such keys.
async fn next(tokens: &mut JwtEvents) -> Option<FeedEvent<JwtBundlesResponse>> {
    match tokens {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// The first message; `None` from an agent that has none to give.
async fn first_jwt_keys(tokens: &mut JwtEvents) -> Option<Box<JwtBundlesResponse>> {
    let events = tokens.as_mut()?;
    loop {
        match events.recv().await? {
            FeedEvent::Message(message) => return Some(message),
            FeedEvent::Failed { fatal: true, .. } => return None,
            FeedEvent::Opened | FeedEvent::Failed { .. } => {}
        }
    }
}

struct Server {
    body: ArcSwap<Bytes>,
    identity: Identity,
    clock: Arc<dyn Clock>,
    metrics: PublishMetrics,
}

async fn accept(listener: TcpListener, server: Arc<Server>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let Some(Some((slot, accepted))) = stop.run_until_cancelled(next).await else { return };
        match accepted {
            Ok((io, peer)) => {
                let (server, stop) = (server.clone(), stop.clone());
                tokio::spawn(async move {
                    let serving = tokio::time::timeout(CONNECTION_LIMIT, Box::pin(serve(&server, io)));
                    if let Some(Ok(Err(fault))) = stop.run_until_cancelled(serving).await {
                        debug!(%peer, fault, "bundle endpoint: connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "bundle endpoint: accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(server: &Arc<Server>, io: TcpStream) -> Result<(), String> {
    let snapshot = server.identity.snapshot();
    if !snapshot.is_valid(server.clock.now()) {
        return Err("our own X509-SVID is not valid".to_owned());
    }
    let tls = snapshot.endpoint_config().map_err(|e| e.to_string())?;
    let shake = tokio::time::timeout(PATIENCE, TlsAcceptor::from(tls).accept(io)).await;
    let io = shake.map_err(|_elapsed| "the handshake took too long")?.map_err(|e| e.to_string())?;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(server, request.method(), request.uri().path());
        server.metrics.answered(answer.status().as_u16());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service)
        .await
        .map_err(|e| e.to_string())
}

fn answer(server: &Server, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, body) = if !PATHS.contains(&path) {
        (StatusCode::NOT_FOUND, Bytes::new())
    } else if method != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, Bytes::new())
    } else {
        (StatusCode::OK, Bytes::clone(&server.body.load()))
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::OK {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    }
    response
}
