//! The records of every text of a dictionary: four bytes a text when one or two records have it, as with most names,
//! URLs and descriptions.

use crate::codec::Malformed;
use crate::image::{In, Out, ensure};
use crate::posting::{Posting, Slots};

/// What the upper two bits of an entry say of the rest.
const KIND_SHIFT: u32 = 30;
const REST: u32 = (1 << KIND_SHIFT) - 1;
/// One slot.
const ONE: u32 = 0;
/// Two slots, the smaller one in the upper half.
const TWO: u32 = 1;
/// The place of a set.
const SET: u32 = 2;
/// No record.
const EMPTY: u32 = u32::MAX;

/// Bits of each of two slots.
const SLOT_BITS: u32 = 15;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// Postings by the id of the text.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    entries: Vec<u32>,
    sets: Vec<Posting>,
    /// Sets that no text has.
    free: Vec<u32>,
}

impl Postings {
    /// Room for this id.
    pub(crate) fn reach(&mut self, id: u32) {
        if self.entries.len() <= id as usize {
            self.entries.resize(id as usize + 1, EMPTY);
        }
    }

    /// Ids that were ever used.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self, id: u32) -> bool {
        self.entries[id as usize] == EMPTY
    }

    pub(crate) fn slots(&self, id: u32) -> Slots<'_> {
        let entry = self.entries[id as usize];
        let rest = entry & REST;
        match entry >> KIND_SHIFT {
            ONE => Slots::Few(1, [rest, 0]),
            TWO => Slots::Few(2, [rest >> SLOT_BITS, rest & SLOT_MASK]),
            SET => Slots::Set(&self.sets[rest as usize]),
            _ => Slots::Few(0, [0; 2]),
        }
    }

    /// Ids in use, with the records of each.
    pub(crate) fn used(&self) -> impl Iterator<Item = (u32, Slots<'_>)> {
        let ids = (0_u32..).zip(&self.entries).filter(|(_, entry)| **entry != EMPTY);
        ids.map(|(id, _)| (id, self.slots(id)))
    }

    /// Answers whether the slot is new.
    pub(crate) fn insert(&mut self, id: u32, slot: u32) -> bool {
        let entry = self.entries[id as usize];
        let mut posting = match (entry >> KIND_SHIFT, self.slots(id)) {
            (SET, _) => return self.sets[(entry & REST) as usize].insert(slot),
            (_, Slots::Few(0, _)) if slot <= REST => {
                self.entries[id as usize] = slot;
                return true;
            }
            (_, Slots::Few(len, slots)) if slots[..len].contains(&slot) => return false,
            (_, Slots::Few(1, [other, _])) if slot.max(other) <= SLOT_MASK => {
                let both = (slot.min(other) << SLOT_BITS) | slot.max(other);
                self.entries[id as usize] = (TWO << KIND_SHIFT) | both;
                return true;
            }
            (_, slots) => slots.to_posting(),
        };
        posting.insert(slot);
        let place = if let Some(place) = self.free.pop() {
            self.sets[place as usize] = posting;
            place
        } else {
            self.sets.push(posting);
            u32::try_from(self.sets.len() - 1).unwrap_or(REST)
        };
        self.entries[id as usize] = (SET << KIND_SHIFT) | place;
        true
    }

    /// Answers whether the text has no record afterwards.
    pub(crate) fn remove(&mut self, id: u32, slot: u32) -> bool {
        let entry = self.entries[id as usize];
        let left = match self.slots(id) {
            Slots::Few(1, [one, _]) if one == slot => EMPTY,
            Slots::Few(2, [one, two]) if one == slot => two,
            Slots::Few(2, [one, two]) if two == slot => one,
            Slots::Few(..) => entry,
            Slots::Set(_) => {
                let place = entry & REST;
                let set = &mut self.sets[place as usize];
                if set.remove(slot) {
                    *set = Posting::default();
                    self.free.push(place);
                    EMPTY
                } else {
                    entry
                }
            }
        };
        self.entries[id as usize] = left;
        left == EMPTY
    }

    /// Gives back spare memory.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.sets.iter_mut().for_each(Posting::shrink);
        self.sets.shrink_to_fit();
        self.free.shrink_to_fit();
    }

    pub(crate) fn write(&self, out: &mut Out) {
        out.numbers(&self.entries);
        out.len(self.sets.len());
        self.sets.iter().for_each(|set| set.write(out));
    }

    /// Postings of slots below `slots`.
    pub(crate) fn load(image: &mut In<'_>, slots: u32) -> Result<Self, Malformed> {
        let entries: Vec<u32> = image.numbers()?;
        let sets =
            (0..image.number()?).map(|_| Posting::load(image, slots)).collect::<Result<Vec<_>, _>>()?;
        let free = (0..).zip(&sets).filter(|(_, set)| set.is_empty()).map(|(place, _)| place).collect();
        let postings = Self { entries, sets, free };
        for &entry in &postings.entries {
            let rest = entry & REST;
            ensure(match entry >> KIND_SHIFT {
                ONE => rest < slots,
                TWO => rest >> SLOT_BITS < rest & SLOT_MASK && rest & SLOT_MASK < slots,
                SET => postings.sets.get(rest as usize).is_some_and(|set| !set.is_empty()),
                _ => entry == EMPTY,
            })?;
        }
        Ok(postings)
    }

    /// Ids of which no record is known.
    pub(crate) fn unused(&self) -> Vec<u32> {
        (0..).zip(&self.entries).filter(|(_, entry)| **entry == EMPTY).map(|(id, _)| id).collect()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        let sets: usize = self.sets.iter().map(Posting::heap).sum();
        (self.entries.capacity() + self.free.capacity()) * 4
            + self.sets.capacity() * size_of::<Posting>()
            + sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::Union;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn slot() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..6, 32_765_u32..32_770, REST - 1..=REST + 2]
    }

    proptest! {
        #[test]
        fn every_text_has_a_set_of_slots(steps in prop::collection::vec((any::<bool>(), 0_u32..3, slot()), 0..80)) {
            let (mut postings, mut sets) = (Postings::default(), BTreeMap::<u32, BTreeSet<u32>>::new());
            postings.reach(2);
            for (insert, id, slot) in steps {
                let set = sets.entry(id).or_default();
                if insert {
                    prop_assert_eq!(postings.insert(id, slot), set.insert(slot));
                } else if !set.is_empty() {
                    set.remove(&slot);
                    prop_assert_eq!(postings.remove(id, slot), set.is_empty());
                }
                postings.shrink();
                for (id, set) in &sets {
                    prop_assert_eq!(postings.is_empty(*id), set.is_empty());
                    let mut union = Union::default();
                    union.add_slots(postings.slots(*id));
                    prop_assert_eq!(union.finish().iter().collect::<BTreeSet<_>>(), set.clone());
                }
                prop_assert_eq!(postings.used().count(), sets.values().filter(|set| !set.is_empty()).count());
            }
        }
    }
}
