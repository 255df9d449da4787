//! Encoded records in memory: the message as it is sent, made once, checked against its CID once.
//!
//! Sharded, bounded by bytes, evicted by second chance. A hit takes a shared lock on one shard and sets one flag.
//! What was read from the store before a delete is never kept after it: a read takes a ticket first.

use bytes::Bytes;
use dir_core::Cid;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

const SHARDS: usize = 16;
/// What an entry costs beside its bytes (keys, queue, allocations), in bytes.
const ENTRY_OVERHEAD: usize = 200;

struct Entry {
    bytes: Bytes,
    used: AtomicBool,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Cid, Entry>,
    queue: VecDeque<Cid>,
    weight: usize,
    deletes: u64,
}

pub(crate) struct WireCache {
    shards: Box<[RwLock<Shard>]>,
    shard_bytes: usize,
}

/// Permission to keep what is read from the store from now on.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

impl WireCache {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), shard_bytes: bytes / SHARDS }
    }

    fn shard(&self, cid: &Cid) -> &RwLock<Shard> {
        &self.shards[usize::from(cid.digest()[0]) % SHARDS]
    }

    pub(crate) fn get(&self, cid: &Cid) -> Option<Bytes> {
        let shard = self.shard(cid).read();
        let entry = shard.entries.get(cid)?;
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(entry.bytes.clone())
    }

    pub(crate) fn ticket(&self, cid: &Cid) -> Ticket {
        Ticket(self.shard(cid).read().deletes)
    }

    /// Keeps `bytes`, unless something of this shard was deleted since the ticket, or they are too large.
    pub(crate) fn insert(&self, ticket: Ticket, cid: Cid, bytes: &Bytes) {
        let weight = bytes.len() + ENTRY_OVERHEAD;
        // One entry must not sweep out everything else.
        if weight > self.shard_bytes / 2 {
            return;
        }
        let mut shard = self.shard(&cid).write();
        if shard.deletes != ticket.0 || shard.entries.contains_key(&cid) {
            return;
        }
        shard.weight += weight;
        shard.entries.insert(cid, Entry { bytes: bytes.clone(), used: AtomicBool::new(false) });
        shard.queue.push_back(cid);
        while shard.weight > self.shard_bytes && shard.evict_one() {}
    }

    pub(crate) fn remove(&self, cid: &Cid) {
        let mut shard = self.shard(cid).write();
        shard.deletes += 1;
        if let Some(entry) = shard.entries.remove(cid) {
            shard.weight -= entry.bytes.len() + ENTRY_OVERHEAD;
            shard.queue.retain(|other| other != cid);
        }
    }
}

impl Shard {
    /// Takes out the oldest entry that was not used since it was last looked at. Ends: each turn clears a flag.
    fn evict_one(&mut self) -> bool {
        while let Some(cid) = self.queue.pop_front() {
            let Some(entry) = self.entries.get(&cid) else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                self.queue.push_back(cid);
                continue;
            }
            self.weight -= entry.bytes.len() + ENTRY_OVERHEAD;
            self.entries.remove(&cid);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIDs that fall into one shard.
    fn cid(n: u8) -> Cid {
        let mut digest = [0; 32];
        digest[31] = n;
        Cid::from_digest(digest)
    }

    fn cache(entries: usize) -> WireCache {
        WireCache::new(SHARDS * entries * (1000 + ENTRY_OVERHEAD))
    }

    fn put(cache: &WireCache, n: u8) {
        cache.insert(cache.ticket(&cid(n)), cid(n), &Bytes::from(vec![n; 1000]));
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let cache = cache(3);
        for n in 0..3 {
            put(&cache, n);
        }
        assert!((0..3).all(|n| cache.get(&cid(n)).is_some()), "three fit exactly");
        let cache = self::cache(3);
        for n in 0..3 {
            put(&cache, n);
        }
        assert!(cache.get(&cid(0)).is_some());
        put(&cache, 3);
        assert!(cache.get(&cid(0)).is_some(), "used since it came");
        assert!(cache.get(&cid(1)).is_none(), "the oldest that was not used");
        assert_eq!(cache.shards[0].read().weight, 3 * (1000 + ENTRY_OVERHEAD));
    }

    #[test]
    fn nothing_read_before_a_delete_is_kept_after_it() {
        let cache = cache(4);
        let ticket = cache.ticket(&cid(1));
        cache.remove(&cid(1));
        cache.insert(ticket, cid(1), &Bytes::from_static(b"old"));
        assert!(cache.get(&cid(1)).is_none());
        put(&cache, 1);
        assert!(cache.get(&cid(1)).is_some());
        cache.remove(&cid(1));
        assert!(cache.get(&cid(1)).is_none());
        assert_eq!(cache.shards[0].read().weight, 0);
        assert!(cache.shards[0].read().queue.is_empty());
    }

    #[test]
    fn an_entry_above_half_a_shard_is_not_kept() {
        let cache = WireCache::new(SHARDS * 2000);
        let edge = Bytes::from(vec![0; 1000 - ENTRY_OVERHEAD]);
        cache.insert(cache.ticket(&cid(1)), cid(1), &edge);
        assert!(cache.get(&cid(1)).is_some());
        let over = Bytes::from(vec![0; 1001 - ENTRY_OVERHEAD]);
        cache.insert(cache.ticket(&cid(2)), cid(2), &over);
        assert!(cache.get(&cid(2)).is_none());
        let off = WireCache::new(0);
        off.insert(off.ticket(&cid(1)), cid(1), &Bytes::new());
        assert!(off.get(&cid(1)).is_none());
    }
}
