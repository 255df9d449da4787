//! What can go wrong between a client and a server, told so that the reader knows what to do next.

use dir_core::{Class, Classified};
use std::fmt;

/// The closed set of things that go wrong. Scripts read the name ([`Kind::name`]), people the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is malformed, or two settings contradict each other.
    Config,
    /// The host name does not resolve.
    Dns,
    /// Nobody listens there.
    Refused,
    /// There is no way there: no route, no such socket, no permission.
    Unreachable,
    /// No connection, or no answer, within the bound.
    Timeout,
    /// The connection broke.
    Disconnected,
    /// One end speaks TLS and the other does not, or the other end is no gRPC server.
    Protocol,
    /// The server's certificate does not chain to a trusted authority, or is outside its validity.
    TlsUntrusted,
    /// The server's certificate is for another name.
    TlsName,
    /// The server's certificate carries no SPIFFE ID.
    NoUriSan,
    /// The server belongs to a trust domain that is not trusted or not expected.
    WrongTrustDomain,
    /// The server is another workload than the one expected.
    WrongIdentity,
    /// The server refused our certificate.
    TlsRefused,
    /// No SVID of our own in time.
    NoSvid,
    /// The server does not know who is calling.
    Unauthenticated,
    /// The server knows who is calling, and says no.
    Denied,
    /// The named thing does not exist.
    NotFound,
    /// What was sent is malformed.
    Invalid,
    /// The server's state contradicts the call.
    Precondition,
    /// Larger than the server accepts.
    TooLarge,
    /// Too many calls.
    RateLimited,
    /// The server cannot answer now.
    Unavailable,
    /// The server does not know this call, or answers with something this client does not know.
    VersionSkew,
    /// What arrived does not hash to the CID that was asked for.
    Corrupt,
    /// The call was cancelled.
    Cancelled,
    /// A fault of the server or of this client.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 26] = [
        Kind::Config,
        Kind::Dns,
        Kind::Refused,
        Kind::Unreachable,
        Kind::Timeout,
        Kind::Disconnected,
        Kind::Protocol,
        Kind::TlsUntrusted,
        Kind::TlsName,
        Kind::NoUriSan,
        Kind::WrongTrustDomain,
        Kind::WrongIdentity,
        Kind::TlsRefused,
        Kind::NoSvid,
        Kind::Unauthenticated,
        Kind::Denied,
        Kind::NotFound,
        Kind::Invalid,
        Kind::Precondition,
        Kind::TooLarge,
        Kind::RateLimited,
        Kind::Unavailable,
        Kind::VersionSkew,
        Kind::Corrupt,
        Kind::Cancelled,
        Kind::Internal,
    ];

    /// The stable name, as it appears in JSON output.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Dns => "dns",
            Kind::Refused => "refused",
            Kind::Unreachable => "unreachable",
            Kind::Timeout => "timeout",
            Kind::Disconnected => "disconnected",
            Kind::Protocol => "protocol",
            Kind::TlsUntrusted => "tls-untrusted",
            Kind::TlsName => "tls-name",
            Kind::NoUriSan => "no-uri-san",
            Kind::WrongTrustDomain => "wrong-trust-domain",
            Kind::WrongIdentity => "wrong-identity",
            Kind::TlsRefused => "tls-refused",
            Kind::NoSvid => "no-svid",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Denied => "denied",
            Kind::NotFound => "not-found",
            Kind::Invalid => "invalid",
            Kind::Precondition => "precondition",
            Kind::TooLarge => "too-large",
            Kind::RateLimited => "rate-limited",
            Kind::Unavailable => "unavailable",
            Kind::VersionSkew => "version-skew",
            Kind::Corrupt => "corrupt",
            Kind::Cancelled => "cancelled",
            Kind::Internal => "internal",
        }
    }

    /// The exit code of a program that ends because of it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::Dns | Kind::Refused | Kind::Unreachable => exit::UNREACHABLE,
            Kind::Timeout | Kind::Disconnected | Kind::Unavailable => exit::TEMPORARY,
            Kind::Config | Kind::Invalid | Kind::TooLarge => exit::CONFIG,
            Kind::NoSvid => exit::NO_SVID,
            Kind::Protocol
            | Kind::TlsUntrusted
            | Kind::TlsName
            | Kind::NoUriSan
            | Kind::WrongTrustDomain
            | Kind::WrongIdentity
            | Kind::TlsRefused => exit::IDENTITY,
            Kind::Unauthenticated | Kind::Denied => exit::DENIED,
            Kind::RateLimited => exit::RATE_LIMITED,
            Kind::Cancelled => exit::INTERRUPTED,
            Kind::NotFound | Kind::Precondition | Kind::VersionSkew | Kind::Corrupt | Kind::Internal => {
                exit::GENERIC
            }
        }
    }

    /// Whether the failure is about the connection or the caller, so that the next call would fail the same way.
    /// The others are about the one thing that was asked.
    pub const fn is_general(self) -> bool {
        !matches!(
            self,
            Kind::NotFound
                | Kind::Invalid
                | Kind::Precondition
                | Kind::TooLarge
                | Kind::Corrupt
                | Kind::Internal
        )
    }
}

/// Exit codes shared by every program of the product.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Something else went wrong.
    pub const GENERIC: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The server cannot be reached.
    pub const UNREACHABLE: u8 = 3;
    /// A setting or a document is wrong.
    pub const CONFIG: u8 = 4;
    /// No SVID in time.
    pub const NO_SVID: u8 = 6;
    /// TLS or identity mismatch.
    pub const IDENTITY: u8 = 7;
    /// Not allowed.
    pub const DENIED: u8 = 8;
    /// Too many calls.
    pub const RATE_LIMITED: u8 = 9;
    /// Some of it worked.
    pub const PARTIAL: u8 = 10;
    /// Temporary: trying again may work.
    pub const TEMPORARY: u8 = 75;
    /// Ended by Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// A failure: what was attempted, why it failed, what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    kind: Kind,
    what: String,
    cause: String,
    next: String,
}

impl ClientError {
    /// A failure of this kind. `what` names the attempt and its target, `cause` is the nearest reason known, `next`
    /// a step the reader can take (empty: the step that fits the kind).
    pub fn new(
        kind: Kind,
        what: impl Into<String>,
        cause: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { kind, what: what.into(), cause: cause.into(), next: next.into() }
    }

    /// What kind of failure.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What was attempted, with its target.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why it failed.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What the reader can do.
    pub fn next_step(&self) -> &str {
        if self.next.is_empty() { advice(self.kind) } else { &self.next }
    }

    /// The exit code of a program that ends because of it.
    pub const fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)
    }
}

impl std::error::Error for ClientError {}

impl Classified for ClientError {
    fn class(&self) -> Class {
        match self.kind {
            Kind::Config | Kind::Invalid => Class::Invalid,
            Kind::NotFound => Class::NotFound,
            Kind::Precondition => Class::FailedPrecondition,
            Kind::Unauthenticated
            | Kind::Protocol
            | Kind::TlsUntrusted
            | Kind::TlsName
            | Kind::NoUriSan
            | Kind::WrongTrustDomain
            | Kind::WrongIdentity
            | Kind::TlsRefused => Class::Unauthenticated,
            Kind::Denied => Class::Denied,
            Kind::TooLarge | Kind::RateLimited => Class::Exhausted,
            Kind::Dns
            | Kind::Refused
            | Kind::Unreachable
            | Kind::Disconnected
            | Kind::Unavailable
            | Kind::NoSvid => Class::Unavailable,
            Kind::Timeout => Class::Timeout,
            Kind::Cancelled => Class::Cancelled,
            Kind::VersionSkew => Class::Unimplemented,
            Kind::Corrupt => Class::Corrupt,
            Kind::Internal => Class::Internal,
        }
    }
}

/// The step that fits a kind when nothing better is known.
const fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "correct the setting named above",
        Kind::Dns => "check the spelling of the host, and that its DNS record exists",
        Kind::Refused => "check that the server runs and listens on that address and port",
        Kind::Unreachable => "check the address, the route to it and the rights on it",
        Kind::Timeout => {
            "check that a firewall or load balancer lets the port through; --timeout allows a longer wait"
        }
        Kind::Disconnected => "try again; the server may be restarting",
        Kind::Protocol => "check the port, and that client and server agree on --auth-mode",
        Kind::TlsUntrusted => {
            "check that the client trusts the authority that issued the server's certificate"
        }
        Kind::TlsName => "use the name the certificate was issued for, or name it with --tls-server-name",
        Kind::NoUriSan => {
            "SSL passthrough is probably off, so that a proxy or gateway answers instead of the server: check its \
             passthrough settings, and that the server has its SVID"
        }
        Kind::WrongTrustDomain => {
            "federate with that trust domain, or name the expected server with --expected-server-id"
        }
        Kind::WrongIdentity => "check the address, or correct --expected-server-id",
        Kind::TlsRefused => {
            "check that the server trusts the authority of this client's certificate, and that both clocks agree"
        }
        Kind::NoSvid => "check the Workload API socket and the registration entry of this workload",
        Kind::Unauthenticated => "authenticate: set --auth-mode",
        Kind::Denied => "ask an operator of the server for a rule that allows this call",
        Kind::NotFound => "check the CID; `search` finds what exists",
        Kind::Invalid => "correct what was sent",
        Kind::Precondition => "look at the state that the message names",
        Kind::TooLarge => "make it smaller, or have the server's limit raised",
        Kind::RateLimited => "slow down, and try again later",
        Kind::Unavailable => "try again later",
        Kind::VersionSkew => "compare the versions of client and server",
        Kind::Corrupt => "do not use the content; have the server's store verified",
        Kind::Cancelled => "run it again",
        Kind::Internal => "look into the server's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_table() {
        for (kind, code) in [
            (Kind::Internal, 1),
            (Kind::NotFound, 1),
            (Kind::Dns, 3),
            (Kind::Refused, 3),
            (Kind::Config, 4),
            (Kind::Invalid, 4),
            (Kind::NoSvid, 6),
            (Kind::NoUriSan, 7),
            (Kind::TlsName, 7),
            (Kind::WrongTrustDomain, 7),
            (Kind::Denied, 8),
            (Kind::Unauthenticated, 8),
            (Kind::RateLimited, 9),
            (Kind::Timeout, 75),
            (Kind::Unavailable, 75),
            (Kind::Cancelled, 130),
        ] {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn every_kind_has_its_own_name_and_an_advice() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let error = ClientError::new(kind, "push to x", "because", "");
            assert!(error.next_step().len() > 10, "{kind:?}");
            assert_eq!(error.to_string(), "push to x: because");
        }
        assert_eq!(ClientError::new(Kind::Dns, "a", "b", "do it").next_step(), "do it");
    }
}
