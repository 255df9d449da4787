//! Events: what happened to a record. They commit together with the change that caused them.

use crate::cid::Cid;
use crate::time::Timestamp;

/// Event types; the numbers are those of `agntcy.dir.events.v1.EventType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A record was pushed (also: pushed again).
    RecordPushed = 1,
    /// A client asked for a record by CID.
    RecordPulled = 2,
    /// A record was deleted.
    RecordDeleted = 3,
    /// A record was announced to the network.
    RecordPublished = 4,
    /// An announcement was taken back.
    RecordUnpublished = 5,
    /// A sync was created.
    SyncCreated = 6,
    /// A sync finished.
    SyncCompleted = 7,
    /// A sync failed.
    SyncFailed = 8,
    /// A record was signed.
    RecordSigned = 9,
}

impl EventKind {
    /// Every kind, ascending by number.
    pub const ALL: [EventKind; 9] = [
        EventKind::RecordPushed,
        EventKind::RecordPulled,
        EventKind::RecordDeleted,
        EventKind::RecordPublished,
        EventKind::RecordUnpublished,
        EventKind::SyncCreated,
        EventKind::SyncCompleted,
        EventKind::SyncFailed,
        EventKind::RecordSigned,
    ];

    /// The kind with this number of the API's enum.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as i32 == number)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the event log; strictly rising, assigned by the index transaction.
    pub seq: u64,
    /// When the change committed.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The record concerned.
    pub cid: Cid,
    /// Labels of the record (`/skills/…`, `/domains/…`, …) as they were.
    pub labels: Vec<String>,
}
