//! A bundle fetched once, by somebody who may not trust the partner yet: known fingerprints take the place of a bundle.

use super::config::Endpoint;
use super::document::{BundleDocument, DocumentError, fingerprint};
use super::error::FetchError;
use super::fetch::{Fetch, blind_tls, check_url, spiffe_tls, web_tls};
use dir_core::{Clock, TrustDomain};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Where the roots of a bundle come from, as reports name it.
const GIVEN: &str = "given";

/// What is fetched, and what is known beforehand.
#[derive(Debug, Clone)]
pub struct Once {
    /// The endpoint.
    pub url: String,
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// How the endpoint proves itself.
    pub endpoint: Endpoint,
    /// A bundle of the trust domain that is trusted already: a SPIFFE bundle document, or roots in PEM.
    pub bootstrap_file: Option<PathBuf>,
    /// SHA-256 of roots (of their DER) that are known to be the partner's, lower-case hex.
    pub fingerprints: BTreeSet<String>,
    /// Bound on all of it.
    pub limit: Duration,
}

/// Why a bundle may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// Nothing vouches for it: whoever answered may have made it up.
    Nothing,
    /// The endpoint has a certificate of the public kind.
    Web,
    /// The endpoint has an SVID by the bundle that was trusted already.
    Bootstrap,
    /// The endpoint has an SVID by a root whose fingerprint was known.
    Fingerprint,
}

/// What was fetched.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The document as it was sent.
    pub text: Vec<u8>,
    /// What it says.
    pub document: BundleDocument,
    /// Why it may be believed.
    pub vouched: Vouched,
}

/// Why a bundle was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// It could not be fetched, or is no bundle of this trust domain.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The file with the trusted bundle cannot be used.
    #[error("{0}")]
    Bootstrap(String),
    /// A fingerprint that was given is not that of any root.
    #[error("no authority of the bundle has the fingerprint {missing}; it has {}", offered.join(", "))]
    Fingerprint {
        /// The first one that is missing.
        missing: String,
        /// Those of the roots that were offered.
        offered: Vec<String>,
    },
}

impl From<DocumentError> for OnceError {
    fn from(error: DocumentError) -> Self {
        Self::Fetch(error.into())
    }
}

/// SHA-256 of a root's DER, lower-case hex.
pub fn root_fingerprint(der: &[u8]) -> String {
    fingerprint(der)
}

impl Once {
    /// Fetches, and judges as far as anything is known. With a fingerprint alone an `https_spiffe` endpoint is asked
    /// twice: once to see its roots, and once more with the TLS of the second time judged by the roots that are known.
    pub async fn fetch(&self, clock: &Arc<dyn Clock>) -> Result<Bundle, OnceError> {
        let limit = self.limit;
        let fetched = tokio::time::timeout(limit, self.fetch_unbounded(clock)).await;
        fetched.unwrap_or(Err(OnceError::Fetch(FetchError::Timeout(limit))))
    }

    async fn fetch_unbounded(&self, clock: &Arc<dyn Clock>) -> Result<Bundle, OnceError> {
        let reason = "it is no URL";
        let url =
            Url::parse(&self.url).map_err(|_no_url| FetchError::Url { url: self.url.clone(), reason })?;
        check_url(&url)?;
        let (text, vouched) = match &self.endpoint {
            Endpoint::HttpsWeb { ca_file } => {
                let (ca_file, clock) = (ca_file.clone(), clock.clone());
                let tls = tokio::task::spawn_blocking(move || web_tls(ca_file.as_deref(), &clock)).await;
                let tls = tls.map_err(|e| FetchError::Roots(e.to_string()))??;
                (self.get(&url, tls).await?, Vouched::Web)
            }
            Endpoint::HttpsSpiffe { id } => {
                let (roots, vouched) = if let Some(path) = &self.bootstrap_file {
                    (read_bootstrap(path.clone()).await?, Vouched::Bootstrap)
                } else {
                    let seen = self.get(&url, blind_tls(clock)?).await?;
                    let document = self.document(&seen)?;
                    self.confirm(&document)?;
                    if self.fingerprints.is_empty() {
                        return Ok(Bundle { text: seen, document, vouched: Vouched::Nothing });
                    }
                    (self.known(document), Vouched::Fingerprint)
                };
                let trusted = Arc::new(roots.bundle(id.trust_domain(), GIVEN)?);
                (self.get(&url, spiffe_tls(&trusted, id, clock)?).await?, vouched)
            }
        };
        let document = self.document(&text)?;
        self.confirm(&document)?;
        Ok(Bundle { text, document, vouched })
    }

    async fn get(&self, url: &Url, tls: Arc<rustls::ClientConfig>) -> Result<Vec<u8>, FetchError> {
        let redirects = self.endpoint.redirects();
        Fetch { tls, redirects, url, allow_link_local: false }.run().await
    }

    /// Reads the document; its roots must be those of the trust domain.
    fn document(&self, text: &[u8]) -> Result<BundleDocument, DocumentError> {
        let document = BundleDocument::parse(text)?;
        document.bundle(&self.trust_domain, GIVEN)?;
        Ok(document)
    }

    fn confirm(&self, document: &BundleDocument) -> Result<(), OnceError> {
        let offered: Vec<String> = document.x509_roots.iter().map(|der| fingerprint(der)).collect();
        match self.fingerprints.iter().find(|known| !offered.contains(known)) {
            Some(missing) => Err(OnceError::Fingerprint { missing: missing.clone(), offered }),
            None => Ok(()),
        }
    }

    /// The roots whose fingerprints are known, and nothing else.
    fn known(&self, mut document: BundleDocument) -> BundleDocument {
        document.x509_roots.retain(|der| self.fingerprints.contains(&fingerprint(der)));
        document
    }
}

async fn read_bootstrap(path: PathBuf) -> Result<BundleDocument, OnceError> {
    let read = tokio::task::spawn_blocking(move || super::disk::bootstrap(&path)).await;
    let (document, _) = read.unwrap_or_else(|e| Err(e.to_string())).map_err(OnceError::Bootstrap)?;
    Ok(document)
}
