//! The end, in order: jobs, index, store, ops listener. Calls have ended before.

use super::CLOSE_LIMIT;
use super::load::Base;
use super::wire::Wired;
use dir_api::SecurityEvent;
use dir_runtime::Drain;
use std::time::Duration;

/// Longest step.
const STEP_LIMIT: Duration = Duration::from_secs(8);

/// Ends everything that is not a connection. Errors are logged: there is nobody left to answer.
pub(super) async fn close(base: Base, wired: Wired) {
    let Wired { opened, engine, app, audit } = wired;
    let mut drain = Drain::within(CLOSE_LIMIT);
    drain.step("jobs", STEP_LIMIT, base.tasks.stop()).await;
    drain.step("commits", STEP_LIMIT, engine.settle()).await;
    if let Some(Err(error)) = drain.step("usage", STEP_LIMIT, engine.flush_usage()).await {
        tracing::warn!(%error, "the last usage counters are lost");
    }
    drop((app, engine));
    if let Some(Err(error)) = drain.step("index", STEP_LIMIT, opened.index.close()).await {
        tracing::error!(%error, "index not closed cleanly; it is checked at the next start");
    }
    if let Some(Err(error)) = drain.step("store", STEP_LIMIT, opened.store.close()).await {
        tracing::error!(%error, "store not closed cleanly; it is checked at the next start");
    }
    drop(opened.federation);
    if let Some(audit) = audit {
        audit.event(SecurityEvent::Stopped);
        let closed = tokio::task::spawn_blocking(move || audit.close());
        if !matches!(drain.step("audit", STEP_LIMIT, closed).await, Some(Ok(true))) {
            tracing::error!("the audit log was not written to its end");
        }
    }
    // Only now: until here peers could still prove who they are.
    if let Some(held) = opened.held {
        drain.step("identity", STEP_LIMIT, async { drop(held.identity) }).await;
        if let Some(dev) = held.dev {
            drain.step("dev-identity", STEP_LIMIT, dev.stop()).await;
        }
    }
    base.ops.stop.cancel();
    drain.step("ops", STEP_LIMIT, base.ops.task).await;
    tracing::info!(given_up = ?drain.given_up(), "stopped");
}
