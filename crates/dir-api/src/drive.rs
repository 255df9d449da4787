//! One connection from its handshake to its end: HTTP/2 with its calls, and everything that ends it from outside.

use crate::app::App;
use crate::authz::Authorization;
use crate::body::ResponseBody;
use crate::conn::{Shared, Why};
use crate::cork::Cork;
use crate::guarded::Guarded;
use crate::inflow::{Inflow, Total};
use crate::layers;
use crate::life::{Life, Step, Validity};
use crate::meter::Meter;
use crate::outflow::{Outflow, Stall};
use crate::serve::{Conn, ServeConfig};
use crate::together::{Calls, Together};
use dir_core::{Clock, Peer};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http2::Connection;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Serves one connection to its end.
pub(crate) async fn drive<IO>(
    conn: Conn<IO>,
    app: App,
    (cfg, total): (Arc<ServeConfig>, Arc<Total>),
    drain: CancellationToken,
    kill: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Conn { io, peer, revoked } = conn;
    let outflow = Outflow::new(cfg.max_buffered);
    // One message always fits.
    let unfinished = cfg.max_unfinished.max(app.0.config.max_recv_msg_size.saturating_mul(2));
    let inflow = Inflow::new(unfinished, total, cfg.stalled_timeout);
    let shared = Arc::new(Shared::new(app.clone(), peer, drain.clone(), outflow, inflow));
    let flooded = Arc::<AtomicBool>::default();
    let http = http(io, &cfg, &shared, &flooded);
    let ends = Ends { drain, kill, revoked, rules: Rules::of(&app) };
    run(http, &cfg, &shared, ends).await;
    say_flooded(&flooded, &shared);
}

/// HTTP/2 that can be told of the end.
trait Http: Future<Output = hyper::Result<()>> {
    /// Tells the peer to go away.
    fn go_away(self: Pin<&mut Self>);
}

impl<I, S> Http for Connection<I, S, Calls>
where
    I: Read + Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>,
    S::Future: Send + 'static,
{
    fn go_away(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn http<IO>(io: IO, cfg: &ServeConfig, shared: &Arc<Shared>, flooded: &Arc<AtomicBool>) -> Together<impl Http>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (calls, cork) = (Calls::default(), Arc::<Cork>::default());
    let io = Guarded::new(io, cfg.budget(), flooded.clone(), shared.clone(), cork.clone());
    let service = {
        let (shared, calls) = (shared.clone(), calls.clone());
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let methods = &shared.app().methods;
            let method = methods.find(request.uri().path());
            if !methods.get(method).route.is_brief() {
                calls.next_apart();
            }
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(layers::serve(shared, method, request).await) }
        })
    };
    let http = cfg.builder(calls.clone()).serve_connection(TokioIo::new(io), service);
    let meter = Meter::new(shared.outflow.clone(), shared.app().engine.events().pace().clone());
    Together::new(http, calls, cork, meter)
}

/// What ends a connection from outside.
struct Ends {
    drain: CancellationToken,
    kill: CancellationToken,
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    rules: Rules,
}

async fn run(mut http: Together<impl Http>, cfg: &ServeConfig, shared: &Shared, ends: Ends) {
    let Ends { drain, kill, mut revoked, mut rules } = ends;
    let metrics = &shared.app().metrics;
    let mut state = Counted::new(&metrics.open);
    let mut times = Times::of(shared, cfg);
    let mut alarm = pin!(tokio::time::sleep_until(times.wake(shared)));
    let mut stopping = pin!(stopping(&drain, shared));
    let (mut told, mut distrusted) = (false, false);
    loop {
        let step = tokio::select! {
            biased;
            outcome = &mut http => return say_ended(outcome, shared),
            () = kill.cancelled() => Step::Cut,
            () = stopping.as_mut(), if !told => {
                told = true;
                times.life.go(Instant::now(), cfg.drain_grace, "shutdown")
            }
            () = revoked.as_mut(), if !distrusted => {
                distrusted = true;
                metrics.drained("revoked");
                times.life.end(Instant::now(), Why::Untrusted)
            }
            () = rules.changed() => {
                shared.look_again();
                Step::Wait
            }
            () = alarm.as_mut() => times.tick(shared),
        };
        match step {
            Step::Wait => {}
            Step::GoAway(reason) => {
                metrics.drained(reason);
                state.becomes(&metrics.draining);
                http.http().go_away();
            }
            Step::End(why) => {
                shared.end(why);
                http.http().go_away();
            }
            Step::Cut => {
                // Calls that this ends have not been hung up by the caller.
                shared.end(Why::Draining);
                return;
            }
        }
        alarm.as_mut().reset(times.wake(shared));
    }
}

/// A connection among those of its state.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }

    fn becomes(&mut self, gauge: &'a IntGauge) {
        *self = Self::new(gauge);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What the time may say of a connection.
struct Times {
    life: Life,
    stall: Stall,
}

impl Times {
    fn of(shared: &Shared, cfg: &ServeConfig) -> Self {
        let (app, peer, opened) = (shared.app(), &shared.peer, shared.opened());
        let validity = validity(peer, app.clock.as_ref());
        let life = Life::new(opened, cfg, validity, draw(&app.instance, peer.conn_id));
        Self { life, stall: Stall::new(cfg.stalled_timeout, opened) }
    }

    fn tick(&mut self, shared: &Shared) -> Step {
        let now = Instant::now();
        if self.stall.tick(now, &shared.outflow) {
            say_stalled(shared);
            return Step::Cut;
        }
        self.life.tick(now, shared.usage())
    }

    /// When to look at a connection again.
    fn wake(&self, shared: &Shared) -> Instant {
        let stall = self.stall.wake();
        self.life.wake(Instant::now(), shared.usage()).map_or(stall, |at| at.min(stall))
    }
}

/// What open calls were judged by: the policy, and the keys of tokens.
struct Rules {
    authorization: Option<Authorization>,
    policy: CancellationToken,
    keys: Option<watch::Receiver<u64>>,
}

impl Rules {
    fn of(app: &App) -> Self {
        let authorization = app.0.authorization.clone();
        let policy = authorization.as_ref().map(Authorization::replaced).unwrap_or_default();
        Self { authorization, policy, keys: app.0.gate.as_ref().map(|gate| gate.tokens.changed.clone()) }
    }

    /// Resolves when there are others, after which it listens to the next ones: none that come meanwhile are missed.
    async fn changed(&mut self) {
        let keys = async {
            match &mut self.keys {
                Some(keys) => keys.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.policy.cancelled() => {
                self.policy = self.authorization.as_ref().map(Authorization::replaced).unwrap_or_default();
            }
            open = keys => {
                if !open {
                    self.keys = None;
                }
            }
        }
    }
}

/// Waits until a drain has come to a connection.
async fn stopping(drain: &CancellationToken, shared: &Shared) {
    drain.cancelled().await;
    shared.settled().await;
}

/// Counts and logs a peer that was cut off for its frames.
fn say_flooded(flooded: &AtomicBool, shared: &Shared) {
    if flooded.load(Ordering::Relaxed) {
        let peer = &shared.peer;
        shared.app().metrics.drained("flood");
        tracing::warn!(conn_id = peer.conn_id, peer = %peer.addr, "too many pings or control frames");
    }
}

/// Counts and logs a peer that was cut off because it takes nothing.
fn say_stalled(shared: &Shared) {
    let peer = &shared.peer;
    shared.app().metrics.drained("stalled");
    tracing::warn!(conn_id = peer.conn_id, peer = %peer.addr, "the peer takes nothing of what waits for it");
}

fn say_ended(outcome: hyper::Result<()>, shared: &Shared) {
    if let Err(error) = outcome {
        let (conn_id, error) = (shared.peer.conn_id, &error as &dyn std::error::Error);
        tracing::debug!(conn_id, error, "connection ended");
    }
}

/// A number below 1 that differs between connections and processes.
fn draw(instance: &str, conn_id: u64) -> f64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (instance, conn_id).hash(&mut hasher);
    f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

fn validity(peer: &Peer, clock: &dyn Clock) -> Option<Validity> {
    let end = peer.not_after?;
    let span = |from: dir_core::Timestamp| {
        Duration::from_millis(u64::try_from(end.0.saturating_sub(from.0)).unwrap_or_default())
    };
    let left = span(clock.now());
    Some(Validity { life: peer.not_before.map_or(left, span), left })
}
