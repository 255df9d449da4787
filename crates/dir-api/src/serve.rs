//! The serving loop: HTTP/2 on connections that somebody else has accepted.

use crate::app::App;
use crate::drive::drive;
use crate::flood::Budget;
use crate::inflow::Total;
use crate::together::Calls;
use dir_core::{Clock, Peer, Principal};
use futures::{Stream, StreamExt};
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause of the accept loop after an error such as EMFILE, which would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Connections that were being made when the drain began may still arrive for this long, to be told properly.
const LAST_ARRIVALS: Duration = Duration::from_secs(2);

/// A connection that is ready to serve.
pub struct Conn<IO> {
    /// Its bytes, after any handshake.
    pub io: IO,
    /// Who is at the other end: put into the extensions of every request.
    pub peer: Arc<Peer>,
    /// Resolves when the peer is no longer trusted. The connection is then closed within five seconds.
    pub revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Named limits of connections. `None` switches a limit off.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Calls that a peer may have open on one connection.
    pub max_concurrent_streams: u32,
    /// Streams that we reset for a fault of the peer before the connection goes (RUSTSEC-2024-0003).
    pub max_local_error_reset_streams: usize,
    /// Streams that the peer resets before we took them before the connection goes (CVE-2023-44487).
    pub max_pending_accept_reset_streams: usize,
    /// Headers of one request, in bytes.
    pub max_header_list_size: u32,
    /// Bytes that a peer may send on one stream before we have read them.
    pub stream_window: u32,
    /// Bytes that a peer may send on one connection before we have read them.
    pub connection_window: u32,
    /// Largest frame that a peer may send, in bytes.
    pub max_frame_size: u32,
    /// Bytes of answers held for one stream that does not take them.
    pub max_send_buffer: usize,
    /// Bytes of answers held for one connection; producing waits beyond.
    pub max_buffered: usize,
    /// Bytes of messages that have begun and not ended, held for one connection; two of the largest always fit.
    pub max_unfinished: usize,
    /// The same for all connections together; the last quarter is for small messages.
    pub max_unfinished_total: usize,
    /// A peer that takes nothing of what waits for it is cut off after this.
    pub stalled_timeout: Duration,
    /// A ping is sent this often.
    pub keepalive_interval: Option<Duration>,
    /// A ping that is not answered within this closes the connection.
    pub keepalive_timeout: Duration,
    /// Pings of a peer may follow each other no faster, unless answers of ours came between.
    pub ping_interval: Duration,
    /// Pings that may come faster before the connection goes.
    pub ping_strikes: u32,
    /// Pings may come at that interval also while no call is open; otherwise every two hours.
    pub ping_without_stream: bool,
    /// Settings, priorities, acknowledgements and unknown frames between two answers before the connection goes.
    pub max_control_frames: u32,
    /// Time from the handshake to the first request.
    pub first_request_timeout: Option<Duration>,
    /// Time without an open call.
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection is told to go away, ±10 %.
    pub max_age: Option<Duration>,
    /// What calls on a connection that is too old have left.
    pub age_grace: Duration,
    /// What calls have left when the process stops.
    pub drain_grace: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1000,
            max_local_error_reset_streams: 1024,
            max_pending_accept_reset_streams: 20,
            max_header_list_size: 16 * 1024,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            max_frame_size: 64 * 1024,
            max_send_buffer: 256 * 1024,
            max_buffered: 4 << 20,
            max_unfinished: 32 << 20,
            max_unfinished_total: 128 << 20,
            stalled_timeout: Duration::from_secs(30),
            keepalive_interval: Some(Duration::from_secs(240)),
            keepalive_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(60),
            ping_strikes: 2,
            ping_without_stream: true,
            max_control_frames: 1000,
            first_request_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(15 * 60)),
            max_age: Some(Duration::from_secs(30 * 60)),
            age_grace: Duration::from_secs(5 * 60),
            drain_grace: Duration::from_secs(30),
        }
    }
}

impl ServeConfig {
    pub(crate) const fn budget(&self) -> Budget {
        Budget {
            ping_interval: self.ping_interval,
            ping_strikes: self.ping_strikes,
            ping_without_stream: self.ping_without_stream,
            control_frames: self.max_control_frames,
        }
    }

    /// `calls` takes the calls of the connection.
    pub(crate) fn builder(&self, calls: Calls) -> http2::Builder<Calls> {
        let mut builder = http2::Builder::new(calls);
        builder
            // Without a timer, keepalive does nothing.
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_local_error_reset_streams(self.max_local_error_reset_streams)
            .max_pending_accept_reset_streams(self.max_pending_accept_reset_streams)
            .max_header_list_size(self.max_header_list_size)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame_size)
            .max_send_buf_size(self.max_send_buffer)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .auto_date_header(false);
        builder
    }
}

/// Why [`serve`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEnd {
    /// It was told to.
    Drained,
    /// No more connections can come: the accept loop has died.
    IncomingClosed,
}

/// Serves connections until `drain` fires or no more can come, then tells those that are open to go away, and
/// comes back when the last one is gone. Whoever drains ends `incoming` as well; what still comes out of it is told
/// like the rest. `kill` cuts what is left.
pub async fn serve<IO>(
    incoming: impl Stream<Item = Conn<IO>>,
    app: App,
    cfg: ServeConfig,
    drain: CancellationToken,
    kill: CancellationToken,
) -> ServeEnd
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut incoming = pin!(incoming);
    let message = app.0.config.max_recv_msg_size;
    let total = Total::new(cfg.max_unfinished_total.max(message.saturating_mul(2)));
    let cfg = Arc::new(cfg);
    let connections = TaskTracker::new();
    // Connections listen to children, each with a lock of its own.
    let going = drain.child_token();
    let serve_one = |conn: Conn<IO>| {
        if let Some(audit) = &app.0.config.audit {
            audit.authenticated(&conn.peer);
        }
        connections.spawn(drive(
            conn,
            app.clone(),
            (cfg.clone(), total.clone()),
            going.child_token(),
            kill.child_token(),
        ));
    };
    let end = loop {
        let conn = tokio::select! {
            biased;
            () = drain.cancelled() => break ServeEnd::Drained,
            () = kill.cancelled() => break ServeEnd::Drained,
            conn = incoming.next() => conn,
        };
        let Some(conn) = conn else { break ServeEnd::IncomingClosed };
        serve_one(conn);
    };
    going.cancel();
    if end == ServeEnd::Drained {
        let late = async {
            while let Some(conn) = incoming.next().await {
                serve_one(conn);
            }
        };
        let _ = kill.run_until_cancelled(tokio::time::timeout(LAST_ARRIVALS, late)).await;
    }
    connections.close();
    connections.wait().await;
    end
}

/// Connections of a plaintext listener. Nobody is authenticated: for loopback, or with explicit consent.
pub fn plain_incoming(
    listener: TcpListener,
    clock: Arc<dyn Clock>,
) -> impl Stream<Item = Conn<TcpStream>> + Send {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    futures::stream::unfold((listener, clock), |(listener, clock)| async move {
        loop {
            match listener.accept().await {
                Ok((io, addr)) => {
                    // Small messages must not wait for each other's acknowledgements.
                    if let Err(error) = io.set_nodelay(true) {
                        tracing::debug!(%error, %addr, "connection lost before it was served");
                        continue;
                    }
                    let peer = Arc::new(Peer {
                        conn_id: NEXT.fetch_add(1, Ordering::Relaxed),
                        principal: Principal::Anonymous,
                        addr,
                        real_addr: None,
                        serial: String::new(),
                        not_before: None,
                        not_after: None,
                        sni: None,
                        tls_version: String::new(),
                        opened_at: clock.now(),
                    });
                    let conn = Conn { io, peer, revoked: Box::pin(std::future::pending()) };
                    return Some((conn, (listener, clock)));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
