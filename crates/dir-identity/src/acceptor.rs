//! Accepting with TLS: the handshake behind the door, under a timeout, and the peer filled in.

use crate::door::{Arrival, Door, Limits, Origin, READY_MAX, RefusedHook, cap_refusal, next_conn_id};
use crate::identity::Identity;
use crate::ip_rate::IpRate;
use crate::leaf::Leaf;
use crate::live::{self, Entry, Registry, Seat};
use crate::proxy::{ProxyConfig, Unread};
use crate::refuse::{Refusal, RefuseReason};
use crate::snapshot::{ALPN_H2, TlsSnapshot};
use crate::update::covers;
use crate::verify::{VerifiedPeer, with_verdict};
use dir_core::bucket::Rate;
use dir_core::{Clock, Peer, Principal, TrustDomain};
use futures::Stream;
use parking_lot::Mutex;
use prometheus::IntGauge;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::warn;

/// Host names that are remembered to have been warned about.
const SNI_WARNED_MAX: usize = 256;

/// Oldest TLS version that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.3 only.
    #[default]
    Tls13,
    /// TLS 1.2 as well.
    Tls12,
}

/// Whether a client has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// Without a good one there is no connection.
    #[default]
    Required,
    /// None is asked for: callers prove themselves later, and the peer of the connection is anonymous.
    NotAsked,
}

/// Says whether a trust domain may connect at all.
pub type DomainFilter = Arc<dyn Fn(&TrustDomain) -> bool + Send + Sync>;

/// Limits of an acceptor. A cap of 0 is none.
#[derive(Clone)]
pub struct AcceptorConfig {
    /// Longest handshake; default 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes at the same time; default 512. More wait in the listener's backlog.
    pub max_handshakes: usize,
    /// Oldest TLS version.
    pub min_version: MinVersion,
    /// Whether clients have to show a certificate.
    pub client_certificate: ClientCertificate,
    /// Connections in all; default 10,000.
    pub max_total: usize,
    /// Connections of one SPIFFE ID; default 1,024.
    pub max_per_identity: usize,
    /// Connections from one address; default 256. Clients of trusted proxies count by the address that the proxy tells.
    pub max_per_ip: usize,
    /// New connections a second from one address, counted in the same way; default no limit.
    pub per_ip_rate: Option<Rate>,
    /// PROXY headers.
    pub proxy: ProxyConfig,
    /// Whether any rule of the policy names a trust domain; without a policy everything is let through.
    pub domain_allowed: Option<DomainFilter>,
    /// Told of every handshake that is refused.
    pub on_refused: Option<RefusedHook>,
}

impl Default for AcceptorConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 512,
            min_version: MinVersion::Tls13,
            client_certificate: ClientCertificate::Required,
            max_total: 10_000,
            max_per_identity: 1_024,
            max_per_ip: 256,
            per_ip_rate: None,
            proxy: ProxyConfig::default(),
            domain_allowed: None,
            on_refused: None,
        }
    }
}

impl fmt::Debug for AcceptorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorConfig")
            .field("handshake_timeout", &self.handshake_timeout)
            .field("max_handshakes", &self.max_handshakes)
            .field("min_version", &self.min_version)
            .field("client_certificate", &self.client_certificate)
            .field("max_total", &self.max_total)
            .field("max_per_identity", &self.max_per_identity)
            .field("max_per_ip", &self.max_per_ip)
            .field("per_ip_rate", &self.per_ip_rate)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// A connection whose peer has proved who it is, unless no certificate is asked for.
pub struct Accepted {
    /// The encrypted stream; HTTP/2 was negotiated.
    pub io: TlsStream<Unread<TcpStream>>,
    /// Who is there.
    pub peer: Arc<Peer>,
    /// Resolves when the peer's trust domain has left the bundles or its chain no longer holds. It also holds the
    /// connection's place in every cap: keep it as long as the connection.
    pub revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// See [`Accepted::revoked`].
struct Revoked {
    token: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Entry,
    _seat: Seat,
}

impl Future for Revoked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.token.as_mut().poll(cx)
    }
}

/// The same for a connection without an identity; never resolves.
struct Anybody {
    open: IntGauge,
    _seat: Seat,
}

impl Future for Anybody {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Anybody {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Everything the handshake tasks of one listener share.
struct Acceptor {
    identity: Identity,
    config: AcceptorConfig,
    clock: Arc<dyn Clock>,
    door: Arc<Door>,
    sni_warned: Mutex<HashSet<String>>,
}

/// Accepts until `stop` fires or the stream is dropped. After `stop` the port is closed, and the stream ends when the
/// handshakes that had begun are done. Handshakes never wait for the Workload API: they use the snapshot at hand or are
/// refused.
pub fn accept_loop(
    listener: TcpListener,
    identity: Identity,
    config: AcceptorConfig,
    clock: Arc<dyn Clock>,
    metrics: &prometheus::Registry,
    stop: CancellationToken,
) -> Pin<Box<dyn Stream<Item = Accepted> + Send + 'static>> {
    identity.shared().metrics.register_acceptor(metrics);
    let (tx, rx) = mpsc::channel(READY_MAX);
    let end = CancellationToken::new();
    let registry = Registry::new(end.clone());
    tokio::spawn(live::watch(Arc::downgrade(&registry), identity.clone(), end));
    let door = Arc::new(Door {
        limits: Limits {
            pending: config.max_handshakes,
            total: config.max_total,
            per_ip: config.max_per_ip,
            ip_rate: IpRate::new(config.per_ip_rate),
            proxy: config.proxy.clone(),
        },
        registry,
        metrics: identity.shared().metrics.clone(),
        on_refused: config.on_refused.clone(),
    });
    let acceptor = Acceptor { identity, config, clock, door: door.clone(), sni_warned: Mutex::default() };
    let acceptor = Arc::new(acceptor);
    let greet = move |arrival| {
        let acceptor = acceptor.clone();
        async move { acceptor.handshake(arrival).await }
    };
    tokio::spawn(door.open(listener, tx, stop, greet));
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(rx))
}

impl Acceptor {
    async fn handshake(&self, Arrival { io, origin, seat }: Arrival) -> Result<Accepted, Refusal> {
        let snapshot = self.identity.snapshot();
        if !snapshot.is_valid(self.clock.now()) {
            return Err(Refusal::new(RefuseReason::NoServerSvid, "our own X509-SVID is not valid"));
        }
        let config = match (self.config.client_certificate, self.config.min_version) {
            (ClientCertificate::Required, MinVersion::Tls13) => snapshot.server_config(),
            (ClientCertificate::Required, MinVersion::Tls12) => snapshot.server_config_tls12(),
            (ClientCertificate::NotAsked, MinVersion::Tls13) => snapshot.open_config(),
            (ClientCertificate::NotAsked, MinVersion::Tls12) => snapshot.open_config_tls12(),
        };
        let shake = tokio::time::timeout(self.config.handshake_timeout, TlsAcceptor::from(config).accept(io));
        let (result, verdict) = with_verdict(shake).await;
        let io = match result {
            Err(_) => return Err(Refusal::new(RefuseReason::Timeout, "the handshake took too long")),
            Ok(Err(error)) => return Err(handshake_refusal(&error, verdict)),
            Ok(Ok(io)) => io,
        };
        let verified = match (self.config.client_certificate, verdict) {
            (ClientCertificate::NotAsked, _) => None,
            (ClientCertificate::Required, Some(Ok(verified))) => Some(verified),
            (ClientCertificate::Required, _) => {
                let text = "no certificate was verified";
                return Err(Refusal::new(RefuseReason::NoClientCertificate, text));
            }
        };
        if io.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(self
                .close(io, Refusal::new(RefuseReason::Alpn, "the client did not offer h2"))
                .await);
        }
        self.note_sni(io.get_ref().1.server_name(), &snapshot);
        match verified {
            Some(verified) => self.admit_peer(io, origin, seat, verified, &snapshot).await,
            None => Ok(self.admit_anybody(io, origin, seat)),
        }
    }

    /// Nobody is known yet, so nobody can lose our trust: the connection ends by age and use.
    fn admit_anybody(&self, io: TlsStream<Unread<TcpStream>>, origin: Origin, seat: Seat) -> Accepted {
        let peer = Arc::new(self.peer(next_conn_id(), &io, origin, None));
        let open = self.identity.shared().metrics.admitted_anybody();
        open.inc();
        let revoked = Anybody { open, _seat: seat };
        Accepted { io, peer, revoked: Box::pin(revoked) }
    }

    async fn admit_peer(
        &self,
        io: TlsStream<Unread<TcpStream>>,
        origin: Origin,
        seat: Seat,
        verified: VerifiedPeer,
        snapshot: &TlsSnapshot,
    ) -> Result<Accepted, Refusal> {
        let domain = verified.leaf.id.trust_domain().clone();
        if self.config.domain_allowed.as_ref().is_some_and(|allowed| !allowed(&domain)) {
            let text = format!("no rule of the policy names trust domain {domain}");
            return Err(self.close(io, Refusal::new(RefuseReason::DomainNotAllowed, text)).await);
        }
        let conn_id = next_conn_id();
        let peer = Arc::new(self.peer(conn_id, &io, origin, Some(&verified.leaf)));
        let metrics = self.identity.shared().metrics.clone();
        let peers = metrics.connected(&domain);
        peers.inc();
        let closing = peers.clone();
        let on_close = Box::new(move |revoked_at: Option<tokio::time::Instant>| {
            closing.dec();
            if let Some(at) = revoked_at {
                let seconds = at.elapsed().as_secs_f64();
                metrics.revocation_seconds.with_label_values(&["acceptor"]).observe(seconds);
            }
        });
        let (entry, token) =
            match self.door.registry.enter(conn_id, verified, self.config.max_per_identity, on_close) {
                Ok(entered) => entered,
                Err(cap) => {
                    peers.dec();
                    return Err(self.close(io, cap_refusal(cap)).await);
                }
            };
        // Trust may have changed between the handshake and the registration; the sweep of that change has passed.
        let current = self.identity.snapshot();
        if current.generation() != snapshot.generation() {
            self.door.registry.sweep(&current, self.clock.now());
        }
        let revoked = Revoked { token: Box::pin(token.cancelled_owned()), _entry: entry, _seat: seat };
        Ok(Accepted { io, peer, revoked: Box::pin(revoked) })
    }

    fn peer(
        &self,
        conn_id: u64,
        io: &TlsStream<Unread<TcpStream>>,
        origin: Origin,
        leaf: Option<&Leaf>,
    ) -> Peer {
        let tls = io.get_ref().1;
        Peer {
            conn_id,
            principal: leaf.map_or(Principal::Anonymous, |leaf| Principal::Spiffe(leaf.id.clone())),
            addr: origin.addr,
            real_addr: origin.real_addr,
            serial: leaf.map(|leaf| leaf.serial.clone()).unwrap_or_default(),
            not_before: leaf.map(|leaf| leaf.not_before),
            not_after: leaf.map(|leaf| leaf.not_after),
            sni: tls.server_name().map(str::to_owned),
            tls_version: match tls.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
                other => format!("{other:?}"),
            },
            opened_at: self.clock.now(),
        }
    }

    /// Closes politely; the peer's side of a finished handshake learns of the refusal by close_notify.
    async fn close(&self, mut io: TlsStream<Unread<TcpStream>>, refusal: Refusal) -> Refusal {
        let bye = tokio::io::AsyncWriteExt::shutdown(&mut io);
        let _ = tokio::time::timeout(Duration::from_secs(1), bye).await;
        refusal
    }

    /// A host name that is not ours is no fault of the handshake, but it often explains one elsewhere.
    fn note_sni(&self, sni: Option<&str>, snapshot: &TlsSnapshot) {
        let Some(host) = sni.filter(|host| !covers(&snapshot.leaf().dns_names, host)) else { return };
        self.identity.shared().metrics.foreign_sni.with_label_values(&["acceptor"]).inc();
        let mut warned = self.sni_warned.lock();
        if warned.len() < SNI_WARNED_MAX && warned.insert(host.to_owned()) {
            warn!(host, "clients dial a host name that our X509-SVID does not have");
        }
    }
}

/// Finds the reason in what rustls says, unless our verifier gave it already.
fn handshake_refusal(error: &std::io::Error, verdict: Option<Result<VerifiedPeer, Refusal>>) -> Refusal {
    if let Some(Err(refusal)) = verdict {
        return refusal;
    }
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let reason = match tls {
        Some(rustls::Error::NoCertificatesPresented) => RefuseReason::NoClientCertificate,
        Some(rustls::Error::NoApplicationProtocol) => RefuseReason::Alpn,
        Some(rustls::Error::AlertReceived(_)) => RefuseReason::PeerAlert,
        // The proof of possession of the client's key.
        Some(rustls::Error::InvalidCertificate(_)) => RefuseReason::BadChain,
        Some(_) => RefuseReason::Protocol,
        None => RefuseReason::Disconnected,
    };
    Refusal::new(reason, error.to_string())
}
