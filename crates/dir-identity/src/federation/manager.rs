//! The handle over all partners: starts their tasks, and asks them.

use super::config::FederationConfig;
use super::disk;
use super::error::{FederationError, FetchError};
use super::fetch::check_url;
use super::keeper::{Command, Inner, Kept, run};
use super::metrics::FederationMetrics;
use crate::identity::Identity;
use async_trait::async_trait;
use dir_core::partners::{PartnerReport, Partners};
use dir_core::{Clock, Timestamp, TrustDomain};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

/// Longest wait at the start for the identity to take up what is remembered.
const APPLY_LIMIT: Duration = Duration::from_secs(5);
/// Requests to refresh that may wait for one partner.
const COMMANDS_MAX: usize = 16;

/// What operators ask about a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerStatus {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Where its bundle is fetched from.
    pub url: Option<String>,
    /// Where the bundle in force comes from (`federation` or `bootstrap_file`); `None` when there is none. A bundle
    /// of the Workload API goes before it.
    pub source: Option<&'static str>,
    /// Sequence number of the last good bundle.
    pub sequence: Option<u64>,
    /// When the last good bundle was fetched.
    pub fetched_at: Option<Timestamp>,
    /// When the next fetch is due.
    pub next_fetch: Timestamp,
    /// Failures since the last success.
    pub failures: u32,
    /// Why the last fetch failed, if it did.
    pub error: Option<FetchError>,
    /// Whether the partner is untrusted because its bundle is too old.
    pub stale: bool,
    /// SHA-256 of every key in force, lower-case hex.
    pub fingerprints: BTreeSet<String>,
}

/// Keeps the bundles of partner trust domains up to date until it is dropped. What one partner does or does not do
/// changes nothing for the others, nor for our own identity.
pub struct Federation {
    inner: Arc<Inner>,
    tasks: Mutex<BTreeMap<TrustDomain, mpsc::Sender<Command>>>,
    _stop: DropGuard,
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").field("partners", &self.tasks.lock().keys()).finish_non_exhaustive()
    }
}

impl Federation {
    /// Starts. What is remembered of the partners is in force when this returns, whether they answer or not.
    pub async fn start(
        config: FederationConfig,
        identity: Identity,
        clock: Arc<dyn Clock>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, FederationError> {
        check(&config, identity.snapshot().leaf().id.trust_domain())?;
        if let Some(dir) = &config.state_dir {
            disk::prepare(dir)
                .map_err(|source| FederationError::StateDir { path: dir.display().to_string(), source })?;
        }
        let metrics = FederationMetrics::new(metrics);
        let inner = Arc::new(Inner { config, identity, clock, metrics, statuses: Mutex::default() });
        let stop = CancellationToken::new();
        let mut tasks = BTreeMap::new();
        let mut last_change = 0;
        for partner in inner.config.partners.clone() {
            let domain = partner.trust_domain.clone();
            inner.metrics.expect(&domain);
            let mut kept = Kept::new(partner);
            inner.recall(&mut kept.state);
            inner.read_bootstrap(&mut kept.state).await;
            last_change = inner.enforce(&mut kept).unwrap_or(last_change);
            let (tx, rx) = mpsc::channel(COMMANDS_MAX);
            tasks.insert(domain, tx);
            tokio::spawn(run(inner.clone(), kept, rx, stop.clone()));
        }
        if tokio::time::timeout(APPLY_LIMIT, inner.identity.extra_applied(last_change)).await.is_err() {
            warn!("the identity has not taken up the partners' bundles yet");
        }
        Ok(Self { inner, tasks: Mutex::new(tasks), _stop: stop.drop_guard() })
    }

    /// Every partner, in order of the names.
    pub fn status(&self) -> Vec<PartnerStatus> {
        self.inner.statuses.lock().values().cloned().collect()
    }

    /// Fetches now. `None` when there is no such partner.
    pub async fn refresh(&self, domain: &TrustDomain) -> Option<Result<(), FetchError>> {
        let task = self.tasks.lock().get(domain).cloned()?;
        let (tx, rx) = oneshot::channel();
        task.send(Command::Refresh(tx)).await.ok()?;
        rx.await.ok()
    }

    /// Ends the federation with a partner: its bundle is forgotten, here and on disk, and with it go the connections
    /// of its workloads (unless the Workload API delivers a bundle). Returns whether there was such a partner.
    pub async fn remove(&self, domain: &TrustDomain) -> bool {
        let Some(task) = self.tasks.lock().remove(domain) else { return false };
        let (tx, rx) = oneshot::channel();
        task.send(Command::Remove(tx)).await.is_ok() && rx.await.is_ok()
    }
}

#[async_trait]
impl Partners for Federation {
    fn reports(&self) -> Vec<PartnerReport> {
        let report = |status: PartnerStatus| PartnerReport {
            trust_domain: status.trust_domain,
            url: status.url,
            source: status.source,
            sequence: status.sequence,
            fetched_at: status.fetched_at,
            next_fetch: status.next_fetch,
            failures: status.failures,
            error: status.error.map(|error| error.to_string()),
            stale: status.stale,
            fingerprints: status.fingerprints,
        };
        self.status().into_iter().map(report).collect()
    }

    async fn fetch(&self, domain: &TrustDomain) -> Option<Result<(), String>> {
        self.refresh(domain).await.map(|fetched| fetched.map_err(|error| error.to_string()))
    }
}

/// What only the configuration can be blamed for.
fn check(config: &FederationConfig, own: &TrustDomain) -> Result<(), FederationError> {
    let mut seen = BTreeSet::new();
    for partner in &config.partners {
        let domain = &partner.trust_domain;
        if domain == own {
            return Err(FederationError::OwnDomain(domain.clone()));
        }
        if !seen.insert(domain) {
            return Err(FederationError::Duplicate(domain.clone()));
        }
        match &partner.source {
            Some((url, _)) => {
                check_url(url).map_err(|error| FederationError::Url { domain: domain.clone(), error })?;
            }
            None if partner.bootstrap_file.is_none() => {
                return Err(FederationError::NoSource(domain.clone()));
            }
            None => {}
        }
    }
    Ok(())
}
