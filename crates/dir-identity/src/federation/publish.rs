//! Our own bundle for others to fetch: an `https_spiffe` endpoint (SPIFFE Federation, section 5.2.2) that proves
//! itself with our SVID, asks nobody for a certificate, and answers GET alone.

use super::disk;
use super::document::{self, fingerprint};
use super::error::FederationError;
use super::metrics::PublishMetrics;
use crate::bundle::TrustBundle;
use crate::identity::Identity;
use arc_swap::ArcSwap;
use bytes::Bytes;
use dir_core::{Clock, TrustDomain};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
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
        let mut author = Author { config, clock, metrics: metrics.clone(), last: None };
        author.recall();
        let server = Arc::new(Server {
            body: ArcSwap::from_pointee(Bytes::new()),
            identity: identity.clone(),
            clock: author.clock.clone(),
            metrics,
        });
        author.write(&server);
        let stop = CancellationToken::new();
        tokio::spawn(follow(author, server.clone(), stop.clone()));
        tokio::spawn(accept(listener, server, stop.clone()));
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
        let edition = self.edition(domain, keys(bundle));
        let (body, left_out) = document::write(bundle, edition.sequence, self.config.refresh_hint);
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
}

fn keys(bundle: &TrustBundle) -> BTreeSet<String> {
    bundle.roots().iter().map(|root| fingerprint(root)).collect()
}

async fn follow(mut author: Author, server: Arc<Server>, stop: CancellationToken) {
    let mut changes = server.identity.changes();
    // What changed since the first edition.
    changes.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        author.write(&server);
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
