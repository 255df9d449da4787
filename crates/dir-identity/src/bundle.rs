//! Trust bundles: the roots of each trust domain, never merged with those of another.

use arc_swap::ArcSwap;
use dir_core::identity::BundleReport;
use dir_core::{Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::BTreeMap;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Why a bundle could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bundle of {trust_domain}: {detail}")]
pub struct BundleError {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// What was wrong.
    pub detail: String,
}

/// The roots of one trust domain. An empty bundle is held, and trusts nobody.
pub struct TrustBundle {
    trust_domain: TrustDomain,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// Validity of each anchor, in the same order: anchors do not carry it.
    pub(crate) validity: Vec<(Timestamp, Timestamp)>,
    /// The roots as received, for whoever publishes them.
    roots: Vec<CertificateDer<'static>>,
    digest: [u8; 32],
    source: &'static str,
}

/// Source of the bundles that the Workload API delivers.
pub(crate) const WORKLOAD_API: &str = "workload_api";

impl TrustBundle {
    /// Reads the concatenated DER of all roots, as the Workload API sends it.
    pub fn from_der(domain: &TrustDomain, der: &[u8], source: &'static str) -> Result<Self, BundleError> {
        let fault = |detail: String| BundleError { trust_domain: domain.clone(), detail };
        let mut anchors = Vec::new();
        let mut validity = Vec::new();
        let mut roots = Vec::new();
        let parsed = if der.is_empty() {
            Vec::new()
        } else {
            let name = spiffe::TrustDomain::new(domain.as_str()).map_err(|e| fault(e.to_string()))?;
            let bundle = spiffe::X509Bundle::parse_from_der(name, der).map_err(|e| fault(e.to_string()))?;
            bundle.authorities().to_vec()
        };
        for authority in &parsed {
            let der = CertificateDer::from(authority.as_bytes());
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|e| fault(e.to_string()))?;
            anchors.push(anchor.to_owned());
            let (_, cert) = X509Certificate::from_der(&der).map_err(|e| fault(e.to_string()))?;
            validity.push((
                Timestamp::from_secs(cert.validity().not_before.timestamp()),
                Timestamp::from_secs(cert.validity().not_after.timestamp()),
            ));
            roots.push(der.into_owned());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, der).as_ref());
        Ok(Self { trust_domain: domain.clone(), anchors, validity, roots, digest, source })
    }

    /// Whose roots these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Number of roots.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// DER of each root, in the order received.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Where it came from: `workload_api`, `federation` or `bootstrap_file`.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// SHA-256 over the roots as received: equal digests mean equal bundles.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What operators ask about.
    pub fn report(&self, updated_at: Timestamp) -> BundleReport {
        BundleReport {
            trust_domain: self.trust_domain.clone(),
            source: self.source.to_owned(),
            authorities: self.anchors.len(),
            updated_at,
            earliest_expiry: self.validity.iter().map(|(_, end)| *end).min(),
        }
    }
}

/// The bundles of this moment, shared by all verifiers. A handshake is judged by what is trusted when the peer's chain
/// arrives, not by what was trusted when the handshake began: between the two a root may have come or gone.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ArcSwap<BundleSet>>);

impl Trust {
    pub(crate) fn new(bundles: BundleSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(bundles)))
    }

    pub(crate) fn now(&self) -> Arc<BundleSet> {
        self.0.load_full()
    }

    pub(crate) fn set(&self, bundles: BundleSet) {
        self.0.store(Arc::new(bundles));
    }
}

/// Every bundle held, by trust domain. Cloning is cheap enough to be done once per update.
#[derive(Clone, Default)]
pub struct BundleSet(BTreeMap<TrustDomain, Arc<TrustBundle>>);

impl BundleSet {
    /// The bundle of a trust domain, empty or not.
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.0.get(domain)
    }

    /// Every bundle, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TrustBundle>> {
        self.0.values()
    }

    /// Number of trust domains.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no bundle is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, bundle: Arc<TrustBundle>) {
        self.0.insert(bundle.trust_domain().clone(), bundle);
    }

    /// Adds the bundles of `others` for the domains that have none here: a domain has one source, never a union.
    pub(crate) fn fill_from<'b>(&mut self, others: impl Iterator<Item = &'b Arc<TrustBundle>>) {
        for bundle in others {
            self.0.entry(bundle.trust_domain().clone()).or_insert_with(|| bundle.clone());
        }
    }

    /// What the Workload API delivered, without what was filled in.
    pub(crate) fn delivered(&self) -> BundleSet {
        Self(
            self.0
                .iter()
                .filter(|(_, b)| b.source == WORKLOAD_API)
                .map(|(d, b)| (d.clone(), b.clone()))
                .collect(),
        )
    }

    /// Whether both hold the same roots from the same sources.
    pub(crate) fn same_as(&self, other: &BundleSet) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((a, x), (b, y))| a == b && x.digest == y.digest && x.source == y.source)
    }
}
