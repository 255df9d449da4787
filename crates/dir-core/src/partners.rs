//! The partners port: what operators ask about trust domains whose bundles a node fetches by itself.

use crate::identity::TrustDomain;
use crate::time::Timestamp;
use async_trait::async_trait;
use std::collections::BTreeSet;

/// What is known of a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerReport {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Where its bundle is fetched from.
    pub url: Option<String>,
    /// Where the bundle in force comes from; `None` when there is none.
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
    pub error: Option<String>,
    /// Whether the partner is untrusted because its bundle is too old.
    pub stale: bool,
    /// SHA-256 of every key in force, lower-case hex.
    pub fingerprints: BTreeSet<String>,
}

/// The partners of a node.
#[async_trait]
pub trait Partners: std::fmt::Debug + Send + Sync {
    /// All of them, in order of the names.
    fn reports(&self) -> Vec<PartnerReport>;

    /// Fetches the bundle of one now; the inner error says why that failed. `None` when there is no such partner.
    async fn fetch(&self, domain: &TrustDomain) -> Option<Result<(), String>>;
}
