//! The JWT bundles of this moment: those of the Workload API, and beside them those of partners whose bundles are
//! fetched. One writer, many readers.

use super::bundle::{JwtBundle, JwtBundles, shown};
use crate::config::parse_endpoint;
use crate::error::{IdentityError, WaitReason};
use crate::feed::{self, FeedEvent, JwtBundlesFeed};
use crate::identity::Identity;
use crate::proto::JwtBundlesResponse;
use crate::update::{BUNDLES_MAX, domain_of};
use arc_swap::ArcSwap;
use prometheus::IntGaugeVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How often the wait is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Pause before a writer that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

type Events = mpsc::Receiver<FeedEvent<JwtBundlesResponse>>;

/// The keys of one moment.
pub(crate) struct Held {
    pub(crate) generation: u64,
    pub(crate) bundles: JwtBundles,
}

/// What the writer works on.
struct Writer {
    identity: Identity,
    /// What the Workload API delivered last.
    delivered: ArcSwap<JwtBundles>,
    held: Arc<ArcSwap<Held>>,
    changed: watch::Sender<u64>,
    keys: IntGaugeVec,
}

/// Waits for the first bundles and keeps them up to date until `stop` fires.
pub(crate) async fn obtain(
    identity: &Identity,
    keys: IntGaugeVec,
    stop: CancellationToken,
) -> Result<(Arc<ArcSwap<Held>>, watch::Receiver<u64>), IdentityError> {
    let config = identity.shared().config.clone();
    let endpoint = parse_endpoint(&config.socket)?;
    let start = || feed::spawn::<JwtBundlesFeed>(endpoint.clone(), config.startup_wait.clone(), stop.clone());
    let mut events = start();
    let first = wait(&mut events, &config.socket, config.startup_wait.total).await?;
    let held = Arc::new(ArcSwap::from_pointee(Held { generation: 0, bundles: JwtBundles::default() }));
    let (changed, receiver) = watch::channel(0);
    let writer = Writer {
        identity: identity.clone(),
        delivered: ArcSwap::default(),
        held: held.clone(),
        changed,
        keys,
    };
    writer.deliver(&first);
    let own = identity.snapshot().leaf().id.trust_domain().clone();
    if held.load().bundles.get(&own).is_none_or(|b| b.len() == 0) {
        warn!(trust_domain = %own, "no key for JWT-SVIDs of our own trust domain: its tokens will be refused");
    }
    let (endpoint, wait) = (endpoint.clone(), config.startup_wait.clone());
    tokio::spawn(async move {
        let writer = Arc::new(writer);
        let mut events = Some(events);
        // A set of keys that nobody updates would freeze on old ones.
        while !stop.is_cancelled() {
            let events = events.take().unwrap_or_else(|| {
                feed::spawn::<JwtBundlesFeed>(endpoint.clone(), wait.clone(), stop.clone())
            });
            let ended = tokio::spawn(follow(writer.clone(), events, stop.clone())).await;
            if stop.is_cancelled() {
                return;
            }
            let error = ended.err().map(|e| e.to_string()).unwrap_or_default();
            error!(error, "the watcher of JWT bundles ended and is started again");
            let _ = stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await;
        }
    });
    Ok((held, receiver))
}

/// The first message of the stream, within the bound of the start.
async fn wait(
    events: &mut Events,
    socket: &str,
    total: Duration,
) -> Result<Box<JwtBundlesResponse>, IdentityError> {
    let started = Instant::now();
    let mut report = interval_at(started + REPORT_EVERY, REPORT_EVERY);
    let mut reason = WaitReason::Starting;
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
                Some(FeedEvent::Opened) => reason = WaitReason::Silent,
                Some(FeedEvent::Message(message)) => return Ok(message),
                Some(FeedEvent::Failed { reason: why, fatal: false }) => reason = why,
                Some(FeedEvent::Failed { reason, fatal: true }) => {
                    return Err(IdentityError::NoJwtBundles { reason });
                }
                None => return Err(IdentityError::NoJwtBundles { reason }),
            },
            _ = report.tick() => {
                warn!(socket, elapsed_s = started.elapsed().as_secs(), %reason, "Failed to get JWT bundles");
            }
            () = expired => return Err(IdentityError::NoJwtBundles { reason }),
        }
    }
}

async fn follow(writer: Arc<Writer>, mut events: Events, stop: CancellationToken) {
    let shared = writer.identity.shared();
    let (mut extra, mut own) = (shared.extra_changes.subscribe(), writer.identity.changes());
    // A change that was missed before.
    extra.mark_changed();
    let mut connected = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = extra.changed() => writer.merge(),
            // Our own trust domain may be another one now, and nobody gives us keys for it.
            Ok(()) = own.changed() => writer.merge(),
            event = events.recv() => match event {
                None => return,
                Some(FeedEvent::Opened) => {}
                Some(FeedEvent::Message(message)) => {
                    connected = true;
                    writer.deliver(&message);
                }
                Some(FeedEvent::Failed { reason, .. }) => {
                    if std::mem::replace(&mut connected, false) {
                        let socket = &shared.config.socket;
                        warn!(socket, %reason, "lost the JWT bundles of the Workload API; the last ones serve");
                    }
                }
            },
        }
    }
}

impl Writer {
    /// Takes up a message: it is the full state, but a bundle that cannot be read stays as it was.
    fn deliver(&self, message: &JwtBundlesResponse) {
        let last = self.delivered.load_full();
        let (mut bundles, mut faults) = (JwtBundles::default(), Vec::new());
        let mut texts = Vec::new();
        for (name, text) in &message.bundles {
            match domain_of(name) {
                Ok(domain) => texts.push((domain, text)),
                Err(e) => faults.push(format!("JWT bundle of \"{}\": {e}", shown(name))),
            }
        }
        // Our own is among those that are taken, however many there are.
        let own = self.identity.snapshot().leaf().id.trust_domain().clone();
        texts.sort_by(|(a, _), (b, _)| (*a != own, a).cmp(&(*b != own, b)));
        for (domain, text) in texts.into_iter().take(BUNDLES_MAX) {
            match JwtBundle::from_jwks(&domain, text, &mut faults) {
                Ok(bundle) => bundles.insert(Arc::new(bundle)),
                Err(fault) => {
                    faults.push(fault);
                    if let Some(kept) = last.get(&domain) {
                        bundles.insert(kept.clone());
                    }
                }
            }
        }
        for fault in faults {
            self.identity.shared().metrics.update_fault();
            warn!(%fault, "part of the JWT bundles is unusable");
        }
        self.delivered.store(Arc::new(bundles));
        self.merge();
    }

    /// Puts the bundles of partners beside those of the Workload API, which win, and publishes what is new.
    fn merge(&self) {
        let shared = self.identity.shared();
        let mut bundles = (**self.delivered.load()).clone();
        let own = self.identity.snapshot().leaf().id.trust_domain().clone();
        for bundle in shared.extra.lock().values().filter_map(|e| e.jwt.as_ref()) {
            if *bundle.trust_domain() != own {
                bundles.fill(bundle);
            }
        }
        let last = self.held.load();
        if last.generation > 0 && bundles.same_as(&last.bundles) {
            return;
        }
        let generation = last.generation + 1;
        self.keys.reset();
        for bundle in bundles.iter() {
            let count = i64::try_from(bundle.len()).unwrap_or(i64::MAX);
            self.keys.with_label_values(&[bundle.trust_domain().as_str()]).set(count);
        }
        let trust_domains = bundles.iter().count();
        self.held.store(Arc::new(Held { generation, bundles }));
        // The keys are in place before anybody is told.
        self.changed.send_replace(generation);
        info!(generation, trust_domains, "JWT bundles changed");
    }
}
