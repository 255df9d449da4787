//! The comparison of index and store, at the start and then now and again.

use super::load::Base;
use crate::config::keys::Reconciler;
use dir_engine::{Engine, ReconcileOptions};
use dir_runtime::Latch;
use dir_runtime::readiness::State;
use dir_runtime::tasks::OnEnd;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A comparison that failed is tried again after this long, and then after twice as long, up to the interval.
const RETRY: Duration = Duration::from_secs(30);
/// As long as the index is being rebuilt there is nothing to compare; it is looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the task when it is on.
pub(super) fn start(base: &Base, engine: &Engine) {
    let Reconciler { indexer } = &base.config.reconciler;
    let latch = base.latches.reconciler.clone();
    if !indexer.enabled {
        latch.ready();
        return;
    }
    let percent = u8::try_from(indexer.max_removal_percent.min(100)).unwrap_or(100);
    let options = ReconcileOptions { max_removal_percent: percent, ..ReconcileOptions::default() };
    let (interval, engine, stop) = (indexer.interval, engine.clone(), base.tasks.stopping().clone());
    latch.ready();
    base.tasks.spawn("index-reconcile", OnEnd::RESTART, move || {
        run(engine.clone(), options, interval, latch.clone(), stop.clone())
    });
}

async fn run(
    engine: Engine,
    options: ReconcileOptions,
    interval: Duration,
    latch: Latch,
    stop: CancellationToken,
) {
    let mut retry = RETRY.min(interval);
    while !stop.is_cancelled() {
        let pause = if !engine.is_index_complete() {
            LOOK_INTERVAL
        } else if engine.reconcile(options, &stop).await.is_ok() {
            retry = RETRY.min(interval);
            interval
        } else {
            let pause = retry;
            retry = (retry * 2).min(interval);
            pause
        };
        let mut due = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            latch.set(match engine.reconcile_status().problem {
                problem if problem.is_empty() => State::Ready,
                problem => State::Degraded(problem),
            });
            tokio::select! {
                () = &mut due => break,
                // An operator's audit or repair compares as well.
                () = engine.compared() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
