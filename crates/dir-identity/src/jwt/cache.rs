//! Tokens that were verified already, by the hash of the token. The token itself is not kept.

use dir_core::TokenIdentity;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Parts of the cache, each with a lock of its own.
const SHARDS: usize = 16;

type Hash = [u8; 32];

/// Remembers so many tokens at most; those that were not used for long go first. Everything is forgotten when the keys
/// change.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    /// Each of the two halves of a shard.
    half_max: usize,
}

#[derive(Default)]
struct Shard {
    generation: u64,
    young: HashMap<Hash, Arc<TokenIdentity>>,
    old: HashMap<Hash, Arc<TokenIdentity>>,
}

impl Cache {
    /// `max` 0 remembers nothing.
    pub(crate) fn new(max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, half_max: max / SHARDS / 2 }
    }

    fn shard(&self, hash: &Hash) -> &Mutex<Shard> {
        &self.shards[usize::from(hash[0]) % SHARDS]
    }

    /// What was found out with the keys of this generation.
    pub(crate) fn get(&self, hash: &Hash, generation: u64) -> Option<Arc<TokenIdentity>> {
        let mut shard = self.shard(hash).lock();
        if shard.generation != generation {
            return None;
        }
        if let Some(found) = shard.young.get(hash) {
            return Some(found.clone());
        }
        let found = shard.old.remove(hash)?;
        shard.keep(*hash, found.clone(), self.half_max);
        Some(found)
    }

    pub(crate) fn put(&self, hash: Hash, identity: Arc<TokenIdentity>, generation: u64) {
        if self.half_max == 0 {
            return;
        }
        let mut shard = self.shard(&hash).lock();
        if shard.generation < generation {
            *shard = Shard { generation, ..Shard::default() };
        }
        // Whoever verified with older keys than the cache knows has nothing to tell it.
        if shard.generation == generation {
            shard.keep(hash, identity, self.half_max);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock()).map(|s| s.young.len() + s.old.len()).sum()
    }
}

impl Shard {
    fn keep(&mut self, hash: Hash, identity: Arc<TokenIdentity>, half_max: usize) {
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_core::Timestamp;

    fn identity() -> Arc<TokenIdentity> {
        Arc::new(TokenIdentity {
            id: "spiffe://a.example/w".parse().unwrap(),
            not_before: None,
            expires: Timestamp::from_secs(1),
            accepted_until: Timestamp::from_secs(1),
            claims: None,
            key: [0; 32],
        })
    }

    fn hash(n: u32) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &n.to_be_bytes()).as_ref());
        hash
    }

    #[test]
    fn it_never_holds_more_than_it_may_and_keeps_what_is_used() {
        let max = 320;
        let cache = Cache::new(max);
        let used = hash(u32::MAX);
        cache.put(used, identity(), 1);
        for n in 0..10_000 {
            cache.put(hash(n), identity(), 1);
            assert!(cache.get(&used, 1).is_some(), "after {n}");
        }
        assert!(cache.len() <= max, "{}", cache.len());
        assert!(cache.len() > max / 2);
        assert!(cache.get(&hash(0), 1).is_none());
        let none = Cache::new(0);
        none.put(used, identity(), 1);
        assert!(none.get(&used, 1).is_none());
    }

    #[test]
    fn other_keys_make_it_forget() {
        let cache = Cache::new(320);
        let token = hash(1);
        cache.put(token, identity(), 1);
        assert!(cache.get(&token, 1).is_some());
        assert!(cache.get(&token, 2).is_none());
        cache.put(token, identity(), 2);
        assert!(cache.get(&token, 2).is_some());
        cache.put(hash(2), identity(), 1);
        assert!(cache.get(&token, 2).is_some(), "a late comer does not turn it back");
    }
}
