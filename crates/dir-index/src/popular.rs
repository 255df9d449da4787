//! The records of a chunk that somebody asked for, in the order of POPULARITY. Those that nobody asked for come after
//! them, and need no list: their order is that of RECENCY.

use crate::rank::Rank;
use dir_core::index::Usage;
use std::collections::HashMap;

/// Counters by slot, and the ranks of those that have any.
#[derive(Debug, Default)]
pub(crate) struct Popular {
    counts: HashMap<u32, Usage>,
    /// Ascending: the most used first.
    ranks: Vec<(Rank, u32)>,
}

impl Popular {
    /// The counters of a slot.
    pub(crate) fn usage(&self, slot: u32) -> Usage {
        self.counts.get(&slot).copied().unwrap_or_default()
    }

    /// Whether anybody asked for the record in a slot.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.counts.contains_key(&slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Adds to the counters of the record in a slot. `unused` is its rank without any.
    pub(crate) fn add(&mut self, slot: u32, unused: Rank, more: Usage) {
        let usage = self.remove(slot, unused).plus(more);
        if usage.total() == 0 {
            return;
        }
        self.counts.insert(slot, usage);
        let rank = unused.with(usage);
        let at = self.ranks.partition_point(|(other, _)| *other < rank);
        self.ranks.insert(at, (rank, slot));
    }

    /// Forgets the record in a slot; answers its counters.
    pub(crate) fn remove(&mut self, slot: u32, unused: Rank) -> Usage {
        let Some(usage) = self.counts.remove(&slot) else { return Usage::default() };
        if let Ok(at) = self.ranks.binary_search(&(unused.with(usage), slot)) {
            self.ranks.remove(at);
        }
        usage
    }

    /// Ranks after one, in order.
    pub(crate) fn after(&self, after: Option<Rank>) -> impl Iterator<Item = (Rank, u32)> {
        let from = after.map_or(0, |after| self.ranks.partition_point(|(rank, _)| *rank <= after));
        self.ranks[from..].iter().copied()
    }
}
