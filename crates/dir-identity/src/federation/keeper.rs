//! The task of one partner: fetches when it is time, hands what is in force to the identity, remembers it on disk.

use super::config::{Endpoint, FederationConfig, Partner};
use super::disk::{self, Saved};
use super::document::BundleDocument;
use super::error::FetchError;
use super::fetch::{Fetch, spiffe_tls, web_tls};
use super::manager::PartnerStatus;
use super::metrics::FederationMetrics;
use super::partner::{BOOTSTRAP_FILE, Bootstrap, FEDERATION, Good, Holding, InForce, State};
use crate::bundle::TrustBundle;
use crate::identity::{Extra, Identity};
use crate::jwt::JwtBundle;
use dir_core::{Clock, Timestamp, TrustDomain};
use futures::FutureExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use url::Url;

/// What a partner's task is asked to do.
pub(super) enum Command {
    /// Fetch now.
    Refresh(oneshot::Sender<Result<(), FetchError>>),
    /// Forget the partner.
    Remove(oneshot::Sender<()>),
}

/// What the tasks of all partners share.
pub(super) struct Inner {
    pub(super) config: FederationConfig,
    pub(super) identity: Identity,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: FederationMetrics,
    pub(super) statuses: Mutex<BTreeMap<TrustDomain, PartnerStatus>>,
}

/// A partner with what the identity was last given for it.
pub(super) struct Kept {
    pub(super) state: State,
    given: Option<(Arc<TrustBundle>, Timestamp)>,
    fingerprints: BTreeSet<String>,
    stale: bool,
}

impl Kept {
    pub(super) fn new(partner: Partner) -> Self {
        Self { state: State::new(partner), given: None, fingerprints: BTreeSet::new(), stale: false }
    }
}

pub(super) async fn run(
    inner: Arc<Inner>,
    mut kept: Kept,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(inner.config.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            Some(command) = commands.recv() => match command {
                Command::Refresh(asked) => Some(asked),
                Command::Remove(done) => {
                    inner.forget(&kept);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                    return;
                }
            },
            _ = tick.tick() => None,
        };
        if asked.is_some() || inner.clock.now() >= kept.state.due {
            let Some(outcome) = stop.run_until_cancelled(inner.refresh(&mut kept.state)).await else {
                return;
            };
            inner.enforce(&mut kept);
            if let Some(asked) = asked {
                let _ = asked.send(outcome);
            }
        } else if kept.stale != kept.state.is_stale(inner.clock.now()) {
            inner.enforce(&mut kept);
        }
    }
}

impl Inner {
    /// Reads what an earlier run has left.
    pub(super) fn recall(&self, state: &mut State) {
        let domain = &state.partner.trust_domain;
        let Some(dir) = self.config.state_dir.as_ref().filter(|_| state.partner.source.is_some()) else {
            return;
        };
        let recalled = disk::load(dir, domain).map_err(|e| e.to_string()).and_then(|saved| {
            let Some(saved) = saved else { return Ok(None) };
            let document = BundleDocument::parse(saved.document.as_bytes()).map_err(|e| e.to_string())?;
            let holding = Holding::new(document, domain, FEDERATION, saved.fetched_at());
            Ok(Some(Good { holding: holding.map_err(|e| e.to_string())?, bootstrap: saved.bootstrap }))
        });
        match recalled {
            Ok(good) => state.good = good,
            Err(fault) => {
                warn!(trust_domain = %domain, %fault, "the last good bundle on disk is unusable and ignored");
            }
        }
    }

    /// Reads the bootstrap file anew: a changed one is the operator's way out of a lock-out.
    pub(super) async fn read_bootstrap(&self, state: &mut State) {
        let Some(path) = state.partner.bootstrap_file.clone() else { return };
        let domain = state.partner.trust_domain.clone();
        let read = tokio::task::spawn_blocking(move || disk::bootstrap(&path)).await;
        let read = read.unwrap_or_else(|e| Err(e.to_string())).and_then(|(document, fingerprint)| {
            if state.bootstrap.as_ref().is_some_and(|b| b.fingerprint == fingerprint) {
                return Ok(None);
            }
            let holding = Holding::new(document, &domain, BOOTSTRAP_FILE, self.clock.now());
            Ok(Some(Bootstrap { holding: holding.map_err(|e| e.to_string())?, fingerprint }))
        });
        match read {
            Ok(Some(fresh)) => state.bootstrap = Some(fresh),
            Ok(None) => {}
            Err(fault) if state.bootstrap.is_none() => {
                error!(trust_domain = %domain, %fault, "no first bundle of a partner");
            }
            Err(fault) => warn!(trust_domain = %domain, %fault, "the bootstrap bundle read before stays"),
        }
    }

    /// One fetch and what follows from it. A panic over what a partner sends is a failure like any other.
    async fn refresh(&self, state: &mut State) -> Result<(), FetchError> {
        self.read_bootstrap(state).await;
        let Some((url, endpoint)) = state.partner.source.clone() else {
            state.looked(self.clock.now());
            return Ok(());
        };
        let domain = state.partner.trust_domain.clone();
        let limit = self.config.fetch_limit;
        let fetch = tokio::time::timeout(limit, self.fetch(state, &url, &endpoint));
        let outcome = match AssertUnwindSafe(fetch).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(FetchError::Timeout(limit)),
            Err(_) => Err(FetchError::Protocol("its answer makes our reader fail".to_owned())),
        };
        let now = self.clock.now();
        let luck = rand::random_range(-1.0..=1.0);
        match outcome {
            Ok((good, text)) => {
                self.remember(&domain, &good, text).await;
                if state.failures > 0 {
                    info!(trust_domain = %domain, failures = state.failures, "bundle fetched again");
                }
                state.succeeded(good, now, luck);
                self.metrics.fetched(&domain, "ok", 0, false);
                Ok(())
            }
            Err(fault) => {
                let news = state.failed(&fault, now, luck);
                report(&domain, url.as_str(), &fault, state.failures, news);
                let locked_out = matches!(fault, FetchError::LockedOut(_));
                self.metrics.fetched(&domain, fault.kind(), state.failures, locked_out);
                Err(fault)
            }
        }
    }

    async fn fetch(
        &self,
        state: &State,
        url: &Url,
        endpoint: &Endpoint,
    ) -> Result<(Good, String), FetchError> {
        let (redirects, allow_link_local) = (endpoint.redirects(), self.config.allow_link_local);
        let text = match endpoint {
            Endpoint::HttpsWeb { ca_file } => {
                let (ca_file, clock) = (ca_file.clone(), self.clock.clone());
                let tls = tokio::task::spawn_blocking(move || web_tls(ca_file.as_deref(), &clock)).await;
                let tls = tls.map_err(|e| FetchError::Roots(e.to_string()))??;
                Fetch { tls, redirects, url, allow_link_local }.run().await?
            }
            Endpoint::HttpsSpiffe { id } => {
                let held = self.identity.snapshot().bundles().get(id.trust_domain()).cloned();
                let own = *id.trust_domain() == state.partner.trust_domain;
                let bundles =
                    if own { state.endpoint_bundles(held) } else { held.into_iter().collect::<Vec<_>>() };
                let mut text = Err(FetchError::NoBundle(id.trust_domain().clone()));
                for bundle in &bundles {
                    let tls = spiffe_tls(bundle, id, &self.clock)?;
                    text = Fetch { tls, redirects, url, allow_link_local }.run().await;
                    if !matches!(text, Err(FetchError::LockedOut(_))) {
                        break;
                    }
                }
                text?
            }
        };
        let good = state.judge(&text, self.clock.now())?;
        Ok((good, String::from_utf8_lossy(&text).into_owned()))
    }

    async fn remember(&self, domain: &TrustDomain, good: &Good, document: String) {
        let Some(dir) = self.config.state_dir.clone() else { return };
        let saved = Saved {
            trust_domain: domain.to_string(),
            fetched_at: good.holding.received.0,
            sequence: good.holding.document.sequence,
            bootstrap: good.bootstrap.clone(),
            document,
        };
        let of = domain.clone();
        let written = tokio::task::spawn_blocking(move || disk::save(&dir, &of, &saved)).await;
        if let Err(fault) = written.map_err(std::io::Error::other).flatten() {
            error!(trust_domain = %domain, %fault, "a bundle is in force and not on disk: a restart may lack it");
        }
    }

    fn forget(&self, kept: &Kept) {
        let domain = &kept.state.partner.trust_domain;
        log_keys(domain, &kept.fingerprints, &BTreeSet::new());
        self.identity.set_extra(domain, None);
        self.statuses.lock().remove(domain);
        self.metrics.forget(domain);
        if let Some(Err(fault)) = self.config.state_dir.as_ref().map(|dir| disk::remove(dir, domain)) {
            error!(trust_domain = %domain, %fault, "the last good bundle of a former partner stays on disk");
        }
    }

    /// Hands what is in force to the identity, if it is something else than before. Returns the number of the change.
    pub(super) fn enforce(&self, kept: &mut Kept) -> Option<u64> {
        let now = self.clock.now();
        let domain = &kept.state.partner.trust_domain;
        let (held, stale) = match kept.state.in_force(now) {
            InForce::Held(holding) => (Some(holding), false),
            InForce::Stale => (None, true),
            InForce::Nothing => (None, false),
        };
        let fingerprints = held.map(|h| h.document.fingerprints()).unwrap_or_default();
        log_keys(domain, &kept.fingerprints, &fingerprints);
        if stale && !kept.stale {
            let max_stale = kept.state.partner.max_stale;
            error!(trust_domain = %domain, ?max_stale, "partner untrusted: its bundle could not be confirmed for too long");
        }
        self.metrics.stale(domain, stale);
        if let Some(good) = &kept.state.good {
            self.metrics.held(domain, good.holding.document.sequence, good.holding.received);
        }
        let give = held.map(|h| (h.bundle.clone(), h.received));
        let same = match (&give, &kept.given) {
            (Some((a, at)), Some((b, bt))) => Arc::ptr_eq(a, b) && at == bt,
            (None, None) => true,
            _ => false,
        };
        self.statuses.lock().insert(domain.clone(), status(&kept.state, held, stale, &fingerprints));
        let change = (!same).then(|| {
            let jwt = held.map(|h| jwt_keys(domain, &h.document));
            let extra = give.clone().map(|(bundle, received)| Extra { bundle, jwt, received });
            self.identity.set_extra(domain, extra)
        });
        (kept.given, kept.fingerprints, kept.stale) = (give, fingerprints, stale);
        change
    }
}

/// The keys of a partner's JWT-SVIDs. One that cannot be used does not take the others, or the roots, with it.
fn jwt_keys(domain: &TrustDomain, document: &BundleDocument) -> Arc<JwtBundle> {
    let mut faults = Vec::new();
    let keys = JwtBundle::from_keys(domain, &document.jwt_keys, &mut faults);
    for fault in faults {
        warn!(trust_domain = %domain, %fault, "a key of a partner's bundle is unusable");
    }
    Arc::new(keys)
}

fn status(
    state: &State,
    held: Option<&Holding>,
    distrusted: bool,
    fingerprints: &BTreeSet<String>,
) -> PartnerStatus {
    let Partner { trust_domain, source, .. } = &state.partner;
    let good = state.good.as_ref();
    PartnerStatus {
        trust_domain: trust_domain.clone(),
        url: source.as_ref().map(|(url, _)| url.to_string()),
        source: held.map(|h| h.bundle.source()),
        sequence: good.and_then(|g| g.holding.document.sequence),
        fetched_at: good.map(|g| g.holding.received),
        next_fetch: state.due,
        failures: state.failures,
        error: state.error.clone(),
        stale: distrusted,
        fingerprints: fingerprints.clone(),
    }
}

fn log_keys(domain: &TrustDomain, before: &BTreeSet<String>, after: &BTreeSet<String>) {
    if before == after {
        return;
    }
    let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).map(String::as_str).collect::<Vec<_>>().join(",")
    };
    let (added, removed) = (list(after, before), list(before, after));
    info!(trust_domain = %domain, keys = after.len(), added, removed, "keys of a partner changed");
}

fn report(domain: &TrustDomain, url: &str, fault: &FetchError, failures: u32, news: bool) {
    if !news {
        debug!(trust_domain = %domain, url, failures, reason = fault.kind(), %fault, "bundle not fetched");
    } else if matches!(fault, FetchError::LockedOut(_)) {
        error!(trust_domain = %domain, url, reason = fault.kind(), %fault, "bundle not fetched: locked out");
    } else {
        warn!(trust_domain = %domain, url, reason = fault.kind(), %fault, "bundle not fetched; the last good one stays");
    }
}
