//! Who is calling: SPIFFE IDs, trust domains, principals. Authority comes from the handshake alone.

pub use crate::principal::{CLAIM_MAX, DelegatedError, OIDC_MAX, OidcPrincipal, Principal, RoleClaims};
use crate::time::Timestamp;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Longest SPIFFE ID that is accepted, in bytes (SPIFFE-ID, section 2.3).
pub const SPIFFE_ID_MAX: usize = 2048;
/// Longest trust domain name, in bytes (SPIFFE-ID, section 2.1).
pub const TRUST_DOMAIN_MAX: usize = 255;

/// Why a text is not a SPIFFE ID or trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Does not start with `spiffe://`.
    #[error("a SPIFFE ID starts with spiffe://")]
    Scheme,
    /// Empty, over 255 bytes, or a character outside `a-z 0-9 . - _`.
    #[error("a trust domain has 1 to 255 characters of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// An empty, `.` or `..` segment, a trailing slash, or a character outside `A-Z a-z 0-9 . - _`.
    #[error(
        "path segments have characters of A-Z, a-z, 0-9, '.', '-' and '_', and are not empty, '.' or '..'"
    )]
    Path,
    /// Longer than 2048 bytes.
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
}

/// A trust domain name, lower case, such as `example.org`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;
    /// Accepts `example.org` (any case; stored lower case). A `spiffe://` prefix is not accepted here.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower = text.to_ascii_lowercase();
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if lower.is_empty() || lower.len() > TRUST_DOMAIN_MAX || !lower.bytes().all(good) {
            return Err(IdError::TrustDomain);
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID such as `spiffe://example.org/ns/dir/sa/apiserver`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path with its leading slash; empty for the root ID of a trust domain.
    pub fn path(&self) -> &str {
        &self.text["spiffe://".len() + self.domain.as_str().len()..]
    }

    /// Whether this is the root ID (no path), which no workload may carry.
    pub fn is_root(&self) -> bool {
        self.path().is_empty()
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > SPIFFE_ID_MAX {
            return Err(IdError::TooLong);
        }
        let scheme = text.get(..9).ok_or(IdError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("spiffe://") {
            return Err(IdError::Scheme);
        }
        let rest = &text[9..];
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let domain: TrustDomain = host.parse()?;
        if !path.is_empty() {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            for segment in path[1..].split('/') {
                if matches!(segment, "" | "." | "..") || !segment.bytes().all(good) {
                    return Err(IdError::Path);
                }
            }
        }
        Ok(Self { text: format!("spiffe://{domain}{path}").into(), domain })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything that is known about a connection once its handshake is done. Made once, shared by its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Number of the connection within this process.
    pub conn_id: u64,
    /// Who is at the other end.
    pub principal: Principal,
    /// Address of the TCP peer (behind passthrough: the proxy).
    pub addr: SocketAddr,
    /// The client that a trusted proxy speaks for (PROXY protocol), where it is known.
    pub real_addr: Option<SocketAddr>,
    /// Serial number of the peer's SVID, lower-case hex; empty without one.
    pub serial: String,
    /// Start of validity of the peer's SVID.
    pub not_before: Option<Timestamp>,
    /// End of validity of the peer's SVID: the connection does not outlive it.
    pub not_after: Option<Timestamp>,
    /// Server name that the client asked for.
    pub sni: Option<String>,
    /// `TLSv1.3`, … ; empty in plaintext.
    pub tls_version: String,
    /// When the handshake was done.
    pub opened_at: Timestamp,
}

/// A trust bundle as held in memory: no keys, no certificates, only what operators ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleReport {
    /// Whose roots these are.
    pub trust_domain: TrustDomain,
    /// Where it came from: `workload_api`, `federation` or `bootstrap_file`.
    pub source: String,
    /// Number of X.509 authorities.
    pub authorities: usize,
    /// When the content was last received.
    pub updated_at: Timestamp,
    /// The earliest end of validity among its roots.
    pub earliest_expiry: Option<Timestamp>,
}

/// What a node can say of its own identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityReport {
    /// Our SPIFFE ID.
    pub id: SpiffeId,
    /// DNS names of our SVID, in certificate order.
    pub dns_names: Vec<String>,
    /// Serial number of our SVID, lower-case hex.
    pub serial: String,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Number of snapshots since the start.
    pub generation: u64,
    /// Every bundle held, own trust domain first.
    pub bundles: Vec<BundleReport>,
}

/// Where a node's [`IdentityReport`] comes from; `None` when it runs without identity.
pub trait IdentityStatus: Send + Sync {
    /// The state at this moment.
    fn report(&self) -> Option<IdentityReport>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        let id: SpiffeId = "SPIFFE://Example.ORG/ns/Dir".parse().unwrap();
        assert_eq!(id.as_str(), "spiffe://example.org/ns/Dir");
        assert_eq!(id.trust_domain().as_str(), "example.org");
        assert_eq!(id.path(), "/ns/Dir");
        assert!("spiffe://a".parse::<SpiffeId>().unwrap().is_root());
        let edge = format!("spiffe://a/{}", "x".repeat(SPIFFE_ID_MAX - 11));
        assert!(edge.parse::<SpiffeId>().is_ok());
        assert_eq!(format!("{edge}x").parse::<SpiffeId>(), Err(IdError::TooLong));
        assert!("d".repeat(255).parse::<TrustDomain>().is_ok());
        assert_eq!("d".repeat(256).parse::<TrustDomain>(), Err(IdError::TrustDomain));
    }

    #[test]
    fn refused_forms() {
        for (text, error) in [
            ("https://a/b", IdError::Scheme),
            ("spiffe:/", IdError::Scheme),
            ("spiffe://", IdError::TrustDomain),
            ("spiffe:///a", IdError::TrustDomain),
            ("spiffe://a:1/b", IdError::TrustDomain),
            ("spiffe://u@a/b", IdError::TrustDomain),
            ("spiffe://a%20/b", IdError::TrustDomain),
            ("spiffe://a/", IdError::Path),
            ("spiffe://a/b/", IdError::Path),
            ("spiffe://a//b", IdError::Path),
            ("spiffe://a/./b", IdError::Path),
            ("spiffe://a/../b", IdError::Path),
            ("spiffe://a/b?c", IdError::Path),
            ("spiffe://a/b#c", IdError::Path),
            ("spiffe://a/b%41", IdError::Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text}");
        }
    }
}
