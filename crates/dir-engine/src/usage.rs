//! How often records are asked for: counted in memory, handed to the index now and then. A read writes nothing; what a
//! crash loses are the counts since the last time they were handed over.

use crate::{Engine, EngineError, Op};
use dir_core::Cid;
use dir_core::index::Usage;
use parking_lot::Mutex;
use std::collections::HashMap;

const SHARDS: usize = 32;
/// Records whose counters are handed over at once.
const BATCH: usize = 1_024;

/// Counts that the index does not have yet: no more entries than records that are there.
#[derive(Debug)]
pub(crate) struct UsageCounts {
    shards: Box<[Mutex<HashMap<Cid, Usage>>]>,
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl UsageCounts {
    pub(crate) fn pulled(&self, cid: &Cid) {
        self.add(cid, Usage { pulls: 1, lookups: 0 });
    }

    pub(crate) fn looked_up(&self, cid: &Cid) {
        self.add(cid, Usage { pulls: 0, lookups: 1 });
    }

    /// What was counted of a record that is gone is not that of a later one.
    pub(crate) fn forget(&self, cid: &Cid) {
        self.shard(cid).lock().remove(cid);
    }

    fn shard(&self, cid: &Cid) -> &Mutex<HashMap<Cid, Usage>> {
        &self.shards[usize::from(cid.digest()[1]) % SHARDS]
    }

    fn add(&self, cid: &Cid, more: Usage) {
        let mut shard = self.shard(cid).lock();
        let usage = shard.entry(*cid).or_default();
        *usage = usage.plus(more);
    }

    fn take(&self) -> Vec<(Cid, Usage)> {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut *shard.lock())).collect()
    }
}

impl Engine {
    /// Hands the counts so far to the index: from then on they are durable, and POPULARITY sorts by them. Those that the
    /// index does not take are kept for the next time.
    pub async fn flush_usage(&self) -> Result<(), EngineError> {
        let counts = self.0.usage.take();
        let mut batches = counts.chunks(BATCH);
        for batch in batches.by_ref() {
            if let Err(error) = self.0.deps.index.add_usage(batch.to_vec()).await {
                let kept = batch.iter().chain(batches.flatten());
                kept.for_each(|(cid, usage)| self.0.usage.add(cid, *usage));
                return Err(EngineError::Index(Op::Lookup, error));
            }
        }
        Ok(())
    }
}
