//! Counters that others export. Plain atomics: nothing on a call path takes a lock for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What listeners lost because events came faster than they took them, or than all of them can be told.
#[derive(Debug, Default)]
pub struct Losses {
    /// Events, once for each listener.
    pub events: Counter,
    /// Episodes: each is a line in the log.
    pub episodes: Counter,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Pulls answered from memory.
    pub cache_hits: Counter,
    /// Pulls that went to the store.
    pub cache_misses: Counter,
    /// Records whose stored bytes did not hash to their CID.
    pub corrupt: Counter,
    /// Search results that could not be read.
    pub search_skipped: Counter,
    /// Index changes that failed after the store took the record, and were queued.
    pub repairs: Counter,
    /// Comparisons of index and store that were completed.
    pub reconcile_runs: Counter,
    /// Comparisons that were not.
    pub reconcile_failed: Counter,
    /// Records that comparisons took into the index.
    pub reconcile_added: Counter,
    /// Rows that comparisons took out of the index.
    pub reconcile_removed: Counter,
    /// Records that a rebuild could not take.
    pub rebuild_skipped: Counter,
    /// What listeners lost.
    pub losses: Arc<Losses>,
}
