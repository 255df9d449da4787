//! Why a handshake was refused: a closed set, one word each, for the log and the counter.

use rustls::CertificateError;
use std::fmt;

/// The reason, as it appears in the log and in `handshake_failures_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefuseReason {
    /// The client sent no certificate.
    NoClientCertificate,
    /// The chain does not lead to a root of the leaf's own trust domain, or cannot be read.
    BadChain,
    /// No bundle, or an empty one, is held for the trust domain.
    UnknownTrustDomain,
    /// No rule of the policy names the trust domain.
    DomainNotAllowed,
    /// The leaf has expired.
    Expired,
    /// The leaf is not valid yet.
    NotYetValid,
    /// No URI SAN, or one that is no SPIFFE ID.
    NoUriSan,
    /// More than one URI SAN.
    MultipleUriSan,
    /// The leaf is a CA certificate.
    LeafIsCa,
    /// The leaf's KeyUsage is absent, lacks digitalSignature, or allows signing certificates or CRLs.
    LeafKeyUsage,
    /// The leaf has an extended key usage without the one that is needed.
    LeafEku,
    /// The SPIFFE ID is that of a trust domain, not of a workload.
    RootPathId,
    /// The SPIFFE ID has more than 2048 bytes.
    IdTooLong,
    /// TLS version, cipher suites or messages do not fit.
    Protocol,
    /// HTTP/2 was not negotiated.
    Alpn,
    /// The handshake took too long.
    Timeout,
    /// The PROXY header is missing, malformed, or of somebody who is not believed.
    ProxyHeader,
    /// We hold no valid SVID.
    NoServerSvid,
    /// A valid SVID, but not the one (or the trust domain) that was expected.
    UnexpectedId,
    /// The peer refused us: it sent an alert.
    PeerAlert,
    /// The peer went away during the handshake.
    Disconnected,
    /// The cap on all connections.
    LimitTotal,
    /// The cap on connections from one address.
    LimitPerIp,
    /// The cap on connections of one identity.
    LimitPerIdentity,
    /// Too many new connections from one address.
    RatePerIp,
}

impl RefuseReason {
    /// Every reason, so that each counter exists from the start.
    pub const ALL: [RefuseReason; 25] = [
        Self::NoClientCertificate,
        Self::BadChain,
        Self::UnknownTrustDomain,
        Self::DomainNotAllowed,
        Self::Expired,
        Self::NotYetValid,
        Self::NoUriSan,
        Self::MultipleUriSan,
        Self::LeafIsCa,
        Self::LeafKeyUsage,
        Self::LeafEku,
        Self::RootPathId,
        Self::IdTooLong,
        Self::Protocol,
        Self::Alpn,
        Self::Timeout,
        Self::ProxyHeader,
        Self::NoServerSvid,
        Self::UnexpectedId,
        Self::PeerAlert,
        Self::Disconnected,
        Self::LimitTotal,
        Self::LimitPerIp,
        Self::LimitPerIdentity,
        Self::RatePerIp,
    ];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoClientCertificate => "no_client_certificate",
            Self::BadChain => "bad_chain",
            Self::UnknownTrustDomain => "unknown_trust_domain",
            Self::DomainNotAllowed => "domain_not_allowed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoUriSan => "no_uri_san",
            Self::MultipleUriSan => "multiple_uri_san",
            Self::LeafIsCa => "leaf_is_ca",
            Self::LeafKeyUsage => "leaf_key_usage",
            Self::LeafEku => "leaf_eku",
            Self::RootPathId => "root_path_id",
            Self::IdTooLong => "id_too_long",
            Self::Protocol => "protocol",
            Self::Alpn => "alpn",
            Self::Timeout => "timeout",
            Self::ProxyHeader => "proxy_header",
            Self::NoServerSvid => "no_server_svid",
            Self::UnexpectedId => "unexpected_id",
            Self::PeerAlert => "peer_alert",
            Self::Disconnected => "disconnected",
            Self::LimitTotal => "limit_total",
            Self::LimitPerIp => "limit_per_ip",
            Self::LimitPerIdentity => "limit_per_identity",
            Self::RatePerIp => "rate_per_ip",
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a certificate says of itself, for messages about it. Never proof of anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presented {
    /// Subject, RFC 4514 like, control characters replaced, at most 256 characters.
    pub subject: String,
    /// Issuer, in the same form.
    pub issuer: String,
    /// Its DNS names.
    pub dns_names: Vec<String>,
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject \"{}\", issuer \"{}\"", self.subject, self.issuer)?;
        if !self.dns_names.is_empty() {
            write!(f, ", DNS names {}", self.dns_names.join(" "))?;
        }
        Ok(())
    }
}

/// What the chain builder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainFault {
    UnknownIssuer,
    BadSignature,
    Other,
}

/// A refusal: reason, one sentence of detail, and what was presented.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The reason.
    pub reason: RefuseReason,
    /// What exactly was wrong.
    pub detail: String,
    /// The certificate in question, if it could be read.
    pub presented: Option<Box<Presented>>,
    /// What the chain builder said; it decides the alert.
    pub(crate) chain: ChainFault,
}

impl Refusal {
    pub(crate) fn new(reason: RefuseReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), presented: None, chain: ChainFault::Other }
    }

    pub(crate) fn with_presented(mut self, presented: Presented) -> Self {
        self.presented = Some(Box::new(presented));
        self
    }

    /// The same for rustls. Alerts: 45 for time, 48, 51 or 42 for a chain, 40 for everything else.
    pub(crate) fn to_rustls(&self) -> rustls::Error {
        match self.reason {
            RefuseReason::Expired => CertificateError::Expired.into(),
            RefuseReason::NotYetValid => CertificateError::NotValidYet.into(),
            RefuseReason::BadChain => match self.chain {
                ChainFault::UnknownIssuer => CertificateError::UnknownIssuer.into(),
                ChainFault::BadSignature => CertificateError::BadSignature.into(),
                ChainFault::Other => CertificateError::BadEncoding.into(),
            },
            _ => rustls::Error::General(self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_is_listed_once_with_its_own_word() {
        let words: BTreeSet<_> = RefuseReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), RefuseReason::ALL.len());
        assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
