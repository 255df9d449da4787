//! The client: one lazy connection, and the calls over it.

use crate::address::{self, Address};
use crate::again::Again;
use crate::codec::RawCodec;
use crate::config::{AuthMode, ClientConfig};
use crate::credentials::{Credentials, TokenFacts};
use crate::dial::{Dialer, Target};
use crate::error::{ClientError, Kind};
use crate::mismatch::Agreed;
use crate::security::Security;
use crate::watch::Faults;
use bytes::Bytes;
use dir_core::Clock;
use dir_core::identity::IdentityReport;
use dir_identity::{Leaf, Refusal};
use futures::Stream;
use http::Uri;
use http::uri::PathAndQuery;
use prost::Message;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Messages of a stream, still encoded.
pub(crate) type Answers = Streaming<Bytes>;

/// Interval of HTTP/2 pings while calls are running: longer than servers usually allow at least (1 minute),
/// shorter than load balancers usually cut (350 s).
const PING_EVERY: Duration = Duration::from_secs(75);
/// Bound on a look at a server that said nothing.
const LOOK: Duration = Duration::from_secs(2);
/// How long a ping may stay unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow control windows: bulk pulls should not wait for window updates.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Headers of an answer: room for servers and proxies that repeat what they refuse in their error's text.
pub(crate) const ANSWER_HEADERS: u32 = 64 * 1024;

/// A client of one directory server. Cloning is cheap and shares the connection, which is made by the first call and
/// made again, with the credentials of that moment, whenever it is gone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    dialer: Dialer,
    credentials: Option<Credentials>,
    agreed: Agreed,
    target: Target,
    faults: Faults,
    call_timeout: Option<Duration>,
    max_message: usize,
}

impl Client {
    /// A client from its settings. Waits for the first SVID where the auth mode needs one; connects to nobody yet.
    /// Must be called within a tokio runtime.
    pub async fn new(config: ClientConfig, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let address = Address::parse(&config.server_addr).map_err(|e| {
            let what = format!("server address {:?} ({})", config.server_addr, config.server_addr_source);
            let next = "write host:port, grpcs://host, grpc://host:port or unix:///path";
            ClientError::new(Kind::Config, what, e.to_string(), next)
        })?;
        let security = Security::obtain(&config, &address, clock.clone()).await?;
        let own = security.report().map(|report| report.id);
        let credentials = Credentials::obtain(&config, own, clock).await?;
        let target = Target { address, source: config.server_addr_source.clone() };
        let agreed = Agreed {
            mode: config.auth_mode,
            source: config.auth_mode_source.clone(),
            audience: config.jwt_audience.clone(),
        };
        let faults = Faults::default();
        let endpoint = endpoint(&config, &target, security.is_tls())?;
        let dialer = Dialer::new(target.clone(), security, config.connect_timeout, faults.clone());
        let channel = endpoint.connect_with_connector_lazy(dialer.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                channel,
                dialer,
                credentials,
                agreed,
                target,
                faults,
                call_timeout: config.call_timeout,
                max_message: config.max_message,
            }),
        })
    }

    /// The server, and who named it: `localhost:8888 (from --server-addr)`.
    pub fn target(&self) -> String {
        self.inner.target.to_string()
    }

    /// What this process knows of its own identity; `None` unless the auth mode is x509 or jwt.
    pub fn identity(&self) -> Option<IdentityReport> {
        self.inner.dialer.report()
    }

    /// How this client proves who it is.
    pub fn auth_mode(&self) -> AuthMode {
        self.inner.agreed.mode
    }

    /// What the token is that this client shows, judged as a server judges it; `None` in modes without tokens.
    pub async fn token_facts(&self) -> Option<Result<TokenFacts, ClientError>> {
        let credentials = self.inner.credentials.as_ref()?;
        Some(credentials.facts(self.inner.dialer.spiffe()).await)
    }

    /// Judges a server's chain, leaf first, by the bundles and the expectation of this client; `None` unless it has an
    /// SVID.
    pub fn judge_server(&self, chain: &[CertificateDer<'_>]) -> Option<Result<Leaf, Refusal>> {
        self.inner.dialer.judge_server(chain)
    }

    /// The server alone: `localhost:8888`.
    pub fn address(&self) -> String {
        self.inner.target.address.to_string()
    }

    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.inner.call_timeout
    }

    pub(crate) fn late_text(&self) -> String {
        format!("no answer within {}", crate::seconds(self.inner.call_timeout.unwrap_or_default()))
    }

    pub(crate) fn is_break(&self, status: &Status) -> bool {
        let credentials = self.inner.credentials.as_ref();
        credentials.is_some_and(|c| c.refused(status)) || crate::status::is_break(status, &self.inner.faults)
    }

    pub(crate) fn explain(&self, path: &str, status: &Status) -> ClientError {
        self.inner.agreed.explain(crate::status::explain(&self.what(path), status, &self.inner.faults))
    }

    /// `Push to localhost:8888 (from --server-addr)`.
    fn what(&self, path: &str) -> String {
        let method = path.rsplit('/').next().unwrap_or(path);
        let preposition = if method == "Push" { "to" } else { "at" };
        format!("{method} {preposition} {}", self.inner.target)
    }

    /// An answer that does not decode.
    pub(crate) fn garbled(&self, path: &str, cause: &str) -> ClientError {
        let cause = format!("the answer does not decode: {cause}");
        ClientError::new(Kind::VersionSkew, self.what(path), cause, "")
    }

    /// An error of this call with a cause of our own finding.
    pub(crate) fn fault(&self, kind: Kind, path: &str, cause: String) -> ClientError {
        ClientError::new(kind, self.what(path), cause, "")
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc =
            Grpc::new(self.inner.channel.clone()).max_decoding_message_size(self.inner.max_message);
        grpc.ready().await.map_err(|e| Status::from_error(Box::new(e)))?;
        Ok(grpc)
    }

    /// A request with what proves us.
    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(credentials) = &self.inner.credentials {
            credentials.put(request.metadata_mut()).await?;
        }
        Ok(request)
    }

    pub(crate) async fn open_stream<S>(&self, path: &'static str, requests: S) -> Result<Answers, Status>
    where
        S: Stream<Item = Bytes> + Send + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        Ok(grpc.streaming(self.request(requests).await?, path, RawCodec).await?.into_inner())
    }

    /// One request, one answer. A call that met a broken connection is made once more.
    pub(crate) async fn unary<Q, A>(&self, path: &'static str, request: &Q) -> Result<A, ClientError>
    where
        Q: Message,
        A: Message + Default,
    {
        let bytes = Bytes::from(request.encode_to_vec());
        let call = || async {
            let mut grpc = self.grpc().await?;
            let path = PathAndQuery::from_static(path);
            Ok(grpc.unary(self.request(bytes.clone()).await?, path, RawCodec).await?.into_inner())
        };
        let answer = self.twice(path, call).await?;
        A::decode(answer).map_err(|e| self.garbled(path, &e.to_string()))
    }

    /// One request, a stream of answers.
    pub(crate) async fn listen<Q: Message>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<Answers, ClientError> {
        let bytes = Bytes::from(request.encode_to_vec());
        let call = || async {
            let mut grpc = self.grpc().await?;
            let path = PathAndQuery::from_static(path);
            Ok(grpc.server_streaming(self.request(bytes.clone()).await?, path, RawCodec).await?.into_inner())
        };
        self.twice(path, call).await
    }

    /// The same without a second attempt and without a bound on the first answer: for streams on which nothing may
    /// happen for long.
    pub(crate) async fn open_listen<Q: Message>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<Answers, Status> {
        let mut grpc = self.grpc().await?;
        let request = self.request(Bytes::from(request.encode_to_vec())).await?;
        let path = PathAndQuery::from_static(path);
        Ok(grpc.server_streaming(request, path, RawCodec).await?.into_inner())
    }

    /// The next answer of such a stream, within the bound.
    pub(crate) async fn next_answer<A: Message + Default>(
        &self,
        path: &'static str,
        answers: &mut Answers,
    ) -> Option<Result<A, ClientError>> {
        match self.bounded(answers.message()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(A::decode(bytes).map_err(|e| self.garbled(path, &e.to_string()))),
            Err(status) => Some(Err(self.explain(path, &status))),
        }
    }

    /// Makes a call, and once more when the connection broke under it, or the server did not take our token: its key may
    /// have been withdrawn.
    pub(crate) async fn twice<R, F, Fut>(&self, path: &'static str, call: F) -> Result<R, ClientError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<R, Status>>,
    {
        let mut again = Again::default();
        loop {
            match self.bounded(call()).await {
                Ok(answer) => return Ok(answer),
                Err(status) if again.worth(self, &status) => {
                    tracing::debug!(path, %status, "connection or token failed the call, trying once more");
                }
                Err(status) => return Err(self.clarified(self.explain(path, &status)).await),
            }
        }
    }

    /// A web server that knows nothing of HTTP/2 may close the connection without a word, as a server does that restarts:
    /// one more look tells them apart.
    async fn clarified(&self, error: ClientError) -> ClientError {
        let address::Endpoint::Tcp { host, port } = &self.inner.target.address.endpoint else { return error };
        let silent = error.kind() == Kind::Disconnected && error.cause() == crate::watch::CLOSED_IN_PLAIN;
        if silent && crate::probe::speaks_http1(host, *port, LOOK).await {
            return crate::watch::http1(error.what());
        }
        error
    }

    async fn bounded<R>(&self, call: impl Future<Output = Result<R, Status>>) -> Result<R, Status> {
        match self.inner.call_timeout {
            None => call.await,
            Some(bound) => match tokio::time::timeout(bound, call).await {
                Ok(done) => done,
                Err(_late) => Err(Status::deadline_exceeded(self.late_text())),
            },
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.inner.target)
    }
}

/// HTTP/2 settings and the authority that requests carry.
fn endpoint(config: &ClientConfig, target: &Target, tls: bool) -> Result<Endpoint, ClientError> {
    let scheme = if tls { "https" } else { "http" };
    let named = config.server_name.as_deref().filter(|n| !n.is_empty());
    let authority = match (named, target.address.host()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(_)) => target.address.to_string(),
        (None, None) => "localhost".to_owned(),
    };
    let invalid = |e: &dyn std::fmt::Display| {
        ClientError::new(Kind::Config, format!("connect to {target}"), e.to_string(), "check the host name")
    };
    let uri = Uri::try_from(format!("{scheme}://{authority}")).map_err(|e| invalid(&e))?;
    Ok(Endpoint::from(uri)
        .user_agent(config.user_agent.clone())
        .map_err(|e| invalid(&e))?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(ANSWER_HEADERS))
}
