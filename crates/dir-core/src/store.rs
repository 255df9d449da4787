//! The store port: where record bytes live. Callers speak CIDs; the layout is the adapter's own.

use crate::cid::Cid;
use crate::class::{Class, Classified};
use crate::facts::RecordFacts;
use crate::record::{Mismatch, Record};
use crate::time::Timestamp;
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use std::collections::BTreeMap;
use std::pin::Pin;

/// A stream that borrows its source.
pub type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;

/// What the caller knows of a record before it asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The index says it is live: the blob may be read by its digest, without asking for the manifest.
    Live,
    /// Nobody knows: the store resolves the manifest by tag first. A blob alone never proves a record.
    Unknown,
}

/// What the caller knows of a record before it stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A complete index says that it is not there: the store may write without asking the backend first.
    Absent,
    /// Nobody knows (the index is being rebuilt, others write to the same backend): the store looks first, and
    /// leaves a record that is there as it is.
    Unknown,
}

/// Whether `put` wrote anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The record is new in the store.
    Stored,
    /// It was there already; its manifest is unchanged.
    Existed,
}

/// The manifest of a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub cid: Cid,
    /// `sha256:…` of the manifest.
    pub manifest_digest: String,
    /// Manifest annotations, verbatim.
    pub annotations: BTreeMap<String, String>,
    /// `org.opencontainers.image.created`, when it parses.
    pub created: Option<Timestamp>,
}

/// A referrer to be stored: its blob is content-addressed like a record's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// CID of the blob.
    pub cid: Cid,
    /// The canonical blob.
    pub bytes: Bytes,
    /// API type, for instance `agntcy.dir.sign.v1.Signature`.
    pub api_type: String,
    /// `created_at` as sent, may be empty.
    pub created_at: String,
    /// Annotations as sent.
    pub annotations: BTreeMap<String, String>,
}

/// A referrer found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReferrer {
    /// CID of the blob.
    pub cid: Cid,
    /// API type, from the manifest annotation (else from the blob's `type`).
    pub api_type: String,
    /// `sha256:…` of the referrer's manifest.
    pub manifest_digest: String,
    /// `org.opencontainers.image.created` of its manifest, for push order.
    pub created: Option<Timestamp>,
}

/// One item of a walk over the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// A record manifest, with its tag.
    Record(Stored),
    /// Something that is no record (referrer, foreign tag): skipped by a rebuild, seen by an audit.
    Other {
        /// Its tag.
        tag: String,
    },
    /// A record's name that leads to nothing which can be read, while the rest of the store can: left out by a rebuild,
    /// and looked at again by the next one.
    Unreadable {
        /// The record.
        cid: Cid,
        /// Where, and why.
        why: String,
    },
    /// Everything up to here is done: a rebuild may go on from this mark after a restart.
    Mark(WalkMark),
}

/// Where a walk can be resumed. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkMark(pub String);

/// Why a store call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store itself said that there is no such record.
    #[error("record not found: {0}")]
    NotFound(Cid),
    /// The manifest is there, its blob is not.
    #[error("record blob not found for CID {0}")]
    BlobMissing(Cid),
    /// The manifest cannot be used; the text says why.
    #[error("{0}")]
    BadManifest(String),
    /// Content that does not hash to what was asked for.
    #[error(transparent)]
    Corrupt(#[from] Mismatch),
    /// The backend does not offer the operation (for instance: deletes are switched off).
    #[error("{0}")]
    Unsupported(String),
    /// The backend cannot be reached, refuses, or failed; `context` says at what.
    #[error("{context}: {source}")]
    Unavailable {
        /// What was being done.
        context: String,
        /// The underlying error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer within the limit.
    #[error("{context}: no answer within {limit:?}")]
    Timeout {
        /// What was being done.
        context: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A named limit was hit; nothing was stored or read.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes (at least; reading stops at the limit).
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The configuration contradicts what the store holds; the text names the way out.
    #[error("{0}")]
    Layout(String),
}

impl Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            StoreError::NotFound(_) | StoreError::BlobMissing(_) => Class::NotFound,
            StoreError::BadManifest(_) => Class::Internal,
            StoreError::Corrupt(_) => Class::Corrupt,
            StoreError::Unsupported(_) => Class::Unimplemented,
            StoreError::Unavailable { .. } => Class::Unavailable,
            StoreError::Timeout { .. } => Class::Timeout,
            StoreError::TooLarge { .. } => Class::Exhausted,
            StoreError::Layout(_) => Class::FailedPrecondition,
        }
    }
}

/// The store of record bytes. Every call may be repeated: all of them are idempotent.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Stores a record, durably. `facts` become manifest annotations; `at` is the manifest's creation time;
    /// `presence` is what the caller's index says: with `Absent` a registry is asked nothing before the write.
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError>;

    /// The bytes of a record, verified against its CID.
    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError>;

    /// The manifest of a record; `None` when the store says that there is none, or that it is no record.
    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError>;

    /// Removes a record, its tag and all its referrers. Answers whether it was there.
    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError>;

    /// Attaches a referrer to a record; equal content twice is one referrer.
    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError>;

    /// The referrers of a record, oldest first.
    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError>;

    /// The blob of a referrer, verified against its CID.
    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError>;

    /// Removes one referrer by its manifest. Answers whether it was there.
    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError>;

    /// Walks everything in the store in a fixed order, going on from `from`. Never on a request path.
    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>>;

    /// One cheap question: is the backend there?
    async fn ping(&self) -> Result<(), StoreError>;

    /// Writes out what is pending. A layout directory is a valid OCI image layout afterwards.
    async fn close(&self) -> Result<(), StoreError>;
}
