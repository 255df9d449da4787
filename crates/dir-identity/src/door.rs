//! The door of a listener: TCP accepted, caps, the PROXY header, one task per connection. What happens behind it, a
//! TLS handshake or nothing, is the caller's.

use crate::ip_rate::IpRate;
use crate::live::{Cap, Registry, Seat};
use crate::metrics::IdentityMetrics;
use crate::proxy::{ProxyConfig, Unread};
use crate::refuse::{Refusal, RefuseReason};
use futures::FutureExt;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Pause after a failed accept: with no file descriptors left, trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that are ready and not taken yet.
pub(crate) const READY_MAX: usize = 64;

static NEXT_CONN_ID: AtomicU64 = AtomicU64::new(1);

/// A number for a connection, unique in this process.
pub(crate) fn next_conn_id() -> u64 {
    NEXT_CONN_ID.fetch_add(1, Ordering::Relaxed)
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Address of the TCP peer.
    pub addr: SocketAddr,
    /// The client's address, where a trusted proxy has told it.
    pub real_addr: Option<SocketAddr>,
}

impl Origin {
    /// The address of the client, as far as it is known.
    pub fn ip(&self) -> IpAddr {
        self.real_addr.unwrap_or(self.addr).ip().to_canonical()
    }
}

/// Is told of a refused connection: where it came from, and why. Must not block.
pub type RefusedHook = Arc<dyn Fn(&Origin, &Refusal) + Send + Sync>;

/// A TCP connection with its place among the others.
pub(crate) struct Arrival {
    pub(crate) io: Unread<TcpStream>,
    pub(crate) origin: Origin,
    pub(crate) seat: Seat,
}

/// Limits of a door. A cap of 0 is none.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Connections that are being looked at: PROXY header and handshake.
    pub(crate) pending: usize,
    pub(crate) total: usize,
    pub(crate) per_ip: usize,
    pub(crate) ip_rate: Option<IpRate>,
    pub(crate) proxy: ProxyConfig,
}

/// What the tasks of one listener share.
pub(crate) struct Door {
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: IdentityMetrics,
    pub(crate) on_refused: Option<RefusedHook>,
}

impl Door {
    /// Accepts until `stop` fires or nobody takes any more. Whoever has connected by then still goes to `tx`, which is
    /// let go when the last one has. `greet` makes of an arrival what goes to `tx`.
    pub(crate) async fn open<T, G>(
        self: Arc<Self>,
        listener: TcpListener,
        tx: mpsc::Sender<T>,
        stop: CancellationToken,
        greet: impl Fn(Arrival) -> G + Clone + Send + Sync + 'static,
    ) where
        T: Send + 'static,
        G: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.limits.pending.clamp(1, Semaphore::MAX_PERMITS)));
        loop {
            let next = async {
                // The slot comes first: whom we cannot look at now waits in the backlog.
                let slot = slots.clone().acquire_owned().await.ok()?;
                Some((slot, listener.accept().await))
            };
            let (slot, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => return self.take_what_waits(&listener, &slots, &tx, &greet),
                () = tx.closed() => return,
                next = next => match next { Some(next) => next, None => return },
            };
            match accepted {
                Ok((io, addr)) => self.admit((io, addr), slot, &tx, greet.clone()),
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

    /// Takes who has connected already: closing the listener would reset them, and they have done nothing wrong. They
    /// are told to go away like everybody else.
    fn take_what_waits<T, G>(
        self: &Arc<Self>,
        listener: &TcpListener,
        slots: &Arc<Semaphore>,
        tx: &mpsc::Sender<T>,
        greet: &(impl Fn(Arrival) -> G + Clone + Send + Sync + 'static),
    ) where
        T: Send + 'static,
        G: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        while let Ok(slot) = slots.clone().try_acquire_owned()
            && let Some(Ok(arrived)) = listener.accept().now_or_never()
        {
            self.admit(arrived, slot, tx, greet.clone());
        }
    }

    fn admit<T, G>(
        self: &Arc<Self>,
        (io, addr): (TcpStream, SocketAddr),
        slot: OwnedSemaphorePermit,
        tx: &mpsc::Sender<T>,
        greet: impl Fn(Arrival) -> G + Send + Sync + 'static,
    ) where
        T: Send + 'static,
        G: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let mut origin = Origin { addr, real_addr: None };
        let proxied = self.limits.proxy.trusts(origin.ip());
        // Who stands behind a proxy is known later, if at all.
        let ip = (!proxied).then(|| origin.ip());
        if let Err(refusal) = self.often(ip) {
            return self.refuse(&origin, &refusal);
        }
        let seat = match self.registry.sit(ip, self.limits.total, self.limits.per_ip) {
            Ok(seat) => seat,
            Err(cap) => return self.refuse(&origin, &cap_refusal(cap)),
        };
        let (door, tx) = (self.clone(), tx.clone());
        tokio::spawn(async move {
            let pending = door.metrics.shaking.with_label_values(&["acceptor"]);
            pending.inc();
            let greeted = async {
                let (io, seat) = door.identify(io, seat, proxied, &mut origin).await?;
                // Boxed: a handshake is large, and reading a header in front of it should not make it larger.
                Box::pin(greet(Arrival { io, origin, seat })).await
            };
            // Whoever reads the other end stops it by letting go of that end.
            let outcome = tokio::select! {
                outcome = greeted => Some(outcome),
                () = tx.closed() => None,
            };
            pending.dec();
            drop(slot);
            match outcome {
                Some(Ok(ready)) => drop(tx.send(ready).await),
                Some(Err(refusal)) => door.refuse(&origin, &refusal),
                None => {}
            }
        });
    }

    /// Whether an address comes too often; where it is not known, nobody can tell.
    fn often(&self, ip: Option<IpAddr>) -> Result<(), Refusal> {
        match (&self.limits.ip_rate, ip) {
            (Some(rate), Some(ip)) => rate.take(ip),
            _ => Ok(()),
        }
    }

    /// Finds out who is behind the proxy, and gives him a place among the connections of his address.
    async fn identify(
        &self,
        io: TcpStream,
        mut seat: Seat,
        proxied: bool,
        origin: &mut Origin,
    ) -> Result<(Unread<TcpStream>, Seat), Refusal> {
        if let Err(error) = io.set_nodelay(true) {
            return Err(Refusal::new(RefuseReason::Disconnected, error.to_string()));
        }
        let (io, real_addr) = self.limits.proxy.read(io, proxied).await?;
        origin.real_addr = real_addr;
        if real_addr.is_some() {
            self.often(Some(origin.ip()))?;
            seat.belongs_to(origin.ip(), self.limits.per_ip).map_err(cap_refusal)?;
        }
        Ok((io, seat))
    }

    pub(crate) fn refuse(&self, origin: &Origin, refusal: &Refusal) {
        self.metrics.refused(refusal.reason);
        if let Some(hook) = &self.on_refused {
            hook(origin, refusal);
        }
        let (addr, real_addr) = (origin.addr, origin.real_addr.map(tracing::field::display));
        let (reason, detail) = (refusal.reason.as_str(), &refusal.detail);
        match &refusal.presented {
            Some(p) => warn!(
                %addr, real_addr, reason, %detail, subject = %p.subject, issuer = %p.issuer, "connection refused"
            ),
            // Port scans, health probes of balancers and floods end here: not worth a warning each.
            None if matches!(
                refusal.reason,
                RefuseReason::Disconnected | RefuseReason::Protocol | RefuseReason::RatePerIp
            ) =>
            {
                debug!(%addr, real_addr, reason, %detail, "connection refused");
            }
            None => warn!(%addr, real_addr, reason, %detail, "connection refused"),
        }
    }
}

pub(crate) fn cap_refusal(cap: Cap) -> Refusal {
    let (reason, text) = match cap {
        Cap::Total => (RefuseReason::LimitTotal, "limits.connections.total is reached"),
        Cap::PerIp => (RefuseReason::LimitPerIp, "limits.connections.per_ip is reached"),
        Cap::PerIdentity => (RefuseReason::LimitPerIdentity, "limits.connections.per_identity is reached"),
    };
    Refusal::new(reason, text)
}
