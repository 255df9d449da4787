//! The maintenance port: what jobs need of a store beyond the calls of requests. Places and tags are shown to
//! operators and handed back; nobody but the adapter reads anything out of them.

use crate::cid::Cid;
use crate::facts::RecordFacts;
use crate::store::{BoxStream, StoreError, WalkMark};
use crate::time::Timestamp;
use async_trait::async_trait;
use std::fmt;
use std::str::FromStr;

/// How records are spread over a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One repository for each of 4,096 parts of the digest space.
    Sharded,
    /// One repository.
    Single,
    /// No repositories: a directory or memory.
    Whole,
}

impl Spread {
    /// Its name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Spread::Sharded => "sharded",
            Spread::Single => "single",
            Spread::Whole => "whole",
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sharded" => Ok(Spread::Sharded),
            "single" => Ok(Spread::Single),
            other => Err(format!("{other:?} is no layout: sharded or single")),
        }
    }
}

/// How a store is laid out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrangement {
    /// Where records are written.
    pub now: Spread,
    /// A conversion is unfinished: records may still be where this says.
    pub leaving: Option<Spread>,
}

/// What is wrong with something in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// A referrer whose record is gone.
    Orphan,
    /// A record that its tag does not lead to.
    LostTag,
    /// A record that is also where it belongs.
    Duplicate,
    /// A record that is only where it does not belong.
    Stray,
    /// A record whose manifest or content is missing or not what it should be.
    Broken,
    /// Something that is neither a record nor a referrer. Left alone.
    Foreign,
}

impl Trouble {
    /// Every kind, in the order of reports.
    pub const ALL: [Trouble; 6] = [
        Trouble::Orphan,
        Trouble::LostTag,
        Trouble::Duplicate,
        Trouble::Stray,
        Trouble::Broken,
        Trouble::Foreign,
    ];

    /// Its name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Trouble::Orphan => "orphan",
            Trouble::LostTag => "lost_tag",
            Trouble::Duplicate => "duplicate",
            Trouble::Stray => "stray",
            Trouble::Broken => "broken",
            Trouble::Foreign => "foreign",
        }
    }

    /// Whether a repair knows what to do.
    pub const fn is_repairable(self) -> bool {
        matches!(self, Trouble::Orphan | Trouble::LostTag | Trouble::Duplicate | Trouble::Stray)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub trouble: Trouble,
    /// Where: a repository.
    pub place: String,
    /// The tag, empty without one.
    pub tag: String,
    /// `sha256:…` of the manifest, empty when unknown.
    pub manifest: String,
    /// The record concerned, when it is known.
    pub cid: Option<Cid>,
    /// One sentence.
    pub detail: String,
}

/// One item of an inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// A record that is as it should be.
    Record(Cid),
    /// A referrer that is as it should be.
    Referrer,
    /// Something that is not.
    Finding(Finding),
    /// Everything up to here is done.
    Mark(WalkMark),
}

/// How closely an inspection looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Manifests.
    Manifests,
    /// Manifests, and every record's content against its CID.
    Contents,
}

/// One step of a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reshard {
    /// So many tags are to be looked at in this pass.
    Total(u64),
    /// A tag was looked at that is no record: what belongs to a record moves with it.
    Passed,
    /// A record is where it belongs now, with so many referrers. In a dry run: would be; its referrers need not have
    /// been counted.
    Moved(Cid, u64),
    /// Something that cannot be moved stays where it is.
    Left(Finding),
    /// Nothing is left to do; the store is in its new layout. In a dry run: would be.
    Done,
}

/// Looking after a store. Every call may be repeated, and a stream may be dropped at any item: nothing is lost, and
/// the next one goes on with what is left.
#[async_trait]
pub trait StoreMaintenance: Send + Sync {
    /// How records are spread.
    async fn arrangement(&self) -> Result<Arrangement, StoreError>;

    /// Whether the store still carries the mark that it was given when it was first used. A store that answers and
    /// has lost its mark was emptied, or is another one: what it does not hold was not deleted.
    async fn recognised(&self) -> Result<bool, StoreError>;

    /// Every CID that something in the store is tagged with, in parts and in no order, without reading any of it:
    /// records, and referrers as other writers tag them. A stream that ends without an error was complete as far as
    /// the store says.
    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>>;

    /// Looks at everything in the store.
    fn inspect(&self, depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>>;

    /// Sets one finding right; answers whether anything was done. Looks again first: what has changed since is left
    /// alone.
    async fn repair(&self, finding: &Finding) -> Result<bool, StoreError>;

    /// Writes the manifest of a record anew whose content is still there. Answers whether it was.
    async fn restore(&self, cid: &Cid, facts: &RecordFacts, at: Timestamp) -> Result<bool, StoreError>;

    /// Moves every record to where `to` wants it, while reads and writes go on. `ages` are records, oldest first, as far
    /// as they are known: a registry finds soonest what came to it first.
    fn reshard(&self, to: Spread, dry_run: bool, ages: &[Cid]) -> BoxStream<'_, Result<Reshard, StoreError>>;
}
