//! The port that the API asks: who a token speaks for.

use super::cache::Cache;
use super::source::{self, Held};
use super::token::{self, Rules, reason};
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::metrics::register;
use arc_swap::ArcSwap;
use dir_core::{Timestamp, TokenIdentity, TokenRefusal, TokenVerifier};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What tokens are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// One of these must be among the token's; at least one is needed for any token to pass.
    pub audiences: Vec<String>,
    /// Tolerance on all times of a token; default 60 s.
    pub leeway: Duration,
    /// Verified tokens that are remembered; default 8192.
    pub cache_max: usize,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self { audiences: Vec::new(), leeway: Duration::from_secs(60), cache_max: 8192 }
    }
}

/// Verifies JWT-SVIDs with the JWT bundles of an identity's Workload API, and of partners that were federated with.
/// Cloning shares it; the bundles are kept up to date until the last clone is gone.
#[derive(Clone)]
pub struct JwtVerifier {
    held: Arc<ArcSwap<Held>>,
    changed: watch::Receiver<u64>,
    rules: Arc<Rules>,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    _stop: Arc<DropGuard>,
}

struct Metrics {
    verified: IntCounter,
    cached: IntCounter,
    refused: IntCounter,
}

impl JwtVerifier {
    /// Waits for the first JWT bundles, as patiently as the identity waited for its SVID.
    pub async fn obtain(
        identity: &Identity,
        config: JwtConfig,
        registry: &Registry,
    ) -> Result<Self, IdentityError> {
        let stop = CancellationToken::new();
        let guard = Arc::new(stop.clone().drop_guard());
        let (metrics, keys) = metrics(registry);
        let (held, changed) = source::obtain(identity, keys, stop).await?;
        let JwtConfig { audiences, leeway, cache_max } = config;
        Ok(Self {
            held,
            changed,
            rules: Arc::new(Rules { audiences, leeway }),
            cache: Arc::new(Cache::new(cache_max)),
            metrics: Arc::new(metrics),
            _stop: guard,
        })
    }

    /// Tells the number of each new set of keys.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    fn look(&self, token: &str, now: Timestamp) -> Result<Arc<TokenIdentity>, TokenRefusal> {
        let held = self.held.load();
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.cache.get(&hash, held.generation) {
            token::check_time(&known, self.rules.leeway, now)?;
            self.metrics.cached.inc();
            return Ok(known);
        }
        let identity = Arc::new(token::judge(token, &self.rules, &held.bundles, now)?);
        self.cache.put(hash, identity.clone(), held.generation);
        self.metrics.verified.inc();
        Ok(identity)
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<TokenIdentity>, TokenRefusal> {
        self.look(token, now).inspect_err(|_| self.metrics.refused.inc())
    }

    fn still_trusted(&self, identity: &TokenIdentity) -> bool {
        let held = self.held.load();
        held.bundles.get(identity.id.trust_domain()).is_some_and(|b| b.holds(&identity.key))
    }

    fn generation(&self) -> u64 {
        self.held.load().generation
    }

    fn reasons(&self) -> &'static [&'static str] {
        &reason::ALL
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn metrics(registry: &Registry) -> (Metrics, IntGaugeVec) {
    let opts = Opts::new("token_verifications_total", "JWT-SVIDs looked at, by outcome.");
    let outcomes = IntCounterVec::new(opts, &["result"]).unwrap_or_else(|e| unreachable!("{e}"));
    let opts = Opts::new("jwt_bundle_keys", "Keys held for JWT-SVIDs of a trust domain.");
    let keys = IntGaugeVec::new(opts, &["trust_domain"]).unwrap_or_else(|e| unreachable!("{e}"));
    register(registry, Box::new(outcomes.clone()));
    register(registry, Box::new(keys.clone()));
    let outcome = |word: &str| outcomes.with_label_values(&[word]);
    (Metrics { verified: outcome("verified"), cached: outcome("cached"), refused: outcome("refused") }, keys)
}
