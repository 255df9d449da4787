//! A record: canonical bytes that hash to their CID, and nothing else.

use crate::cid::Cid;
use crate::class::{Class, Classified};
use crate::json::{CanonicalError, Doc, Kind};
use bytes::Bytes;

/// A record exists only if its bytes hash to its CID. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    cid: Cid,
    bytes: Bytes,
}

/// Content that does not hash to the CID it was asked for by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content of {expected} hashes to {actual}")]
pub struct Mismatch {
    /// The CID that was asked for.
    pub expected: Cid,
    /// What the bytes hash to.
    pub actual: Cid,
}

impl Classified for Mismatch {
    fn class(&self) -> Class {
        Class::Corrupt
    }
}

impl Record {
    /// A record from a parsed object: canonical bytes and their CID.
    pub fn from_doc(doc: &Doc) -> Result<Self, CanonicalError> {
        if doc.root().kind() != Kind::Object {
            return Err(CanonicalError::NotAnObject);
        }
        Ok(Self::from_canonical(doc.canonical()?))
    }

    /// A record from its canonical bytes (see the `json` module for how to obtain them).
    pub fn from_canonical(bytes: Bytes) -> Self {
        Self { cid: Cid::of(&bytes), bytes }
    }

    /// A record from stored bytes, only if they hash to `cid`.
    pub fn verify(cid: Cid, bytes: Bytes) -> Result<Self, Mismatch> {
        let actual = Cid::of(&bytes);
        if actual == cid { Ok(Self { cid, bytes }) } else { Err(Mismatch { expected: cid, actual }) }
    }

    /// The record's CID.
    pub const fn cid(&self) -> Cid {
        self.cid
    }

    /// The canonical bytes (compact JSON).
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}, {} bytes)", self.cid, self.bytes.len())
    }
}
