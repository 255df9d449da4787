//! The node: five functions, each short, that turn a configuration into a running server and back into nothing.
//!
//! `load` starts what must be there before anything else (logs, signals, the ops listener), `open` opens identity,
//! store and index, `wire` makes the engine and the background tasks, `serve` binds the gRPC port and runs until
//! it is told to stop, `drain` ends everything in order.

mod audit;
mod audit_file;
mod drain;
mod federation;
mod gauges;
mod health;
mod identity;
mod info;
mod inspected;
mod limits;
mod listen;
mod load;
mod open;
mod pin;
mod policy;
mod reconcile;
mod registry;
mod serve;
mod tasks;
mod wire;

use crate::config::Loaded;
use crate::exit::{Failure, Status};
use std::time::Duration;

/// Time after the grace for jobs, index and store to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Runs a node until it is stopped. Answers the exit code of an orderly end.
pub(crate) fn run(loaded: &Loaded) -> anyhow::Result<Status> {
    let metrics = prometheus::Registry::new();
    let log = load::logs(&metrics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(life(loaded, metrics, &log));
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "the server cannot go on");
    }
    // A blocking call that hangs in a backend must not hold up the end of the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    log.close();
    outcome
}

async fn life(
    loaded: &Loaded,
    metrics: prometheus::Registry,
    log: &dir_runtime::telemetry::Writer,
) -> anyhow::Result<Status> {
    let base = load::load(loaded, metrics, log)?;
    gauges::register(&base)?;
    let stop = base.signals.stop().clone();
    let opened = tokio::select! {
        opened = open::open(&base) => opened?,
        () = stop.cancelled() => {
            tracing::info!("stopped before serving");
            return Ok(Status::Ok);
        }
    };
    let wired = wire::wire(&base, opened)?;
    let outcome = serve::serve(&base, &wired).await;
    drain::close(base, wired).await;
    match outcome? {
        serve::End::Asked => Ok(Status::Ok),
        serve::End::Failed(cause) => Err(Failure::new(Status::Generic, cause).into()),
    }
}
