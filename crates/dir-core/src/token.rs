//! Bearer tokens that prove a SPIFFE ID: the port behind which they are verified.

use crate::identity::{RoleClaims, SpiffeId};
use crate::time::Timestamp;
use std::sync::Arc;

/// What a verified token says. The token itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Who it was issued to.
    pub id: SpiffeId,
    /// Start of its validity, where it names one.
    pub not_before: Option<Timestamp>,
    /// Its end: calls that are open end here.
    pub expires: Timestamp,
    /// Until when new calls are taken with it, for clocks that differ: a little later than its end, or at its end.
    pub accepted_until: Timestamp,
    /// What it claims of organization, project and role.
    pub claims: Option<RoleClaims>,
    /// Names the key that signed it.
    pub key: [u8; 32],
}

impl TokenIdentity {
    /// When a call that begins `now` has to end. A call that was only let in by the tolerance on clocks may use it up.
    pub fn call_ends(&self, now: Timestamp) -> Timestamp {
        if now < self.expires { self.expires } else { self.accepted_until }
    }
}

/// Why a token is refused. Neither part ever contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct TokenRefusal {
    /// One word of a closed set, for counters.
    pub reason: &'static str,
    /// One sentence for the log. Not for the caller.
    pub detail: String,
}

/// Verifies tokens. Never waits: it uses the keys at hand.
pub trait TokenVerifier: Send + Sync {
    /// Whom a token speaks for.
    fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<TokenIdentity>, TokenRefusal>;

    /// Whether the key that signed this token is still trusted. Its time is the caller's business.
    fn still_trusted(&self, identity: &TokenIdentity) -> bool;

    /// Another number after every change of the keys.
    fn generation(&self) -> u64;

    /// Every word that a refusal may have, so that each counter exists from the start.
    fn reasons(&self) -> &'static [&'static str];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_call_ends_with_the_token_and_a_late_one_with_the_tolerance() {
        let at = Timestamp::from_secs;
        let token = TokenIdentity {
            id: "spiffe://a.example/w".parse().unwrap(),
            not_before: None,
            expires: at(100),
            accepted_until: at(160),
            claims: None,
            key: [0; 32],
        };
        assert_eq!(token.call_ends(at(99)), at(100));
        assert_eq!(token.call_ends(at(100)), at(160));
        assert_eq!(token.call_ends(at(159)), at(160));
    }
}
