//! From what was seen to one cause and one next step. Pure: a table says what every combination means.

use super::{Met, Sighting};
use crate::error::{ClientError, Kind, exit};
use dir_core::Timestamp;
use dir_identity::{RefuseReason, Seen};

/// What an endpoint amounts to. Scripts read the name ([`Cause::name`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The server ends TLS itself, and answers.
    Healthy,
    /// The name does not resolve.
    Dns,
    /// Nobody listens.
    Refused,
    /// There is no way there.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The server speaks gRPC in plaintext.
    PlaintextServer,
    /// A web server or HTTP proxy answers in plaintext.
    HttpProxy,
    /// Something answers, and not in TLS.
    NotTls,
    /// The connection was closed during the handshake.
    Closed,
    /// The server broke the handshake off.
    HandshakeRefused,
    /// A proxy ends TLS for a host it does not know.
    HostNotRouted,
    /// A proxy ends TLS with its default certificate for a host it knows.
    IngressDefaultCertificate,
    /// A proxy ends TLS with a certificate of its own.
    PassthroughOff,
    /// The server has no SVID but another certificate.
    NoUriSan,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// No bundle is held for the server's trust domain.
    ForeignTrustDomain,
    /// The chain does not lead to the bundle, or the leaf breaks a rule.
    Untrusted,
    /// A good SVID of another server than the one expected.
    UnexpectedServer,
    /// TLS 1.2 or older.
    OldTls,
    /// HTTP/2 was not agreed on.
    WrongAlpn,
    /// This client has no SVID to show.
    NoIdentity,
    /// The certificate is for another name, where servers are checked by name.
    WrongName,
    /// The server refused this client's token.
    TokenRefused,
    /// The server refused this client's certificate.
    ClientRefused,
    /// It answers that it does not serve now.
    NotServing,
    /// The handshake holds, and the gRPC call fails.
    GrpcFailed,
}

impl Cause {
    /// The stable name, as it appears in JSON output.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Healthy => "healthy",
            Cause::Dns => "dns",
            Cause::Refused => "refused",
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::PlaintextServer => "plaintext-server",
            Cause::HttpProxy => "http-proxy",
            Cause::NotTls => "not-tls",
            Cause::Closed => "closed",
            Cause::HandshakeRefused => "handshake-refused",
            Cause::HostNotRouted => "host-not-routed",
            Cause::IngressDefaultCertificate => "ingress-default-certificate",
            Cause::PassthroughOff => "passthrough-off",
            Cause::NoUriSan => "no-uri-san",
            Cause::Expired => "expired",
            Cause::NotYetValid => "not-yet-valid",
            Cause::ForeignTrustDomain => "foreign-trust-domain",
            Cause::Untrusted => "untrusted",
            Cause::UnexpectedServer => "unexpected-server",
            Cause::OldTls => "old-tls",
            Cause::WrongAlpn => "wrong-alpn",
            Cause::NoIdentity => "no-identity",
            Cause::WrongName => "wrong-name",
            Cause::TokenRefused => "token-refused",
            Cause::ClientRefused => "client-refused",
            Cause::NotServing => "not-serving",
            Cause::GrpcFailed => "grpc-failed",
        }
    }

    /// The exit code of a program that ends because of it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Cause::Healthy => exit::OK,
            Cause::Dns | Cause::Refused | Cause::Unreachable => exit::UNREACHABLE,
            Cause::Timeout | Cause::NotServing => exit::TEMPORARY,
            Cause::NoIdentity => exit::NO_SVID,
            Cause::GrpcFailed => exit::GENERIC,
            Cause::TokenRefused => exit::DENIED,
            _ => exit::IDENTITY,
        }
    }
}

/// What is known of the server's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// There is nothing to judge it by: no SVID of our own, for this reason.
    Unjudged(String),
    /// It holds, and it is the server expected.
    Holds,
    /// It does not.
    Refused(RefuseReason, String),
}

/// Everything that was seen.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who answered.
    pub met: Met,
    /// The leaf certificate, if one was shown.
    pub leaf: Option<Seen>,
    /// The name that was asked for.
    pub server_name: String,
    /// Whether it was sent.
    pub sni: bool,
    /// Servers are checked by name in this client's auth mode: a certificate without SPIFFE ID is in order.
    pub by_name: bool,
    /// This machine's clock.
    pub now: Timestamp,
    /// What is known of the chain.
    pub trust: Trust,
    /// The answer to a health call (`true`: it serves); `None` where none was made.
    pub grpc: Option<Result<bool, ClientError>>,
}

/// One cause, what it means here, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// What was seen.
    pub text: String,
    /// A command or a step; empty when all is well.
    pub next: String,
}

fn found(cause: Cause, text: impl Into<String>, next: impl Into<String>) -> Verdict {
    Verdict { cause, text: text.into(), next: next.into() }
}

/// The nearest cause: what is farther away from the server is judged first.
pub fn verdict(facts: &Facts) -> Verdict {
    match &facts.met {
        Met::Tls(sighting) => of_tls(facts, sighting),
        other => of_no_tls(other),
    }
}

fn of_no_tls(met: &Met) -> Verdict {
    match met {
        Met::Refused => found(
            Cause::Refused,
            "connection refused: nobody listens there",
            "check that server and load balancer are up, and the port",
        ),
        Met::Unreachable(why) => {
            found(Cause::Unreachable, why.as_str(), "check the address and the route to it")
        }
        Met::Timeout => found(
            Cause::Timeout,
            "no answer in time",
            "check that firewalls and load balancers let the port through; --timeout allows a longer wait",
        ),
        Met::Alert(alert) => found(
            Cause::HandshakeRefused,
            format!("the server broke the handshake off: {alert}"),
            "check what listens there: a directory server speaks TLS 1.3 and ALPN h2",
        ),
        Met::Closed => found(
            Cause::Closed,
            "the connection was closed during the handshake",
            "look into the server's log: it may hold no SVID yet, wait for a PROXY header (listen.proxy_protocol), or \
             be at its connection limit; a load balancer without a backend does the same",
        ),
        Met::PlainHttp2 => found(
            Cause::PlaintextServer,
            "the server speaks gRPC in plaintext",
            "switch authn.enabled on at the server, or use --auth-mode insecure with grpc:// on a trusted network",
        ),
        Met::PlainHttp1(status) => found(
            Cause::HttpProxy,
            match status {
                Some(status) => {
                    format!("a web server or HTTP proxy answers in plaintext (HTTP status {status})")
                }
                None => "a web server or HTTP proxy answers in plaintext".to_owned(),
            },
            "check the port; where a proxy is in the way, have it pass TLS through unopened (TCP, not HTTP)",
        ),
        Met::NotTls | Met::Tls(_) => found(
            Cause::NotTls,
            "what answers speaks neither TLS nor HTTP",
            "check the port: another service listens there",
        ),
    }
}

fn of_tls(facts: &Facts, sighting: &Sighting) -> Verdict {
    let Some(leaf) = &facts.leaf else {
        return found(Cause::Untrusted, "the server's certificate cannot be read", "");
    };
    if leaf.spiffe_id.is_none() && !facts.by_name {
        return of_stranger(facts, sighting, leaf);
    }
    of_svid(facts, leaf).unwrap_or_else(|| of_connection(facts, sighting))
}

/// Subjects of certificates that ingress controllers and the like show when they have no better one.
const DEFAULT_CERTIFICATES: [&str; 5] = [
    "ingress.local",
    "Ingress Controller Fake",
    "Fallback Certificate",
    "TRAEFIK DEFAULT",
    "Default Certificate",
];

/// Somebody else ends TLS, or the server has no SVID.
fn of_stranger(facts: &Facts, sighting: &Sighting, leaf: &Seen) -> Verdict {
    let presented = &leaf.presented;
    let shown = format!("the certificate has no SPIFFE ID: {presented}");
    if presented.issuer.contains("O=SPIFFE") || presented.subject.contains("O=SPIRE") {
        return found(
            Cause::NoUriSan,
            format!("the server's SVID has no single SPIFFE ID as URI SAN: {presented}"),
            "correct the registration entry of the server, then: spire-agent api fetch x509",
        );
    }
    if !facts.sni {
        return found(
            Cause::IngressDefaultCertificate,
            format!("without a name a proxy shows its default certificate: {presented}"),
            "this is what proxies do without SNI; leave --no-sni away",
        );
    }
    let host = &facts.server_name;
    let texts = presented.dns_names.iter().chain([&presented.subject]);
    let is_default = texts.clone().any(|text| DEFAULT_CERTIFICATES.iter().any(|d| text.contains(d)));
    if sighting.http_status == Some(404) {
        return found(
            Cause::HostNotRouted,
            format!("a proxy that has no rule for {host} answers; {shown}"),
            format!(
                "compare the host rule (kubectl get ingress -A) with {host}, and check that DNS leads to the load \
                 balancer of that ingress: dirctl verify tls --resolve {host}:IP"
            ),
        );
    }
    if is_default {
        return found(
            Cause::IngressDefaultCertificate,
            format!("a proxy ends TLS with its default certificate; {shown}"),
            "start the ingress controller with --enable-ssl-passthrough, and annotate the Ingress with \
             nginx.ingress.kubernetes.io/ssl-passthrough: \"true\"",
        );
    }
    found(
        Cause::PassthroughOff,
        format!("a proxy or gateway ends TLS with its own certificate for {host}; {shown}"),
        "switch SSL passthrough on for this host: annotation nginx.ingress.kubernetes.io/ssl-passthrough: \"true\" and \
         no secretName in the Ingress, or a TCP listener at the load balancer",
    )
}

/// The SVID itself, and whether it may be trusted.
fn of_svid(facts: &Facts, leaf: &Seen) -> Option<Verdict> {
    let what = if leaf.spiffe_id.is_some() { "SVID" } else { "certificate" };
    let late = facts.now.seconds_since(leaf.not_after);
    if late > 0 {
        return Some(found(
            Cause::Expired,
            format!("the server's {what} expired {late} seconds ago"),
            "check the server's agent (its /readyz says why), and compare the clocks of both machines",
        ));
    }
    let early = leaf.not_before.seconds_since(facts.now);
    if early > 0 {
        return Some(found(
            Cause::NotYetValid,
            format!("the server's {what} becomes valid in {early} seconds"),
            "compare the clocks of both machines",
        ));
    }
    let Trust::Refused(reason, text) = &facts.trust else { return None };
    if facts.by_name {
        // The connection itself was the judge, and says more.
        return None;
    }
    let id = leaf.spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default();
    Some(match reason {
        RefuseReason::UnknownTrustDomain => found(
            Cause::ForeignTrustDomain,
            format!("the server is {id}, and {text}"),
            "federate with that trust domain (federatesWith on the registration entry of this workload), or check the \
             address",
        ),
        RefuseReason::UnexpectedId => found(
            Cause::UnexpectedServer,
            text.as_str(),
            "name the server with --expected-server-id if it is the right one, or check the address",
        ),
        _ => found(
            Cause::Untrusted,
            format!("the SVID of {id} is refused: {text}"),
            "another authority issued it: compare `spire-server bundle show` of both sides",
        ),
    })
}

/// The SVID holds, as far as it could be judged: what else is in the way?
fn of_connection(facts: &Facts, sighting: &Sighting) -> Verdict {
    if sighting.version == "TLSv1.2" && !facts.by_name {
        return found(
            Cause::OldTls,
            "the server agreed on TLS 1.2 at most",
            "let it speak TLS 1.3: SPIFFE clients of this product need it",
        );
    }
    if sighting.refused_h2 || (sighting.version != "unknown" && sighting.alpn.as_deref() != Some("h2")) {
        return found(
            Cause::WrongAlpn,
            format!("ALPN {}: the server does not agree on h2", sighting.alpn.as_deref().unwrap_or("none")),
            "gRPC needs HTTP/2: check what listens there, and what a TLS proxy in front offers",
        );
    }
    match (&facts.grpc, &facts.trust) {
        (Some(Ok(true)), _) if facts.by_name => {
            found(Cause::Healthy, "the certificate holds for this name, and the server behind it serves", "")
        }
        (Some(Ok(true)), _) => found(Cause::Healthy, "the server ends TLS itself and serves", ""),
        (Some(Ok(false)), _) => found(
            Cause::NotServing,
            "the handshake holds, and the server says that it does not serve now",
            "its ops listener says why: GET /readyz",
        ),
        (Some(Err(error)), _) => of_failed_call(error),
        (None, Trust::Unjudged(why)) => found(
            Cause::NoIdentity,
            format!("the server shows an SVID that could not be judged, for want of one of our own: {why}"),
            "dirctl doctor",
        ),
        (None, _) => found(Cause::Healthy, "the server ends TLS itself", ""),
    }
}

fn of_failed_call(error: &ClientError) -> Verdict {
    let cause = match error.kind() {
        Kind::TlsUntrusted => Cause::Untrusted,
        Kind::TlsName => Cause::WrongName,
        Kind::Unauthenticated => Cause::TokenRefused,
        Kind::TlsRefused | Kind::Disconnected => Cause::ClientRefused,
        Kind::NoSvid => Cause::NoIdentity,
        Kind::Timeout => Cause::Timeout,
        Kind::Unavailable => Cause::NotServing,
        _ => Cause::GrpcFailed,
    };
    found(cause, format!("{}: {}", error.what(), error.cause()), error.next_step())
}

#[cfg(test)]
mod tests;
