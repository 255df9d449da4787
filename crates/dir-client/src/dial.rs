//! Bringing a connection up: resolve, connect, secure. Every failure says what was dialled and who named it.

use crate::address::{Address, Endpoint};
use crate::config::Source;
use crate::error::{ClientError, Kind};
use crate::security::Security;
use crate::spiffe::Spiffe;
use crate::watch::{Faults, Watched};
use dir_core::identity::IdentityReport;
use dir_identity::{Leaf, Refusal};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream, secured or not.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(crate) type BoxIo = Box<dyn Io>;

/// A fresh connection, before anything is said on it.
pub(crate) enum RawIo {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl RawIo {
    pub(crate) fn boxed(self) -> BoxIo {
        match self {
            RawIo::Tcp(stream) => Box::new(stream),
            RawIo::Unix(stream) => Box::new(stream),
        }
    }
}

/// The target of a client as errors name it: `localhost:8888 (from --server-addr)`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) source: Source,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.address, self.source)
    }
}

/// Makes connections for a channel. Every connection uses the credentials of that moment.
#[derive(Clone)]
pub(crate) struct Dialer {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    security: Security,
    timeout: Duration,
    faults: Faults,
}

impl Dialer {
    /// What this process knows of its own identity, where it has one.
    pub(crate) fn report(&self) -> Option<IdentityReport> {
        self.inner.security.report()
    }

    /// The identity, in the modes that have one.
    pub(crate) fn spiffe(&self) -> Option<&Spiffe> {
        self.inner.security.spiffe()
    }

    /// See [`crate::Client::judge_server`].
    pub(crate) fn judge_server(&self, chain: &[CertificateDer<'_>]) -> Option<Result<Leaf, Refusal>> {
        self.inner.security.judge_server(chain)
    }

    pub(crate) fn new(target: Target, security: Security, timeout: Duration, faults: Faults) -> Self {
        Self { inner: Arc::new(Inner { target, security, timeout, faults }) }
    }
}

impl Inner {
    async fn dial(&self) -> Result<Watched, ClientError> {
        match tokio::time::timeout(self.timeout, self.connect_over_rotation()).await {
            Ok(done) => done,
            Err(_elapsed) => Err(self.failed(
                Kind::Timeout,
                format!("no connection within {}", crate::seconds(self.timeout)),
                "",
            )),
        }
    }

    /// A handshake during which our credentials changed may fail for that reason alone: it is made once more.
    async fn connect_over_rotation(&self) -> Result<Watched, ClientError> {
        let before = self.security.generation();
        match self.connect().await {
            Err(error) if self.security.generation() != before => {
                tracing::debug!(%error, "the identity changed during the handshake, trying once more");
                self.connect().await
            }
            done => done,
        }
    }

    async fn connect(&self) -> Result<Watched, ClientError> {
        let raw = match &self.target.address.endpoint {
            Endpoint::Tcp { host, port } => RawIo::Tcp(self.connect_tcp(host, *port).await?),
            Endpoint::Unix(path) => RawIo::Unix(self.connect_unix(path).await?),
        };
        let what = self.what();
        let io = self.security.secure(raw, &what).await?;
        Ok(Watched::new(io, !self.security.is_tls(), self.faults.clone(), what))
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|e| self.failed(Kind::Dns, format!("the name {host} does not resolve: {e}"), ""))?
            .collect();
        let mut last = None;
        for address in &addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let tuned = stream.set_nodelay(true);
                    return tuned.map(|()| stream).map_err(|e| self.io_failed(&e, None));
                }
                Err(e) => last = Some((*address, e)),
            }
        }
        Err(match last {
            Some((address, e)) => self.io_failed(&e, Some(address)),
            None => self.failed(Kind::Dns, format!("the name {host} has no address"), ""),
        })
    }

    async fn connect_unix(&self, path: &Path) -> Result<UnixStream, ClientError> {
        UnixStream::connect(path).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => self.failed(
                Kind::Unreachable,
                "there is no such socket",
                "check that the server runs, and the path it listens on",
            ),
            _ => self.io_failed(&e, None),
        })
    }

    fn io_failed(&self, error: &io::Error, address: Option<SocketAddr>) -> ClientError {
        let seen = match (address, self.target.address.host()) {
            (Some(address), Some(host)) if host != address.ip().to_string() => {
                format!(" ({host} is {})", address.ip())
            }
            _ => String::new(),
        };
        let (kind, cause) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (Kind::Refused, "connection refused".to_owned()),
            io::ErrorKind::TimedOut => (Kind::Timeout, error.to_string()),
            io::ErrorKind::ConnectionReset => (Kind::Disconnected, error.to_string()),
            _ => (Kind::Unreachable, error.to_string()),
        };
        self.failed(kind, format!("{cause}{seen}"), self.loopback_advice(kind))
    }

    /// Loopback is dialled by mistake more often than on purpose; say where the address came from.
    fn loopback_advice(&self, kind: Kind) -> &'static str {
        let unsaid = self.target.source == Source::Default;
        match kind {
            Kind::Refused if unsaid => {
                "nobody named a server, so this machine was tried: use --server-addr or DIRECTORY_CLIENT_SERVER_ADDRESS"
            }
            _ => "",
        }
    }

    fn what(&self) -> String {
        format!("connect to {}", self.target)
    }

    fn failed(&self, kind: Kind, cause: impl Into<String>, next: &str) -> ClientError {
        ClientError::new(kind, self.what(), cause, next)
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Watched>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ClientError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _origin: Uri) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.dial().await.map(TokioIo::new) })
    }
}
