//! The gRPC port: bound when an identity is held, served until somebody says stop, then drained in order.

use super::load::Base;
use super::wire::Wired;
use super::{audit, identity, listen};
use dir_api::{Conn, ServeConfig, ServeEnd};
use dir_runtime::Drain;
use futures::StreamExt;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Beyond the grace: calls have been ended, connections get this long to deliver it before they are cut.
const LINGER: Duration = Duration::from_secs(3);

/// How serving ended.
pub(super) enum End {
    /// Somebody asked for it.
    Asked,
    /// Something that the node cannot do without has ended.
    Failed(String),
}

/// Tokens that end the serving step by step.
#[derive(Default)]
struct Stops {
    /// No more connections.
    accept: CancellationToken,
    /// GOAWAY to the open ones; their calls have the grace left.
    drain: CancellationToken,
    /// What is left is cut.
    kill: CancellationToken,
}

/// Binds the port, serves, and drains. The port is closed when this returns.
pub(super) async fn serve(base: &Base, wired: &Wired) -> anyhow::Result<End> {
    let listener = listen::bind("listen_address", &base.config.listen_address)?;
    let address = listener.local_addr()?;
    let stops = Stops::default();
    let mut serving = start(base, wired, listener, &stops);
    base.latches.grpc.ready();
    let (tls, records) = (wired.opened.held.is_some(), wired.opened.index.len());
    tracing::info!(%address, tls, records, "serving");
    let end = tokio::select! {
        () = base.signals.stop().cancelled() => End::Asked,
        cause = base.tasks.failed() => End::Failed(cause),
        ended = &mut serving => {
            base.health.set_draining();
            return Ok(End::Failed(format!("the accept loop has ended: {}", describe(ended))));
        }
    };
    quiet(base, &stops, serving).await;
    Ok(end)
}

fn describe(ended: Result<ServeEnd, JoinError>) -> String {
    match ended {
        Ok(end) => format!("{end:?}"),
        Err(error) => error.to_string(),
    }
}

/// Not ready, wait for load balancers, no more connections, GOAWAY, grace, cut.
async fn quiet(base: &Base, stops: &Stops, mut serving: JoinHandle<ServeEnd>) {
    let shutdown = &base.config.shutdown;
    let mut drain = Drain::within(shutdown.lb_wait + shutdown.grace + LINGER + LINGER);
    base.health.set_draining();
    drain.step("load-balancer-wait", shutdown.lb_wait + LINGER, tokio::time::sleep(shutdown.lb_wait)).await;
    stops.accept.cancel();
    stops.drain.cancel();
    if drain.step("connections", shutdown.grace + LINGER, &mut serving).await.is_none() {
        stops.kill.cancel();
        drain.step("connections-cut", LINGER, serving).await;
    }
}

fn start(base: &Base, wired: &Wired, listener: TcpListener, stops: &Stops) -> JoinHandle<ServeEnd> {
    let (app, limits) = (wired.app.clone(), limits(base));
    let (drain, kill) = (stops.drain.clone(), stops.kill.clone());
    match &wired.opened.held {
        None => {
            let mut plain = identity::plain(&base.config);
            plain.on_refused = audit::hook(base, wired.audit.as_ref());
            let (clock, stop) = (base.clock.clone(), stops.accept.clone());
            let accepted = dir_identity::plain_loop(listener, plain, clock, &base.metrics, stop);
            let incoming = accepted.map(|a| Conn { io: a.io, peer: a.peer, revoked: a.revoked });
            tokio::spawn(dir_api::serve(incoming, app, limits, drain, kill))
        }
        Some(held) => {
            let mut acceptor = identity::acceptor(&base.config, base.is_set("connection.connection_timeout"));
            acceptor.on_refused = audit::hook(base, wired.audit.as_ref());
            let accepted = dir_identity::accept_loop(
                listener,
                held.identity.clone(),
                acceptor,
                base.clock.clone(),
                &base.metrics,
                stops.accept.clone(),
            );
            let incoming = accepted.map(|a| Conn { io: a.io, peer: a.peer, revoked: a.revoked });
            tokio::spawn(dir_api::serve(incoming, app, limits, drain, kill))
        }
    }
}

/// The configuration in the words of the serving loop. A zero switches a limit off.
fn limits(base: &Base) -> ServeConfig {
    let (c, keepalive) = (&base.config.connection, &base.config.connection.keepalive);
    let unless_zero = |value: Duration| Some(value).filter(|v| !v.is_zero());
    ServeConfig {
        max_concurrent_streams: c.max_concurrent_streams,
        keepalive_interval: unless_zero(keepalive.time),
        keepalive_timeout: keepalive.timeout,
        first_request_timeout: unless_zero(base.config.limits.first_request_timeout),
        idle_timeout: unless_zero(keepalive.max_connection_idle),
        stalled_timeout: base.config.limits.stalled_timeout,
        max_buffered: base.config.limits.buffered_bytes_per_connection,
        max_unfinished: base.config.limits.unfinished_bytes_per_connection,
        max_unfinished_total: base.config.limits.unfinished_bytes,
        ping_interval: keepalive.min_time,
        ping_without_stream: keepalive.permit_without_stream,
        max_age: unless_zero(keepalive.max_connection_age),
        age_grace: keepalive.max_connection_age_grace,
        drain_grace: base.config.shutdown.grace,
        ..ServeConfig::default()
    }
}
