//! Accepting in plaintext: the same door with the same caps, and nobody proves who he is.

use crate::door::{Arrival, Door, Limits, Origin, READY_MAX, RefusedHook, next_conn_id};
use crate::ip_rate::IpRate;
use crate::live::{Registry, Seat};
use crate::metrics::IdentityMetrics;
use crate::proxy::{ProxyConfig, Unread};
use dir_core::bucket::Rate;
use dir_core::{Clock, Peer, Principal};
use futures::Stream;
use prometheus::IntGauge;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Limits of a plaintext listener. A cap of 0 is none.
#[derive(Clone)]
pub struct PlainConfig {
    /// Connections in all; default 10,000.
    pub max_total: usize,
    /// Connections from one address; default 256.
    pub max_per_ip: usize,
    /// New connections a second from one address; default no limit.
    pub per_ip_rate: Option<Rate>,
    /// PROXY headers.
    pub proxy: ProxyConfig,
    /// Told of every connection that is refused.
    pub on_refused: Option<RefusedHook>,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            max_total: 10_000,
            max_per_ip: 256,
            per_ip_rate: None,
            proxy: ProxyConfig::default(),
            on_refused: None,
        }
    }
}

/// Connections whose PROXY header is awaited at once.
const PENDING_MAX: usize = 512;

/// A plaintext connection.
pub struct PlainAccepted {
    /// Its bytes.
    pub io: Unread<TcpStream>,
    /// Anonymous.
    pub peer: Arc<Peer>,
    /// Never resolves: nobody's trust can be withdrawn. It holds the connection's place in every cap: keep it as long
    /// as the connection.
    pub revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Accepts until `stop` fires or the stream is dropped. Nobody is authenticated: for loopback, or with explicit consent.
pub fn plain_loop(
    listener: TcpListener,
    config: PlainConfig,
    clock: Arc<dyn Clock>,
    metrics: &prometheus::Registry,
    stop: CancellationToken,
) -> Pin<Box<dyn Stream<Item = PlainAccepted> + Send + 'static>> {
    let counters = IdentityMetrics::new();
    counters.register_acceptor(metrics);
    let (tx, rx) = mpsc::channel(READY_MAX);
    let open = counters.anonymous();
    let door = Arc::new(Door {
        limits: Limits {
            pending: PENDING_MAX,
            total: config.max_total,
            per_ip: config.max_per_ip,
            ip_rate: IpRate::new(config.per_ip_rate),
            proxy: config.proxy,
        },
        registry: Registry::new(CancellationToken::new()),
        metrics: counters,
        on_refused: config.on_refused,
    });
    let greet = move |Arrival { io, origin, seat }: Arrival| {
        let peer = Arc::new(anonymous(origin, clock.as_ref()));
        open.inc();
        let revoked = Box::pin(Never { open: open.clone(), _seat: seat });
        std::future::ready(Ok(PlainAccepted { io, peer, revoked }))
    };
    tokio::spawn(door.open(listener, tx, stop, greet));
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(rx))
}

fn anonymous(origin: Origin, clock: &dyn Clock) -> Peer {
    Peer {
        conn_id: next_conn_id(),
        principal: Principal::Anonymous,
        addr: origin.addr,
        real_addr: origin.real_addr,
        serial: String::new(),
        not_before: None,
        not_after: None,
        sni: None,
        tls_version: String::new(),
        opened_at: clock.now(),
    }
}

struct Never {
    open: IntGauge,
    _seat: Seat,
}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Never {
    fn drop(&mut self) {
        self.open.dec();
    }
}
