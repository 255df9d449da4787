//! What can go wrong between two trust domains.

use super::document::DocumentError;
use dir_core::{Class, Classified, TrustDomain};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a partner's bundle was not fetched. Whatever it is, the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL, or one that a redirect leads to, is not allowed.
    #[error("{url}: {reason}")]
    Url {
        /// The URL, without user and password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host has an address of this link or of a metadata service.
    #[error("{host} is at {ip}, a link-local or metadata address: bundles are not fetched from there")]
    Address {
        /// The host.
        host: String,
        /// Its address.
        ip: IpAddr,
    },
    /// The host name does not resolve.
    #[error("{host} does not resolve: {detail}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// Nobody answers.
    #[error("cannot connect to {host}: {detail}")]
    Connect {
        /// The host.
        host: String,
        /// What the system said.
        detail: String,
    },
    /// It took too long.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// The roots that an `https_web` endpoint is judged by cannot be read.
    #[error("roots for https_web: {0}")]
    Roots(String),
    /// There is nothing to judge an `https_spiffe` endpoint by.
    #[error("no bundle of {0} is held to verify its endpoint with: configure a bootstrap_file")]
    NoBundle(TrustDomain),
    /// The endpoint's certificate is refused.
    #[error("the endpoint's certificate is refused: {0}")]
    Endpoint(String),
    /// The endpoint's certificate is signed by a root that we do not know: the partner has replaced its CA faster
    /// than we looked, and no answer of its endpoint can be believed any more.
    #[error(
        "locked out: the endpoint's certificate is not signed by any root that we hold ({0}); the partner has \
         replaced its CA since the last fetch, or somebody else answers. Get its bundle by another way \
         (from the partner's operator, compared by fingerprint) and give it as a new bootstrap_file"
    )]
    LockedOut(String),
    /// TLS or HTTP broke.
    #[error("the endpoint: {0}")]
    Protocol(String),
    /// Another status than 200.
    #[error("the endpoint answers with status {0}")]
    Status(u16),
    /// One redirect after the other.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// The document cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The document is older than the one that is held.
    #[error("the sequence number goes back from {held} to {offered}: an older bundle is not taken")]
    Sequence {
        /// What we have.
        held: u64,
        /// What was offered.
        offered: String,
    },
}

impl FetchError {
    /// One word for logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Address { .. } => "address",
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout(_) => "timeout",
            Self::Roots(_) => "roots",
            Self::NoBundle(_) => "no_bundle",
            Self::Endpoint(_) => "endpoint",
            Self::LockedOut(_) => "locked_out",
            Self::Protocol(_) => "protocol",
            Self::Status(_) => "status",
            Self::Redirects(_) => "redirects",
            Self::Document(DocumentError::TooLong) => "too_long",
            Self::Document(DocumentError::OtherDomain { .. }) => "other_domain",
            Self::Document(_) => "document",
            Self::Sequence { .. } => "sequence",
        }
    }
}

/// Why federation cannot be started: always a fault of the configuration or of this machine, never of a partner.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// A partner is our own trust domain.
    #[error("{0} is our own trust domain: its bundle comes from the Workload API alone")]
    OwnDomain(TrustDomain),
    /// A partner is there twice.
    #[error("{0} is configured twice")]
    Duplicate(TrustDomain),
    /// A partner has neither an endpoint nor a file.
    #[error("{0} needs a url, a bootstrap_file, or both")]
    NoSource(TrustDomain),
    /// A partner's URL is not allowed.
    #[error("{domain}: {error}")]
    Url {
        /// Whose.
        domain: TrustDomain,
        /// What is wrong.
        error: FetchError,
    },
    /// The directory for last good bundles cannot be made.
    #[error("cannot make {path}: {source}")]
    StateDir {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Our own bundle cannot be published.
    #[error("cannot serve our bundle at {address}: {detail}")]
    Publish {
        /// Where.
        address: SocketAddr,
        /// Why.
        detail: String,
    },
}

impl Classified for FederationError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir { .. } | Self::Publish { .. } => Class::Internal,
            _ => Class::Invalid,
        }
    }
}
