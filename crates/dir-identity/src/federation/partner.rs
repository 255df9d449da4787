//! What is known of one partner, and every decision about it: no network, no disk, no clock.

use super::config::{Partner, REFRESH_UNHINTED};
use super::document::{BundleDocument, DocumentError};
use super::error::FetchError;
use super::schedule;
use crate::bundle::TrustBundle;
use dir_core::{Timestamp, TrustDomain};
use std::sync::Arc;
use std::time::Duration;

/// Source of a bundle that was fetched.
pub(super) const FEDERATION: &str = "federation";
/// Source of a bundle that an operator gave.
pub(super) const BOOTSTRAP_FILE: &str = "bootstrap_file";

/// A bundle with where it comes from.
#[derive(Clone)]
pub(super) struct Holding {
    pub(super) document: BundleDocument,
    pub(super) bundle: Arc<TrustBundle>,
    pub(super) received: Timestamp,
}

impl Holding {
    pub(super) fn new(
        document: BundleDocument,
        domain: &TrustDomain,
        source: &'static str,
        received: Timestamp,
    ) -> Result<Self, DocumentError> {
        let bundle = Arc::new(document.bundle(domain, source)?);
        Ok(Self { document, bundle, received })
    }
}

/// The last good bundle.
#[derive(Clone)]
pub(super) struct Good {
    pub(super) holding: Holding,
    /// Fingerprint of the bootstrap file when it was fetched.
    pub(super) bootstrap: Option<String>,
}

/// The bootstrap file as last read.
pub(super) struct Bootstrap {
    pub(super) holding: Holding,
    pub(super) fingerprint: String,
}

/// One partner.
pub(super) struct State {
    pub(super) partner: Partner,
    pub(super) good: Option<Good>,
    pub(super) bootstrap: Option<Bootstrap>,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Why the last fetch failed, if it did.
    pub(super) error: Option<FetchError>,
    /// When to fetch next.
    pub(super) due: Timestamp,
}

/// What a partner's peers are judged by, as far as we decide.
pub(super) enum InForce<'a> {
    /// This bundle.
    Held(&'a Holding),
    /// None: the last good one is older than `max_stale`.
    Stale,
    /// None: there never was one.
    Nothing,
}

impl State {
    pub(super) fn new(partner: Partner) -> Self {
        let due = Timestamp(i64::MIN);
        Self { partner, good: None, bootstrap: None, failures: 0, error: None, due }
    }

    /// Fetched before bootstrap file, and never both: roots that the partner has withdrawn would come back.
    pub(super) fn in_force(&self, now: Timestamp) -> InForce<'_> {
        match (&self.good, &self.bootstrap) {
            (Some(_), _) if self.is_stale(now) => InForce::Stale,
            (Some(good), _) => InForce::Held(&good.holding),
            (None, Some(bootstrap)) => InForce::Held(&bootstrap.holding),
            (None, None) => InForce::Nothing,
        }
    }

    /// Whether the last good bundle is too old. (A clock that was put back makes nothing stale.)
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        let limit = i64::try_from(self.partner.max_stale.as_millis()).unwrap_or(i64::MAX);
        self.good.as_ref().is_some_and(|g| now.0.saturating_sub(g.holding.received.0) > limit)
    }

    /// Whether the operator has changed the bootstrap file since the last good fetch: the way out of a lock-out, and
    /// the beginning of a new history.
    fn has_new_bootstrap(&self) -> bool {
        match (&self.good, &self.bootstrap) {
            (Some(good), Some(file)) => good.bootstrap.as_ref() != Some(&file.fingerprint),
            _ => false,
        }
    }

    /// The bundles to verify the partner's own endpoint with, one after the other. `held` is the one in force.
    pub(super) fn endpoint_bundles(&self, held: Option<Arc<TrustBundle>>) -> Vec<Arc<TrustBundle>> {
        let current = held
            // Past `max_stale` peers are refused, but the endpoint may still prove itself and end that.
            .or_else(|| self.good.as_ref().map(|g| g.holding.bundle.clone()))
            .or_else(|| self.bootstrap.as_ref().map(|b| b.holding.bundle.clone()));
        let fresh = self.bootstrap.as_ref().filter(|_| self.has_new_bootstrap());
        let mut found: Vec<_> = current.into_iter().chain(fresh.map(|b| b.holding.bundle.clone())).collect();
        found.retain(|b| !b.is_empty());
        found.dedup_by_key(|b| b.digest());
        found
    }

    /// The number that the next document must not fall below.
    fn floor(&self) -> Option<u64> {
        let file = self.bootstrap.as_ref().and_then(|b| b.holding.document.sequence);
        match &self.good {
            Some(good) if !self.has_new_bootstrap() => good.holding.document.sequence,
            _ => file,
        }
    }

    /// Judges what an endpoint sent.
    pub(super) fn judge(&self, text: &[u8], now: Timestamp) -> Result<Good, FetchError> {
        let document = BundleDocument::parse(text)?;
        match (self.floor(), document.sequence) {
            (Some(held), offered) if offered.is_none_or(|o| o < held) => {
                let offered = offered.map_or_else(|| "none".to_owned(), |o| o.to_string());
                return Err(FetchError::Sequence { held, offered });
            }
            _ => {}
        }
        let holding = Holding::new(document, &self.partner.trust_domain, FEDERATION, now)?;
        let bootstrap = self.bootstrap.as_ref().map(|b| b.fingerprint.clone());
        Ok(Good { holding, bootstrap })
    }

    /// Notes a good fetch. `luck` is from -1 to 1.
    pub(super) fn succeeded(&mut self, good: Good, now: Timestamp, luck: f64) {
        let hint = good.holding.document.refresh_hint;
        self.due =
            later(now, schedule::refresh(hint, self.partner.refresh_min, self.partner.refresh_max, luck));
        self.good = Some(good);
        self.failures = 0;
        self.error = None;
    }

    /// Notes that there was nothing to fetch: only the file counts.
    pub(super) fn looked(&mut self, now: Timestamp) {
        self.due = later(now, REFRESH_UNHINTED);
    }

    /// Notes a failed fetch. Returns whether it is news, rather than the same once more.
    pub(super) fn failed(&mut self, error: &FetchError, now: Timestamp, luck: f64) -> bool {
        let news = self.error.as_ref().is_none_or(|last| last.kind() != error.kind());
        self.failures = self.failures.saturating_add(1);
        self.due = later(now, schedule::backoff(self.failures, luck));
        self.error = Some(error.clone());
        news
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
#[path = "partner_tests.rs"]
mod tests;
