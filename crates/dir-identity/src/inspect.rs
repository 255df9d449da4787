//! Looking at certificates that nobody has judged yet, and judging a chain without a handshake: for diagnosis.

use crate::connector::ServerCheck;
use crate::identity::Identity;
use crate::leaf::{self, Leaf, Usage};
use crate::refuse::{Presented, Refusal, RefuseReason};
use crate::verify::verify_svid;
use dir_core::{SpiffeId, Timestamp};
use rustls_pki_types::CertificateDer;

/// What a certificate says of itself. Never proof of anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Names and issuer.
    pub presented: Presented,
    /// The SPIFFE ID, if there is exactly one URI SAN and it is one.
    pub spiffe_id: Option<SpiffeId>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Serial number, lower-case hex.
    pub serial: String,
}

/// Reads a certificate; `None` if it is none.
pub fn inspect(der: &[u8]) -> Option<Seen> {
    leaf::inspect(der)
}

impl Identity {
    /// Judges a server's chain, leaf first, as a handshake would: with the bundles of this moment.
    pub fn judge_server(&self, chain: &[CertificateDer<'_>], check: &ServerCheck) -> Result<Leaf, Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Refusal::new(RefuseReason::BadChain, "there is no certificate"));
        };
        let snapshot = self.snapshot();
        let now = self.shared().clock.now();
        let (leaf, _bundle) = verify_svid(leaf, intermediates, snapshot.bundles(), now, Some(Usage::Server))?;
        check.allows(&leaf.id, snapshot.svid().leaf.id.trust_domain())?;
        Ok(leaf)
    }
}
