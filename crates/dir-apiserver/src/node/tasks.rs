//! Background tasks of the node: each watches one thing and reports it to the health of the process.

use super::load::Base;
use super::open::Opened;
use dir_core::store::RecordStore;
use dir_engine::{Engine, RebuildJournal, RebuildState};
use dir_identity::Identity;
use dir_runtime::Latch;
use dir_runtime::readiness::State;
use dir_runtime::tasks::OnEnd;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The registry is asked this often whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// It gets this long to answer.
const PING_LIMIT: Duration = Duration::from_secs(3);
/// Identity and index are looked at this often; both answer from memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two log lines about a rebuild that goes on.
const LOOKS_PER_LINE: u32 = 10;
/// Pause before a failed rebuild is tried again.
const REBUILD_PAUSE: Duration = Duration::from_secs(60);

/// Counts of pulls and lookups go to the index this often: what a crash loses are those of as long a time.
const USAGE_INTERVAL: Duration = Duration::from_secs(5);

/// Starts all of them.
pub(super) fn start(base: &Base, opened: &Opened, engine: &Engine) {
    let stop = base.tasks.stopping().clone();
    let (store, latch, token) = (opened.store.clone(), base.latches.registry.clone(), stop.clone());
    base.tasks.spawn("registry-ping", OnEnd::RESTART, move || {
        let (store, latch) = (store.clone(), latch.clone());
        every(PING_INTERVAL, token.clone(), move || ping(store.clone(), latch.clone()))
    });
    if let Some(held) = &opened.held {
        let (identity, latch, token) = (held.identity.clone(), base.latches.svid.clone(), stop.clone());
        base.tasks.spawn("identity-health", OnEnd::RESTART, move || {
            let (identity, latch) = (identity.clone(), latch.clone());
            every(LOOK_INTERVAL, token.clone(), move || {
                latch.set(identity_state(&identity));
                std::future::ready(())
            })
        });
    }
    let (watched, latch, token) = (engine.clone(), base.latches.index.clone(), stop.clone());
    base.tasks.spawn("index-health", OnEnd::RESTART, move || {
        let (engine, latch, mut looks) = (watched.clone(), latch.clone(), 0u32);
        every(LOOK_INTERVAL, token.clone(), move || {
            looks = looks.wrapping_add(1);
            let state = index_state(&engine);
            if let (State::Degraded(progress), 0) = (&state, looks % LOOKS_PER_LINE) {
                tracing::info!(progress, "index rebuild under way");
            }
            latch.set(state);
            std::future::ready(())
        })
    });
    let (counted, token) = (engine.clone(), stop.clone());
    base.tasks.spawn("usage", OnEnd::RESTART, move || {
        let engine = counted.clone();
        every(USAGE_INTERVAL, token.clone(), move || usage(engine.clone()))
    });
    base.latches.index.set(index_state(engine));
    super::reconcile::start(base, engine);
    if engine.needs_rebuild(opened.journal.as_ref()) {
        let (engine, journal) = (engine.clone(), opened.journal.clone());
        base.tasks.spawn("index-rebuild", OnEnd::RESTART, move || {
            rebuild(engine.clone(), journal.clone(), stop.clone())
        });
    }
}

/// Counts that are not taken are kept for the next time.
async fn usage(engine: Engine) {
    if let Err(error) = engine.flush_usage().await {
        tracing::warn!(%error, "usage counters not written; tried again");
    }
}

/// Does something now and then again after each interval, until told to stop.
async fn every<F, Fut>(interval: Duration, stop: CancellationToken, mut work: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    loop {
        work().await;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One cheap question with a limit; the answer is what probes see until the next one.
async fn ping(store: Arc<dyn RecordStore>, latch: Latch) {
    match tokio::time::timeout(PING_LIMIT, store.ping()).await {
        Ok(Ok(())) => latch.ready(),
        Ok(Err(error)) => latch.failed(format!("writes are impaired: {error}")),
        Err(_) => latch.failed(format!("writes are impaired: no answer within {PING_LIMIT:?}")),
    }
}

fn identity_state(identity: &Identity) -> State {
    let health = identity.health();
    match health.reason() {
        Some(reason) if !health.is_live() => State::Failed(reason),
        // A restart would not help: not ready, and alive.
        Some(reason) => State::Starting(reason),
        None if health.source_connected => State::Ready,
        None => {
            State::Degraded(format!("the SPIFFE agent is gone; the SVID is good for {} s", health.expires_in))
        }
    }
}

fn index_state(engine: &Engine) -> State {
    if let Some(problem) = engine.index_impairment() {
        return State::Degraded(format!("changes are not taken until a restart: {problem}"));
    }
    let status = engine.rebuild_status();
    match status.state {
        RebuildState::Ready => State::Ready,
        RebuildState::Pending => {
            State::Degraded("searches may lack records: not compared with the store yet".to_owned())
        }
        RebuildState::Rebuilding => State::Degraded(format!(
            "searches may lack records: {}; {} seen, {} added, {} skipped, {:.0} a second",
            status.detail, status.walked, status.added, status.skipped, status.records_per_second
        )),
        RebuildState::Failed => {
            State::Degraded(format!("searches may lack records: the rebuild failed: {}", status.detail))
        }
    }
}

/// Rebuilds until it is done or the node stops. Errors are logged by the engine.
async fn rebuild(engine: Engine, journal: Arc<dyn RebuildJournal>, stop: CancellationToken) {
    while engine.rebuild(journal.as_ref(), &stop).await.is_err() {
        tokio::select! {
            () = tokio::time::sleep(REBUILD_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
    // Done: nothing to supervise any more.
    stop.cancelled().await;
}
