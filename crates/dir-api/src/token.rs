//! Callers without a certificate: the bearer token of each call says who makes it.

use crate::conn::Shared;
use crate::status;
use dir_core::{Peer, Principal, Timestamp, TokenIdentity, TokenVerifier};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use prometheus::{IntCounterVec, Opts, Registry};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::Status;

/// Words of the counter for headers that hold no token; those of tokens come from the verifier.
const MISSING: &str = "missing_header";
const FORM: &str = "header_format";

/// Who verifies tokens, and the sign that its keys have changed: open calls are judged again by it.
#[derive(Clone)]
pub struct Tokens {
    /// The verifier.
    pub verifier: Arc<dyn TokenVerifier>,
    /// Changes with its keys.
    pub changed: watch::Receiver<u64>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// The verifier with its counters.
pub(crate) struct Gate {
    pub(crate) tokens: Tokens,
    failures: IntCounterVec,
}

/// Who makes a call.
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    /// `None` where the connection proves it, and for methods that need no identity.
    pub(crate) proof: Option<Proof>,
}

/// A token that was good when its call began.
pub(crate) struct Proof {
    pub(crate) identity: Arc<TokenIdentity>,
    /// The keys that it was verified with.
    pub(crate) generation: u64,
}

/// The caller that a connection spoke for last: most have one.
pub(crate) struct Spoken {
    identity: Arc<TokenIdentity>,
    peer: Arc<Peer>,
}

/// Why nobody is authenticated, for the log.
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
}

impl Gate {
    pub(crate) fn new(tokens: Tokens, registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts =
            Opts::new("authn_failures_total", "Calls refused for want of a good token, by what was wrong.");
        let failures = IntCounterVec::new(opts, &["reason"])?;
        registry.register(Box::new(failures.clone()))?;
        for reason in [MISSING, FORM].iter().chain(tokens.verifier.reasons()) {
            failures.with_label_values(&[reason]);
        }
        Ok(Self { tokens, failures })
    }

    fn failed(&self, status: Status, reason: &'static str, detail: String) -> Failure {
        self.failures.with_label_values(&[reason]).inc();
        Failure { status, reason, detail }
    }

    /// Reads and verifies the first `authorization` value; further ones are nobody's.
    fn authenticate(&self, headers: &HeaderMap, now: Timestamp) -> Result<Proof, Failure> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(self.failed(status::token_missing(), MISSING, String::new()));
        };
        let Some(token) = value.to_str().ok().and_then(bearer) else {
            return Err(self.failed(status::token_malformed(), FORM, String::new()));
        };
        // Before the token is looked at: keys that change meanwhile are noticed.
        let generation = self.tokens.verifier.generation();
        match self.tokens.verifier.verify(token, now) {
            Ok(identity) => Ok(Proof { identity, generation }),
            Err(refusal) => Err(self.failed(status::token_refused(), refusal.reason, refusal.detail)),
        }
    }
}

/// The token behind the word `Bearer`, in any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    let good = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ');
    good.then_some(token)
}

/// Who makes a call: the peer of the connection, or with tokens whomever the token speaks for. The header goes no
/// further than here.
pub(crate) fn caller(
    conn: &Shared,
    method: usize,
    headers: &mut HeaderMap,
    now: Timestamp,
) -> (Caller, Option<Failure>) {
    let app = conn.app();
    let shows_none = !headers.contains_key(AUTHORIZATION);
    let outcome = match &app.gate {
        // A token that is shown is judged all the same.
        Some(_) if shows_none && app.is_anonymous_discovery(method, &conn.peer.principal) => Ok(None),
        Some(gate) if !app.methods.get(method).open => gate.authenticate(headers, now).map(Some),
        _ => Ok(None),
    };
    headers.remove(AUTHORIZATION);
    let of_connection = || Caller { peer: conn.peer.clone(), proof: None };
    match outcome {
        Ok(None) => (of_connection(), None),
        Ok(Some(proof)) => {
            let peer = peer_of(conn, &proof.identity);
            (Caller { peer, proof: Some(proof) }, None)
        }
        Err(failure) => (of_connection(), Some(failure)),
    }
}

/// The connection with the caller put in.
fn peer_of(conn: &Shared, identity: &Arc<TokenIdentity>) -> Arc<Peer> {
    if let Some(spoken) = conn.spoken.load().as_deref()
        && Arc::ptr_eq(&spoken.identity, identity)
    {
        return spoken.peer.clone();
    }
    let mut peer = (*conn.peer).clone();
    peer.principal = Principal::Spiffe(identity.id.clone());
    (peer.not_before, peer.not_after) = (identity.not_before, Some(identity.expires));
    let peer = Arc::new(peer);
    let spoken = Spoken { identity: identity.clone(), peer: peer.clone() };
    conn.spoken.store(Some(Arc::new(spoken)));
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_in_any_case_and_one_token() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer a.b.c", Some("a.b.c")),
            ("BEARER   a.b.c ", Some("a.b.c")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearera.b.c", None),
            ("Basic a.b.c", None),
            ("a.b.c", None),
            ("Bearer a.b.c d", None),
            ("", None),
        ] {
            assert_eq!(bearer(value), token, "{value:?}");
        }
    }
}
