//! The index port: what makes records findable. It can be rebuilt from the registry at any time.

use crate::cid::Cid;
use crate::class::{Class, Classified};
use crate::event::{Event, EventKind};
use crate::facts::RecordFacts;
use crate::query::{Query, QueryError, QueryKind};
use crate::time::Timestamp;
use async_trait::async_trait;
use std::sync::Arc;

/// How often clients asked for a record by its CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Successful pulls.
    pub pulls: u64,
    /// Successful lookups.
    pub lookups: u64,
}

impl Usage {
    /// Pulls and lookups: what POPULARITY sorts by.
    pub const fn total(self) -> u64 {
        self.pulls.saturating_add(self.lookups)
    }

    /// Both together.
    pub const fn plus(self, more: Self) -> Self {
        Self {
            pulls: self.pulls.saturating_add(more.pulls),
            lookups: self.lookups.saturating_add(more.lookups),
        }
    }
}

/// A row of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The record.
    pub cid: Cid,
    /// When it entered the index: steers RECENCY and Resolve.
    pub indexed_at: Timestamp,
    /// Its labels.
    pub facts: Arc<RecordFacts>,
    /// How often it was asked for, as far as it has been [counted in](RecordIndex::add_usage).
    pub usage: Usage,
}

/// One change. Row, labels and event commit together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A record is there. An existing row is left as it is; the event is written all the same.
    Put {
        /// The record.
        cid: Cid,
        /// Its labels.
        facts: Arc<RecordFacts>,
        /// Time of entry.
        at: Timestamp,
        /// The event to write, if any (a rebuild writes none).
        event: Option<EventKind>,
        /// Whose it is, if the change makes a new row. `None`: nobody's, or whose it was before the index was rebuilt.
        owner: Option<Arc<str>>,
    },
    /// A record is gone, with everything that depended on its row, its owner included.
    Delete {
        /// The record.
        cid: Cid,
        /// When.
        at: Timestamp,
        /// The event to write, if any; whether or not a row was there.
        event: Option<EventKind>,
    },
}

/// What a committed change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Sequence number of the event, when one was written.
    pub seq: Option<u64>,
    /// `Put`: a new row was made. `Delete`: a row was there.
    pub changed: bool,
}

/// Where a page of results ends: pass it back to go on from there. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// A page of results, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The records.
    pub cids: Vec<Cid>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What answering queries has cost since the start: tells whether it follows the answers or the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Distinct values that were compared with a wildcard or a comparison.
    pub values: u64,
    /// Distinct values that a few bits were enough to pass over, without reading them.
    pub sketches: u64,
    /// Records that were looked at while results were put in order.
    pub records: u64,
}

impl Work {
    /// Both together.
    pub const fn plus(self, more: Self) -> Self {
        Self {
            values: self.values + more.values,
            sketches: self.sketches + more.sketches,
            records: self.records + more.records,
        }
    }
}

/// Which events the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSpan {
    /// Sequence number of the oldest event kept; that of the next one when none is.
    pub oldest: u64,
    /// Sequence number of the next event.
    pub next: u64,
}

/// Why an index call failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The query itself is wrong.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The backend failed; `context` says at what.
    #[error("index: {context}: {source}")]
    Backend {
        /// What was being done.
        context: &'static str,
        /// The backend's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored bytes are not what was written. The index must be set aside and rebuilt.
    #[error("index: damaged: {0}")]
    Damaged(String),
    /// The index is closed.
    #[error("index: closed")]
    Closed,
}

impl Classified for IndexError {
    fn class(&self) -> Class {
        match self {
            IndexError::Query(_) => Class::Invalid,
            IndexError::Backend { .. } | IndexError::Closed => Class::Unavailable,
            IndexError::Damaged(_) => Class::Internal,
        }
    }
}

/// The index. Reads see every change whose `apply` has returned.
#[async_trait]
pub trait RecordIndex: Send + Sync {
    /// Commits changes, in order, durably: when this returns they survive `kill -9` and every read sees them.
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, IndexError>;

    /// Adds to the counters of records, durably. Records without a row are passed over: counters go with their row.
    async fn add_usage(&self, counts: Vec<(Cid, Usage)>) -> Result<(), IndexError>;

    /// The row of a record.
    async fn row(&self, cid: &Cid) -> Result<Option<Row>, IndexError>;

    /// Why changes are not taken any more, if that is so: reads go on.
    fn impairment(&self) -> Option<String> {
        None
    }

    /// Who pushed a record first, as [`Change::Put`] said. Kept beside the rows, because no store knows it: an index that
    /// was set aside for damage hands it on as far as it can be read.
    async fn owner(&self, cid: &Cid) -> Result<Option<Arc<str>>, IndexError>;

    /// Whether a record is live. Never touches a disk.
    fn contains(&self, cid: &Cid) -> bool;

    /// A page of at most `max` results of `query`, going on from `after`. The query's own limit and offset
    /// count over all pages together. With [`Sort::Popularity`](crate::query::Sort::Popularity) a record whose
    /// counters rise between two pages may be passed over: it has moved to a place before the cursor.
    async fn search(&self, query: &Query, after: Option<&Cursor>, max: usize) -> Result<Page, IndexError>;

    /// Number of distinct matching records; limit, offset and order are ignored.
    async fn count(&self, query: &Query) -> Result<u64, IndexError>;

    /// The distinct values of a kind, sorted by bytes, without the empty one: skill, module and domain names,
    /// authors, schema versions. Every other kind is a [`QueryError`].
    async fn values(&self, kind: QueryKind) -> Result<Vec<String>, IndexError>;

    /// Events with a sequence number above `after`, oldest first, at most `max`.
    async fn events(&self, after: u64, max: usize) -> Result<Vec<Event>, IndexError>;

    /// Which events [`RecordIndex::events`] can answer. O(1), never touches a disk.
    fn event_span(&self) -> EventSpan;

    /// What queries have cost since the start. Never touches a disk.
    fn work(&self) -> Work;

    /// Number of live records. O(1).
    fn len(&self) -> u64;

    /// Whether no record is live.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live CIDs above `after` in digest order, at most `max`: for comparing with the store.
    async fn cids(&self, after: Option<&Cid>, max: usize) -> Result<Vec<Cid>, IndexError>;

    /// Writes out what is pending and closes. Later calls answer [`IndexError::Closed`].
    async fn close(&self) -> Result<(), IndexError>;
}
