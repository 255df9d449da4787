//! Why a use case failed. `Display` is the text that reaches clients; the cause is for the log.

use dir_core::index::IndexError;
use dir_core::rules::RuleError;
use dir_core::store::StoreError;
use dir_core::{Class, Classified};
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A record was pushed.
    Push,
    /// A record was pulled.
    Pull,
    /// A record's labels were looked up.
    Lookup,
    /// A record was deleted.
    Delete,
    /// Records were searched.
    Search,
    /// Records were counted.
    Count,
    /// The index was made from the store.
    Rebuild,
    /// The records of a name were looked for.
    Resolve,
    /// The values of a field were listed.
    Values,
    /// Summaries of records were listed.
    Summaries,
    /// Index and store were compared.
    Reconcile,
    /// The store was inspected.
    Audit,
    /// The store was repaired.
    Repair,
    /// The store's layout was converted.
    Reshard,
}

impl Op {
    /// How every text of this operation begins.
    pub const fn prefix(self) -> &'static str {
        match self {
            Op::Push => "failed to push record to store",
            Op::Pull => "failed to pull record",
            Op::Lookup => "failed to lookup record",
            Op::Delete => "failed to delete record",
            Op::Search => "failed to get record CIDs",
            Op::Count => "failed to count records",
            Op::Rebuild => "failed to rebuild the index",
            Op::Resolve => "failed to search records",
            Op::Values => "failed to list filter values",
            Op::Summaries => "failed to list record summaries",
            Op::Reconcile => "failed to compare index and store",
            Op::Audit => "failed to audit the store",
            Op::Repair => "failed to repair the store",
            Op::Reshard => "failed to convert the store",
        }
    }

    /// Its name as a job.
    pub(crate) const fn job(self) -> &'static str {
        match self {
            Op::Reconcile => "reconcile",
            Op::Audit => "store audit",
            Op::Repair => "store repair",
            Op::Reshard => "store reshard",
            _ => "call",
        }
    }
}

/// Why a use case failed.
#[derive(Debug)]
pub enum EngineError {
    /// The record breaks a rule that needs no schema; the text is the cause.
    Rejected(String),
    /// The record breaks the rules of its schema, or they could not be asked.
    Rules(RuleError),
    /// A CID was not given.
    CidRequired,
    /// There is no record with this CID. The text is the CID as it was sent.
    NotFound(Op, String),
    /// A name was not given.
    NameRequired,
    /// No record has this name (and this version, unless that is empty).
    NoSuchName {
        /// As it was sent.
        name: String,
        /// As it was sent.
        version: String,
    },
    /// The store failed. The text is the CID.
    Store(Op, String, StoreError),
    /// The index failed.
    Index(Op, IndexError),
    /// The index did not answer within this time.
    IndexTimeout(Op, Duration),
    /// Stored bytes cannot be sent as a message. The text is the CID.
    Encode(Op, String, Box<dyn Error + Send + Sync>),
    /// A task of ours ended without an answer.
    Fault(Op),
    /// Not now, or not here; the text says why and what to do.
    Refused(Op, String),
    /// Whoever asked has gone, or the node stops: what was done stays done.
    Stopped(Op),
}

impl EngineError {
    /// A store error about the record that was asked for as `cid`.
    pub(crate) fn store(op: Op, cid: &impl ToString, error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => EngineError::NotFound(op, cid.to_string()),
            other => EngineError::Store(op, cid.to_string(), other),
        }
    }

    /// The cause with everything that must not reach a client, for the log.
    pub fn detail(&self) -> Option<String> {
        match self {
            // A failure that concerns no record in particular has no CID.
            EngineError::Store(_, cid, e) if cid.is_empty() => Some(chain(e)),
            EngineError::Store(_, cid, e) => Some(format!("{cid}: {}", chain(e))),
            EngineError::Index(_, e) => Some(chain(e)),
            EngineError::Encode(_, cid, e) => Some(format!("{cid}: {}", chain(e.as_ref()))),
            _ => None,
        }
    }
}

/// Whether a disk or a quota is full: the one failure of a backend that a caller may be told, because it is not one
/// that passes by itself.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether a failure of files will be met again: trying soon is in vain.
pub(crate) fn is_lasting(error: &(dyn Error + 'static)) -> bool {
    let lasting = |cause: &(dyn Error + 'static)| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(
            kind,
            Some(
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::PermissionDenied
            )
        )
    };
    let mut next = Some(error);
    while let Some(cause) = next {
        if lasting(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// An error with its causes on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Rejected(cause) => write!(f, "record validation failed: [{cause}]"),
            EngineError::Rules(e) => e.fmt(f),
            EngineError::CidRequired => f.write_str("record cid is required"),
            EngineError::NameRequired => f.write_str("name is required"),
            EngineError::NoSuchName { name, version } => {
                write!(f, "no record found with name \"{name}\"")?;
                if version.is_empty() { Ok(()) } else { write!(f, " and version \"{version}\"") }
            }
            EngineError::NotFound(op, cid) => write!(f, "{}: record not found: {cid}", op.prefix()),
            EngineError::Store(op, cid, e) => {
                write!(f, "{}: ", op.prefix())?;
                match e {
                    StoreError::NotFound(_) => write!(f, "record not found: {cid}"),
                    StoreError::BlobMissing(_) => write!(f, "record blob not found for CID {cid}"),
                    StoreError::Corrupt(_) => write!(f, "content does not match CID {cid}"),
                    StoreError::Unavailable { source, .. } if is_disk_full(source.as_ref()) => {
                        f.write_str("store unavailable: its disk is full")
                    }
                    StoreError::Unavailable { .. } => f.write_str("store unavailable"),
                    StoreError::Timeout { .. } => f.write_str("store did not answer in time"),
                    StoreError::BadManifest(_)
                    | StoreError::Unsupported(_)
                    | StoreError::TooLarge { .. }
                    | StoreError::Layout(_) => e.fmt(f),
                }
            }
            EngineError::Index(_, IndexError::Query(e)) => e.fmt(f),
            EngineError::Index(op, IndexError::Backend { source, .. }) if is_disk_full(source.as_ref()) => {
                write!(f, "{}: index unavailable: its disk is full", op.prefix())
            }
            EngineError::Index(op, _) => write!(f, "{}: index unavailable", op.prefix()),
            EngineError::IndexTimeout(op, limit) => {
                write!(f, "{}: no answer from the index within {limit:?}", op.prefix())
            }
            EngineError::Encode(op, cid, _) => {
                write!(f, "{}: failed to unmarshal record for CID {cid}", op.prefix())
            }
            EngineError::Fault(op) => write!(f, "{}: internal error", op.prefix()),
            EngineError::Refused(op, why) => write!(f, "{}: {why}", op.prefix()),
            EngineError::Stopped(op) => write!(f, "{}: stopped; run it again to go on", op.prefix()),
        }
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            EngineError::Rules(e) => Some(e),
            EngineError::Store(_, _, e) => Some(e),
            EngineError::Index(_, e) => Some(e),
            EngineError::Encode(_, _, e) => Some(e.as_ref()),
            _ => None,
        }
    }
}

impl Classified for EngineError {
    fn class(&self) -> Class {
        match self {
            EngineError::Rejected(_) | EngineError::CidRequired | EngineError::NameRequired => Class::Invalid,
            EngineError::Rules(e) => e.class(),
            EngineError::NotFound(..) | EngineError::NoSuchName { .. } => Class::NotFound,
            // Clients of names know a failing index by this class.
            EngineError::Index(Op::Resolve, _) | EngineError::IndexTimeout(Op::Resolve, _) => Class::Internal,
            // A backend that is too slow is a backend that is not there: the caller's own deadline is another.
            EngineError::Store(_, _, StoreError::Timeout { .. }) | EngineError::IndexTimeout(..) => {
                Class::Unavailable
            }
            EngineError::Store(_, _, e) => e.class(),
            EngineError::Index(_, e) => e.class(),
            EngineError::Encode(..) | EngineError::Fault(_) => Class::Internal,
            EngineError::Refused(..) => Class::FailedPrecondition,
            EngineError::Stopped(_) => Class::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_core::Cid;

    #[test]
    fn a_full_disk_is_named_and_no_other_failure_is() {
        let said = |kind: io::ErrorKind| {
            let source = || Box::new(io::Error::new(kind, "/srv/secret/place"));
            let store = StoreError::Unavailable { context: "write".to_owned(), source: source() };
            let index = IndexError::Backend { context: "flushing", source: source() };
            [EngineError::store(Op::Push, &Cid::of(b"x"), store), EngineError::Index(Op::Push, index)].map(
                |e| {
                    assert_eq!(e.class(), Class::Unavailable);
                    e.to_string()
                },
            )
        };
        let push = |text: &str| format!("failed to push record to store: {text}");
        let full = ["store unavailable: its disk is full", "index unavailable: its disk is full"].map(push);
        assert_eq!(said(io::ErrorKind::StorageFull), full);
        assert_eq!(said(io::ErrorKind::QuotaExceeded), full);
        assert_eq!(said(io::ErrorKind::Other), ["store unavailable", "index unavailable"].map(push));
    }
}
