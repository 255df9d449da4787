//! Who the partners are and how their bundles are obtained.

use dir_core::{SpiffeId, TrustDomain};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Shortest refresh interval, and the first pause after a failure.
pub const REFRESH_MIN: Duration = Duration::from_secs(30);
/// Longest refresh interval.
pub const REFRESH_MAX: Duration = Duration::from_secs(24 * 3600);
/// Refresh interval for a publisher that gives no hint.
pub const REFRESH_UNHINTED: Duration = Duration::from_secs(300);
/// Longest pause after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// A bundle that could not be confirmed for so long is trusted no more.
pub const STALE_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// A fetch, redirects included, takes no longer.
pub const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// How an endpoint proves who it is (SPIFFE Federation, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// By a certificate of the public kind.
    HttpsWeb {
        /// PEM file of roots; without it those of this machine.
        ca_file: Option<PathBuf>,
    },
    /// By its SVID, judged by the bundle of its trust domain.
    HttpsSpiffe {
        /// Exactly whose SVID.
        id: SpiffeId,
    },
}

/// One partner trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Where its bundle is published, and how that place proves itself. Without it only the file counts.
    pub source: Option<(Url, Endpoint)>,
    /// Its first bundle: a SPIFFE bundle document, or the roots in PEM.
    pub bootstrap_file: Option<PathBuf>,
    /// Shortest refresh interval; within [`REFRESH_MIN`] and [`REFRESH_MAX`].
    pub refresh_min: Duration,
    /// Longest refresh interval; within the same.
    pub refresh_max: Duration,
    /// How long the last good bundle stays in force while the endpoint fails.
    pub max_stale: Duration,
}

impl Partner {
    /// A partner with default limits.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            source: None,
            bootstrap_file: None,
            refresh_min: REFRESH_MIN,
            refresh_max: REFRESH_MAX,
            max_stale: STALE_AFTER,
        }
    }
}

/// What the federation manager needs to know.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// The partners.
    pub partners: Vec<Partner>,
    /// Directory for the last good bundles; without it a restart begins with the bootstrap files.
    pub state_dir: Option<PathBuf>,
    /// Longest fetch; default [`FETCH_LIMIT`].
    pub fetch_limit: Duration,
    /// How often the clock is looked at; default 1 s.
    pub tick: Duration,
    /// Whether link-local and metadata addresses may be dialled; default no.
    pub allow_link_local: bool,
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            partners: Vec::new(),
            state_dir: None,
            fetch_limit: FETCH_LIMIT,
            tick: Duration::from_secs(1),
            allow_link_local: false,
        }
    }
}
