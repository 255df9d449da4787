//! Where a record stands in a result.

use dir_core::index::Usage;
use dir_core::{Cid, Timestamp};
use std::cmp::Reverse;

/// Position of a record in the order RECENCY: smaller comes first (newest first, then CID ascending).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) at: Reverse<Timestamp>,
    pub(crate) cid: Cid,
}

/// Position in a result: the most used first where usage counts (0 where it does not), then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) uses: Reverse<u64>,
    pub(crate) place: Place,
}

impl Rank {
    /// The rank of a record that nobody asked for, and of every record where usage does not count.
    pub(crate) const fn unused(place: Place) -> Self {
        Self { uses: Reverse(0), place }
    }

    /// The rank of the same record with these counters.
    pub(crate) const fn with(self, usage: Usage) -> Self {
        Self { uses: Reverse(usage.total()), place: self.place }
    }
}
