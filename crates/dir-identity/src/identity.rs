//! The identity of this process: one writer (the watcher), many readers.

use crate::bundle::{Trust, TrustBundle};
use crate::config::{WorkloadConfig, parse_endpoint};
use crate::error::IdentityError;
use crate::jwt::JwtBundle;
use crate::metrics::{IdentityCollector, IdentityMetrics};
use crate::snapshot::TlsSnapshot;
use crate::watcher;
use arc_swap::ArcSwap;
use dir_core::identity::{BundleReport, IdentityReport, IdentityStatus};
use dir_core::{Clock, Timestamp, TrustDomain};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long before the end of our SVID we call ourselves not ready, at most; a tenth of its life if that is less.
pub(crate) const NEAR_EXPIRY: Duration = Duration::from_secs(60);

/// After so many refusals in a row our identity counts as withdrawn. A SPIRE agent refuses once, for half a second,
/// while it replaces SVIDs whose CA was tainted; the next question comes after the first pause of the back-off.
pub(crate) const DENIALS_MAX: u32 = 2;

/// What the watcher writes and everybody reads.
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<TlsSnapshot>,
    pub(crate) trust: Trust,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: WorkloadConfig,
    pub(crate) metrics: IdentityMetrics,
    pub(crate) connected: AtomicBool,
    /// Times in a row that the agent said it has no identity for us.
    pub(crate) denials: AtomicU32,
    pub(crate) watcher_alive: AtomicBool,
    /// When the content of each bundle was last received, changed or not.
    pub(crate) received: Mutex<BTreeMap<TrustDomain, Timestamp>>,
    /// Bundles from elsewhere, for the domains that the Workload API does not deliver.
    pub(crate) extra: Mutex<BTreeMap<TrustDomain, Extra>>,
    /// Counts the changes of `extra`, so that the one writer takes them up.
    pub(crate) extra_changes: watch::Sender<u64>,
    /// The change of `extra` that the snapshot last took up.
    pub(crate) extra_applied: watch::Sender<u64>,
}

/// A bundle that did not come from the Workload API.
#[derive(Clone)]
pub(crate) struct Extra {
    pub(crate) bundle: Arc<TrustBundle>,
    /// The keys of JWT-SVIDs that came with it.
    pub(crate) jwt: Option<Arc<JwtBundle>>,
    /// When its content was received.
    pub(crate) received: Timestamp,
}

/// The identity of this process, kept up to date in the background until the last clone is dropped.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

impl Identity {
    /// Waits for the first valid SVID and every bundle that comes with it, as patiently as the configuration says.
    /// While waiting there is one WARN every ten seconds that names socket, elapsed time and reason.
    pub async fn obtain(
        config: WorkloadConfig,
        clock: Arc<dyn Clock>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, IdentityError> {
        let endpoint = parse_endpoint(&config.socket)?;
        let stop = CancellationToken::new();
        let guard = Arc::new(stop.clone().drop_guard());
        let own = IdentityMetrics::new();
        own.register(metrics);
        let boot = watcher::boot(endpoint, config, clock, own, stop.clone()).await?;
        let shared = boot.shared.clone();
        shared.metrics.belongs_to(shared.current.load().leaf().id.trust_domain());
        tokio::spawn(watcher::supervise(boot, stop));
        crate::metrics::register(metrics, Box::new(IdentityCollector::new(&shared)));
        Ok(Self { shared, _stop: guard })
    }

    /// The material of this moment. Never waits.
    pub fn snapshot(&self) -> Arc<TlsSnapshot> {
        self.shared.current.load_full()
    }

    /// Tells the number of each new snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// What readiness and liveness ask.
    pub fn health(&self) -> Health {
        Health::of(&self.shared)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Sets or takes away the bundle of a domain that the Workload API may not deliver. The writer of the snapshot
    /// takes it up; the answer is the number of this change in `extra_applied`.
    pub(crate) fn set_extra(&self, domain: &TrustDomain, extra: Option<Extra>) -> u64 {
        let mut held = self.shared.extra.lock();
        match extra {
            Some(extra) => held.insert(domain.clone(), extra),
            None => held.remove(domain),
        };
        // Under the lock: whoever sees the number sees the content.
        self.shared.extra_changes.send_modify(|count| *count += 1);
        *self.shared.extra_changes.borrow()
    }

    /// Waits until the snapshot holds what [`Identity::set_extra`] was given.
    pub(crate) async fn extra_applied(&self, change: u64) {
        let mut applied = self.shared.extra_applied.subscribe();
        // The sender lives in `shared`, which we hold.
        let _ = applied.wait_for(|count| *count >= change).await;
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.shared.current.load()).finish()
    }
}

impl IdentityStatus for Identity {
    fn report(&self) -> Option<IdentityReport> {
        let snapshot = self.snapshot();
        let leaf = snapshot.leaf();
        let received = self.shared.received.lock();
        let mut bundles: Vec<BundleReport> = snapshot
            .bundles()
            .iter()
            .map(|b| b.report(received.get(b.trust_domain()).copied().unwrap_or_default()))
            .collect();
        // Own trust domain first; the rest stays in order of the names.
        bundles.sort_by_key(|b| b.trust_domain != *leaf.id.trust_domain());
        Some(IdentityReport {
            id: leaf.id.clone(),
            dns_names: leaf.dns_names.clone(),
            serial: leaf.serial.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            generation: snapshot.generation(),
            bundles,
        })
    }
}

/// The state of our identity in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Independent facts; no combination of them is impossible.
pub struct Health {
    /// Our SVID is valid now.
    pub svid_held: bool,
    /// Seconds to the end of our SVID; negative after it.
    pub expires_in: i64,
    /// The end is nearer than a minute (or a tenth of the SVID's life, if that is less).
    pub near_expiry: bool,
    /// The stream to the Workload API is open and has delivered.
    pub source_connected: bool,
    /// The agent said, twice in a row, that we have no identity any more.
    pub withdrawn: bool,
    /// The task that keeps all this up to date runs.
    pub watcher_alive: bool,
}

impl Health {
    pub(crate) fn of(shared: &Shared) -> Self {
        let snapshot = shared.current.load();
        let leaf = snapshot.leaf();
        let now = shared.clock.now();
        let expires_in = leaf.not_after.seconds_since(now);
        let life = leaf.not_after.seconds_since(leaf.not_before);
        let margin = i64::try_from(NEAR_EXPIRY.as_secs()).unwrap_or(60).min(life / 10);
        Self {
            svid_held: snapshot.is_valid(now),
            expires_in,
            near_expiry: expires_in < margin,
            source_connected: shared.connected.load(Ordering::Relaxed),
            withdrawn: shared.denials.load(Ordering::Relaxed) >= DENIALS_MAX,
            watcher_alive: shared.watcher_alive.load(Ordering::Relaxed),
        }
    }

    /// Whether new work should be sent here. An agent that is merely gone does not make a node unready.
    pub fn is_ready(&self) -> bool {
        self.svid_held && !self.near_expiry && !self.withdrawn && self.watcher_alive
    }

    /// Whether the process can still follow its identity. If not, only a restart helps.
    pub fn is_live(&self) -> bool {
        self.watcher_alive
    }

    /// Why not ready; `None` when ready.
    pub fn reason(&self) -> Option<String> {
        if !self.watcher_alive {
            Some("the watcher of the Workload API has ended; only a restart helps".to_owned())
        } else if self.withdrawn {
            Some("the SPIFFE agent no longer issues an identity to this workload".to_owned())
        } else if !self.svid_held {
            Some(format!("the SVID is not valid (expires in {} s)", self.expires_in))
        } else if self.near_expiry {
            Some(format!("the SVID expires in {} s and was not renewed", self.expires_in))
        } else {
            None
        }
    }
}
