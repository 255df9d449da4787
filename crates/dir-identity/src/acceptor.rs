//! Accepting connections: TCP, caps, handshake in a task of its own under a timeout, the peer filled in.

use crate::identity::Identity;
use crate::live::{self, Cap, Entry, Registry, Seat};
use crate::refuse::{Refusal, RefuseReason};
use crate::snapshot::{ALPN_H2, TlsSnapshot};
use crate::update::covers;
use crate::verify::{VerifiedPeer, with_verdict};
use dir_core::{Clock, Peer, Principal, TrustDomain};
use futures::Stream;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{debug, warn};

/// Pause after a failed accept: with no file descriptors left, trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Handshakes that are done and not taken yet.
const READY_MAX: usize = 64;
/// Host names that are remembered to have been warned about.
const SNI_WARNED_MAX: usize = 256;

static NEXT_CONN_ID: AtomicU64 = AtomicU64::new(1);

/// Oldest TLS version that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.3 only.
    #[default]
    Tls13,
    /// TLS 1.2 as well.
    Tls12,
}

/// Says whether a trust domain may connect at all.
pub type DomainFilter = Arc<dyn Fn(&TrustDomain) -> bool + Send + Sync>;

/// Is told of a refused handshake: TCP address and why. Must not block.
pub type RefusedHook = Arc<dyn Fn(SocketAddr, &Refusal) + Send + Sync>;

/// Limits of an acceptor. A cap of 0 is none.
#[derive(Clone)]
pub struct AcceptorConfig {
    /// Longest handshake; default 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes at the same time; default 512. More wait in the listener's backlog.
    pub max_handshakes: usize,
    /// Oldest TLS version.
    pub min_version: MinVersion,
    /// Connections in all; default 10,000.
    pub max_total: usize,
    /// Connections of one SPIFFE ID; default 1,024.
    pub max_per_identity: usize,
    /// Connections from one address; default 256.
    pub max_per_ip: usize,
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
            max_total: 10_000,
            max_per_identity: 1_024,
            max_per_ip: 256,
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
            .field("max_total", &self.max_total)
            .field("max_per_identity", &self.max_per_identity)
            .field("max_per_ip", &self.max_per_ip)
            .finish_non_exhaustive()
    }
}

/// A connection whose peer has proved who it is.
pub struct Accepted {
    /// The encrypted stream; HTTP/2 was negotiated.
    pub io: TlsStream<TcpStream>,
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

/// Everything the handshake tasks of one listener share.
struct Acceptor {
    identity: Identity,
    config: AcceptorConfig,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    sni_warned: Mutex<HashSet<String>>,
}

/// Accepts until `stop` fires or the stream is dropped. Handshakes never wait for the Workload API: they use the
/// snapshot at hand or are refused.
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
    let acceptor =
        Arc::new(Acceptor { identity, config, clock, registry, sni_warned: Mutex::new(HashSet::new()) });
    tokio::spawn(run(listener, acceptor, tx, stop));
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(rx))
}

async fn run(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    tx: mpsc::Sender<Accepted>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(acceptor.config.max_handshakes.clamp(1, Semaphore::MAX_PERMITS)));
    loop {
        let next = async {
            // The slot comes first: whom we cannot shake hands with now waits in the backlog.
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            () = tx.closed() => return,
            next = next => match next { Some(next) => next, None => return },
        };
        match accepted {
            Ok((io, addr)) => admit(&acceptor, io, addr, slot, &tx, &stop),
            // The peer gave up in the backlog: not our trouble, and no reason to make the next one wait.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(
    acceptor: &Arc<Acceptor>,
    io: TcpStream,
    addr: SocketAddr,
    slot: OwnedSemaphorePermit,
    tx: &mpsc::Sender<Accepted>,
    stop: &CancellationToken,
) {
    let config = &acceptor.config;
    let seat = match acceptor.registry.sit(addr.ip().to_canonical(), config.max_total, config.max_per_ip) {
        Ok(seat) => seat,
        Err(cap) => return acceptor.refuse(addr, &cap_refusal(cap)),
    };
    let (acceptor, tx, stop) = (acceptor.clone(), tx.clone(), stop.clone());
    tokio::spawn(async move {
        let handshaking = acceptor.identity.shared().metrics.connections.with_label_values(&["handshake"]);
        handshaking.inc();
        let shake = Box::pin(acceptor.handshake(io, addr, seat));
        let outcome = stop.run_until_cancelled(shake).await;
        handshaking.dec();
        drop(slot);
        match outcome {
            Some(Ok(accepted)) => {
                // Nobody takes it any more: the listener is closing.
                let _ = tx.send(accepted).await;
            }
            Some(Err(refusal)) => acceptor.refuse(addr, &refusal),
            None => {}
        }
    });
}

fn cap_refusal(cap: Cap) -> Refusal {
    let (reason, text) = match cap {
        Cap::Total => (RefuseReason::LimitTotal, "limits.connections.total is reached"),
        Cap::PerIp => (RefuseReason::LimitPerIp, "limits.connections.per_ip is reached"),
        Cap::PerIdentity => (RefuseReason::LimitPerIdentity, "limits.connections.per_identity is reached"),
    };
    Refusal::new(reason, text)
}

impl Acceptor {
    async fn handshake(&self, io: TcpStream, addr: SocketAddr, seat: Seat) -> Result<Accepted, Refusal> {
        let snapshot = self.identity.snapshot();
        if !snapshot.is_valid(self.clock.now()) {
            return Err(Refusal::new(RefuseReason::NoServerSvid, "our own X509-SVID is not valid"));
        }
        if let Err(error) = io.set_nodelay(true) {
            return Err(Refusal::new(RefuseReason::Disconnected, error.to_string()));
        }
        let config = match self.config.min_version {
            MinVersion::Tls13 => snapshot.server_config(),
            MinVersion::Tls12 => snapshot.server_config_tls12(),
        };
        let shake = tokio::time::timeout(self.config.handshake_timeout, TlsAcceptor::from(config).accept(io));
        let (result, verdict) = with_verdict(shake).await;
        let io = match result {
            Err(_) => return Err(Refusal::new(RefuseReason::Timeout, "the handshake took too long")),
            Ok(Err(error)) => return Err(handshake_refusal(&error, verdict)),
            Ok(Ok(io)) => io,
        };
        let Some(Ok(verified)) = verdict else {
            return Err(Refusal::new(RefuseReason::NoClientCertificate, "no certificate was verified"));
        };
        if io.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(self
                .close(io, Refusal::new(RefuseReason::Alpn, "the client did not offer h2"))
                .await);
        }
        self.admit_peer(io, addr, seat, verified, &snapshot).await
    }

    async fn admit_peer(
        &self,
        io: TlsStream<TcpStream>,
        addr: SocketAddr,
        seat: Seat,
        verified: VerifiedPeer,
        snapshot: &TlsSnapshot,
    ) -> Result<Accepted, Refusal> {
        let domain = verified.leaf.id.trust_domain().clone();
        if self.config.domain_allowed.as_ref().is_some_and(|allowed| !allowed(&domain)) {
            let text = format!("no rule of the policy names trust domain {domain}");
            return Err(self.close(io, Refusal::new(RefuseReason::DomainNotAllowed, text)).await);
        }
        self.note_sni(io.get_ref().1.server_name(), snapshot);
        let conn_id = NEXT_CONN_ID.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(self.peer(conn_id, &io, addr, &verified));
        let metrics = self.identity.shared().metrics.clone();
        metrics.handshakes.with_label_values(&[domain.as_str()]).inc();
        metrics.connections.with_label_values(&["open"]).inc();
        let on_close = Box::new(move |revoked_at: Option<tokio::time::Instant>| {
            metrics.connections.with_label_values(&["open"]).dec();
            if let Some(at) = revoked_at {
                let seconds = at.elapsed().as_secs_f64();
                metrics.revocation_seconds.with_label_values(&["acceptor"]).observe(seconds);
            }
        });
        let (entry, token) =
            match self.registry.enter(conn_id, verified, self.config.max_per_identity, on_close) {
                Ok(entered) => entered,
                Err(cap) => {
                    self.identity.shared().metrics.connections.with_label_values(&["open"]).dec();
                    return Err(self.close(io, cap_refusal(cap)).await);
                }
            };
        // Trust may have changed between the handshake and the registration; the sweep of that change has passed.
        let current = self.identity.snapshot();
        if current.generation() != snapshot.generation() {
            self.registry.sweep(&current, self.clock.now());
        }
        let revoked = Revoked { token: Box::pin(token.cancelled_owned()), _entry: entry, _seat: seat };
        Ok(Accepted { io, peer, revoked: Box::pin(revoked) })
    }

    fn peer(
        &self,
        conn_id: u64,
        io: &TlsStream<TcpStream>,
        addr: SocketAddr,
        verified: &VerifiedPeer,
    ) -> Peer {
        let tls = io.get_ref().1;
        Peer {
            conn_id,
            principal: Principal::Spiffe(verified.leaf.id.clone()),
            addr,
            real_addr: None,
            serial: verified.leaf.serial.clone(),
            not_before: Some(verified.leaf.not_before),
            not_after: Some(verified.leaf.not_after),
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
    async fn close(&self, mut io: TlsStream<TcpStream>, refusal: Refusal) -> Refusal {
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

    fn refuse(&self, addr: SocketAddr, refusal: &Refusal) {
        self.identity.shared().metrics.refused(refusal.reason);
        if let Some(hook) = &self.config.on_refused {
            hook(addr, refusal);
        }
        let (reason, detail) = (refusal.reason.as_str(), &refusal.detail);
        match &refusal.presented {
            Some(p) => warn!(
                %addr, reason, %detail, subject = %p.subject, issuer = %p.issuer, "TLS handshake refused"
            ),
            // Port scans and health probes of balancers end here: not worth a warning each.
            None if matches!(refusal.reason, RefuseReason::Disconnected | RefuseReason::Protocol) => {
                debug!(%addr, reason, %detail, "TLS handshake refused");
            }
            None => warn!(%addr, reason, %detail, "TLS handshake refused"),
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
