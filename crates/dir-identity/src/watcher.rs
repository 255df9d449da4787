//! The one writer: waits for the first state, then follows every change.

use crate::apply::{apply, apply_extra, failed};
use crate::bundle::Trust;
use crate::config::{Role, WorkloadConfig};
use crate::error::{IdentityError, WaitReason};
use crate::feed::{self, X509Feed};
use crate::identity::Shared;
use crate::metrics::IdentityMetrics;
use crate::proto::X509SvidResponse;
use crate::snapshot::{OwnSvid, TlsSnapshot};
use crate::update::{self, Choice, covers};
use arc_swap::ArcSwap;
use dir_core::Clock;
use parking_lot::Mutex;
use spiffe::transport::Endpoint;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

type FeedEvent = feed::FeedEvent<X509SvidResponse>;

/// How often the wait is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How often an SVID that is not valid yet is looked at again.
const RECHECK_EVERY: Duration = Duration::from_secs(1);
/// Pause before a watcher that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A watcher that ran that long was started with success.
const SETTLED: Duration = Duration::from_secs(60);
/// After so many watchers in a row that ended before that, the process is not live any more.
const RESTARTS_MAX: u32 = 3;

/// What the start hands to the steady state.
pub(crate) struct Boot {
    pub(crate) shared: Arc<Shared>,
    endpoint: Endpoint,
    events: mpsc::Receiver<FeedEvent>,
}

/// Waits for the first material that holds.
pub(crate) async fn boot(
    endpoint: Endpoint,
    config: WorkloadConfig,
    clock: Arc<dyn Clock>,
    metrics: IdentityMetrics,
    stop: CancellationToken,
) -> Result<Boot, IdentityError> {
    let mut events = feed::spawn::<X509Feed>(endpoint.clone(), config.startup_wait.clone(), stop);
    let started = Instant::now();
    let total = config.startup_wait.total;
    let mut report = interval_at(started + REPORT_EVERY, REPORT_EVERY);
    let mut recheck = interval_at(started + RECHECK_EVERY, RECHECK_EVERY);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut reason, mut attempts, mut pending) = (WaitReason::Starting, 0_u64, None);
    loop {
        let expired = async {
            if total.is_zero() {
                std::future::pending::<()>().await;
            } else {
                tokio::time::sleep_until(started + total).await;
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                Some(FeedEvent::Opened) => {
                    attempts += 1;
                    reason = WaitReason::Silent;
                }
                Some(FeedEvent::Message(message)) => pending = Some(message),
                Some(FeedEvent::Failed { reason: why, fatal }) => {
                    attempts += u64::from(!matches!(reason, WaitReason::Silent));
                    pending = None;
                    reason = why;
                    if fatal {
                        return Err(give_up(&config, reason, attempts));
                    }
                    continue;
                }
                None => return Err(give_up(&config, reason, attempts)),
            },
            _ = report.tick() => {
                warn_waiting(&config, started.elapsed(), &reason);
                continue;
            }
            _ = recheck.tick(), if pending.is_some() => {}
            () = expired => return Err(give_up(&config, reason, attempts)),
        }
        let Some(message) = &pending else { continue };
        match first_snapshot(message, &config, &clock, attempts)? {
            Ok((snapshot, trust)) => {
                let shared = Arc::new(share(snapshot, trust, config, clock, metrics));
                return Ok(Boot { shared, endpoint, events });
            }
            Err(why) => {
                if !matches!(why, WaitReason::NotYetValid(_)) {
                    pending = None;
                }
                reason = why;
            }
        }
    }
}

fn warn_waiting(config: &WorkloadConfig, elapsed: Duration, reason: &WaitReason) {
    let elapsed = elapsed.as_secs();
    if config.role == Role::Client {
        warn!(socket = config.socket, elapsed_s = elapsed, %reason, "still waiting for an X509-SVID");
    } else if *reason == WaitReason::NoUriSan {
        warn!(socket = config.socket, elapsed_s = elapsed, %reason, "SVID obtained but lacks URI SAN, retrying");
    } else {
        warn!(socket = config.socket, elapsed_s = elapsed, %reason, "Failed to get X509-SVID");
    }
}

fn give_up(config: &WorkloadConfig, reason: WaitReason, attempts: u64) -> IdentityError {
    match config.role {
        Role::Server => error!(
            socket = config.socket, error = %reason, max_retries = attempts,
            "Failed to get valid X509-SVID for server after retries"
        ),
        // The caller tells it in its own words.
        Role::Client => debug!(socket = config.socket, error = %reason, attempts, "no X509-SVID in time"),
    }
    IdentityError::NoSvid { reason, attempts }
}

fn first_snapshot(
    message: &X509SvidResponse,
    config: &WorkloadConfig,
    clock: &Arc<dyn Clock>,
    attempts: u64,
) -> Result<Result<(TlsSnapshot, Trust), WaitReason>, IdentityError> {
    let evaluated = update::evaluate(message, None, config, clock.now());
    for fault in &evaluated.faults {
        warn!(%fault, "part of the identity update is unusable");
    }
    let (svid, choice) = match evaluated.svid {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    log_obtained(&svid, choice, evaluated.candidates, config, attempts.max(1));
    let trust = Trust::new(evaluated.bundles.clone());
    let snapshot = TlsSnapshot::build(1, svid, evaluated.bundles, &trust, clock)?;
    Ok(Ok((snapshot, trust)))
}

pub(crate) fn log_obtained(
    svid: &OwnSvid,
    choice: Choice,
    candidates: usize,
    config: &WorkloadConfig,
    attempt: u64,
) {
    let leaf = &svid.leaf;
    info!(
        spiffe_id = %leaf.id, attempt, serial = leaf.serial, not_after = %leaf.not_after,
        dns_names = leaf.dns_names.join(","),
        "Successfully obtained valid X509-SVID with SPIFFE ID"
    );
    if candidates > 1 {
        info!(spiffe_id = %leaf.id, candidates, why = choice.as_str(), "chose one of several X509-SVIDs");
    }
    for host in config.public_hostnames.iter().filter(|h| !covers(&leaf.dns_names, h)) {
        warn!(
            host, spiffe_id = %leaf.id,
            "the X509-SVID lacks a public hostname: clients that check DNS names will refuse us; add it to the registration entry"
        );
    }
}

fn share(
    snapshot: TlsSnapshot,
    trust: Trust,
    config: WorkloadConfig,
    clock: Arc<dyn Clock>,
    metrics: IdentityMetrics,
) -> Shared {
    let now = clock.now();
    let received =
        snapshot.bundles().iter().map(|b| (b.trust_domain().clone(), now)).collect::<BTreeMap<_, _>>();
    let (changes, _) = watch::channel(snapshot.generation());
    let ((extra_changes, _), (extra_applied, _)) = (watch::channel(0), watch::channel(0));
    Shared {
        current: ArcSwap::from_pointee(snapshot),
        trust,
        changes,
        clock,
        config,
        metrics,
        connected: AtomicBool::new(true),
        denials: AtomicU32::new(0),
        watcher_alive: AtomicBool::new(true),
        received: Mutex::new(received),
        extra: Mutex::default(),
        extra_changes,
        extra_applied,
    }
}

/// Keeps the watcher running: a state that nobody updates would freeze on old trust roots.
pub(crate) async fn supervise(boot: Boot, stop: CancellationToken) {
    let Boot { shared, endpoint, events } = boot;
    let backoff = shared.config.startup_wait.clone();
    let anew =
        |stop: &CancellationToken| feed::spawn::<X509Feed>(endpoint.clone(), backoff.clone(), stop.clone());
    supervise_with(shared, events, anew, stop).await;
}

/// See [`supervise`]; `anew` opens the stream of events for a watcher that follows one that ended.
async fn supervise_with(
    shared: Arc<Shared>,
    events: mpsc::Receiver<FeedEvent>,
    anew: impl Fn(&CancellationToken) -> mpsc::Receiver<FeedEvent>,
    stop: CancellationToken,
) {
    let mut events = Some(events);
    let mut failures = 0;
    loop {
        let rx = events.take().unwrap_or_else(|| anew(&stop));
        let begun = Instant::now();
        let ended = tokio::spawn(follow(shared.clone(), rx, stop.clone())).await;
        if stop.is_cancelled() {
            return;
        }
        failures = if begun.elapsed() < SETTLED { failures + 1 } else { 1 };
        shared.watcher_alive.store(failures < RESTARTS_MAX, Ordering::Relaxed);
        let error = ended.err().map(|e| e.to_string()).unwrap_or_default();
        error!(error, "the identity watcher ended and is started again");
        if stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await.is_none() {
            return;
        }
    }
}

async fn follow(shared: Arc<Shared>, mut events: mpsc::Receiver<FeedEvent>, stop: CancellationToken) {
    let mut recheck = interval_at(Instant::now() + RECHECK_EVERY, RECHECK_EVERY);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pending: Option<Box<X509SvidResponse>> = None;
    let mut extra = shared.extra_changes.subscribe();
    // A change that a watcher before this one did not take up.
    extra.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = extra.changed() => apply_extra(&shared),
            event = events.recv() => match event {
                None => return,
                Some(FeedEvent::Opened) => {}
                Some(FeedEvent::Message(message)) => {
                    shared.connected.store(true, Ordering::Relaxed);
                    pending = apply(&shared, &message).then_some(message);
                }
                Some(FeedEvent::Failed { reason, .. }) => {
                    pending = None;
                    failed(&shared, &reason);
                }
            },
            _ = recheck.tick(), if pending.is_some() => {
                pending = pending.take().filter(|message| apply(&shared, message));
            }
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
