//! What an auditor wants to know beside calls: changes of who is trusted and of what is allowed.

use dir_core::Timestamp;
use serde::Serialize;

/// A security event. It gets its line even when the queue is full: there are few of them, and no caller makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SecurityEvent {
    /// The process begins to keep this log.
    Started {
        /// Version of the binary.
        version: String,
    },
    /// The process ends in order.
    Stopped,
    /// Another policy is in force.
    PolicyReloaded {
        /// Number of the policy since the start.
        policy_generation: u64,
        /// Its rules.
        rules: usize,
        /// Whether denials are only reported.
        shadow: bool,
    },
    /// A policy file was not taken: the old policy stays in force.
    PolicyRefused {
        /// Number of the policy that stays.
        policy_generation: u64,
        /// What is wrong with the file.
        reason: String,
    },
    /// The node has an SVID, the first one or another one.
    SvidRotated {
        /// Its SPIFFE ID.
        spiffe_id: String,
        /// Its serial number, lower-case hex.
        serial: String,
        /// Its end.
        #[serde(serialize_with = "spelled")]
        not_after: Timestamp,
    },
    /// Another set of roots is trusted for a trust domain.
    BundleChanged {
        /// Whose roots.
        trust_domain: String,
        /// `added`, `changed` or `removed`.
        change: &'static str,
        /// Where they came from: `workload_api`, `federation` or `bootstrap_file`.
        source: String,
        /// How many there are now.
        authorities: usize,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn spelled<S: serde::Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}
