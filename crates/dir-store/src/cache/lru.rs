//! Least recently used, bounded by weight.

use dir_core::Cid;
use std::collections::HashMap;

const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Slot<V> {
    key: Cid,
    value: Option<V>,
    weight: u64,
    newer: usize,
    older: usize,
}

/// A map that forgets what was used longest ago when it grows too heavy. Every call is a hash lookup and a few links.
#[derive(Debug)]
pub(super) struct Lru<V> {
    map: HashMap<Cid, usize>,
    slots: Vec<Slot<V>>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    weight: u64,
    capacity: u64,
}

impl<V: Clone> Lru<V> {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            map: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            weight: 0,
            capacity,
        }
    }

    /// The weight of everything in it.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Looks up, and counts as a use.
    pub(super) fn get(&mut self, key: &Cid) -> Option<V> {
        let at = *self.map.get(key)?;
        if self.newest != at {
            self.unlink(at);
            self.link_newest(at);
        }
        self.slots[at].value.clone()
    }

    /// Puts an entry in; answers the keys that made room. What is heavier than the capacity is not taken.
    pub(super) fn insert(&mut self, key: Cid, value: V, weight: u64) -> Vec<Cid> {
        self.remove(&key);
        if weight > self.capacity {
            return Vec::new();
        }
        let slot = Slot { key, value: Some(value), weight, newer: NONE, older: NONE };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.map.insert(key, at);
        self.link_newest(at);
        self.weight += weight;
        let mut gone = Vec::new();
        while self.weight > self.capacity && self.oldest != at {
            let key = self.slots[self.oldest].key;
            self.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &Cid) -> Option<V> {
        let at = self.map.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        self.weight -= self.slots[at].weight;
        self.slots[at].value.take()
    }

    fn link_newest(&mut self, at: usize) {
        self.slots[at].older = self.newest;
        self.slots[at].newer = NONE;
        if self.newest == NONE {
            self.oldest = at;
        } else {
            self.slots[self.newest].newer = at;
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.slots[at].newer, self.slots[at].older);
        if newer == NONE {
            self.newest = older;
        } else {
            self.slots[newer].older = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.slots[older].newer = newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> Cid {
        Cid::of(&[n])
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut lru = Lru::new(3);
        for n in 0..3 {
            assert_eq!(lru.insert(key(n), n, 1), []);
        }
        assert_eq!(lru.get(&key(0)), Some(0));
        assert_eq!(lru.insert(key(3), 3, 1), [key(1)]);
        assert_eq!(lru.insert(key(4), 4, 2), [key(2), key(0)]);
        assert_eq!(lru.insert(key(5), 5, 4), []);
        assert_eq!(lru.get(&key(5)), None, "heavier than everything");
        assert_eq!(lru.weight(), 3);
    }

    proptest! {
        /// Against a list that does the same slowly.
        #[test]
        fn behaves_like_a_list(steps in proptest::collection::vec((0_u8..3, 0_u8..12, 1_u64..5), 0..200)) {
            let mut lru = Lru::new(10);
            let mut list: Vec<(Cid, u8, u64)> = Vec::new();
            for (what, n, weight) in steps {
                match what {
                    0 => {
                        let at = list.iter().position(|(k, ..)| *k == key(n));
                        let found = at.map(|at| { let e = list.remove(at); list.push(e); e.1 });
                        prop_assert_eq!(lru.get(&key(n)), found);
                    }
                    1 => {
                        list.retain(|(k, ..)| *k != key(n));
                        list.push((key(n), n, weight));
                        while list.iter().map(|e| e.2).sum::<u64>() > 10 { list.remove(0); }
                        lru.insert(key(n), n, weight);
                    }
                    _ => {
                        let had = list.iter().any(|(k, ..)| *k == key(n));
                        list.retain(|(k, ..)| *k != key(n));
                        prop_assert_eq!(lru.remove(&key(n)).is_some(), had);
                    }
                }
                prop_assert_eq!(lru.weight(), list.iter().map(|e| e.2).sum::<u64>());
            }
        }
    }
}
