//! Which records of a chunk have a value: nothing allocated for the many values that only a few records have.

use crate::codec::Malformed;
use crate::image::{In, Out, ensure};
use roaring::{MultiOps, RoaringBitmap};
use std::borrow::Cow;

/// Slots that a posting holds in itself: it takes sixteen bytes with them and without. A bitmap of two slots would
/// take some 250 more, and most texts of a catalogue belong to a record and its later versions.
const INLINE: usize = 7;

/// Instead of a length: a bitmap follows.
const MANY: u32 = u32::MAX;

/// A set of slots of one chunk.
#[derive(Debug, Clone)]
pub(crate) enum Posting {
    /// The first so many of the array, ascending.
    Few(u8, [u16; INLINE]),
    /// More than that, or a slot that does not fit.
    Many(Box<RoaringBitmap>),
}

/// The records of a text, as they are found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slots<'a> {
    /// The first so many, ascending.
    Few(usize, [u32; 2]),
    Set(&'a Posting),
}

impl Slots<'_> {
    /// Whether some of them may be in a set: of many it is not asked.
    pub(crate) fn may_meet(self, set: &RoaringBitmap) -> bool {
        match self {
            Self::Few(len, slots) => slots[..len].iter().any(|&slot| set.contains(slot)),
            Self::Set(Posting::Few(len, slots)) => {
                slots[..usize::from(*len)].iter().any(|&slot| set.contains(u32::from(slot)))
            }
            Self::Set(Posting::Many(_)) => true,
        }
    }

    pub(crate) fn to_posting(self) -> Posting {
        match self {
            Self::Set(posting) => posting.clone(),
            Self::Few(len, slots) => slots[..len].iter().fold(Posting::default(), |mut posting, &slot| {
                posting.insert(slot);
                posting
            }),
        }
    }
}

impl Default for Posting {
    fn default() -> Self {
        Self::Few(0, [0; INLINE])
    }
}

impl Posting {
    /// Answers whether the slot is new.
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        match self {
            Self::Few(len, slots) => {
                let used = usize::from(*len);
                let fits = u16::try_from(slot).ok();
                let at = match fits.map(|slot| slots[..used].binary_search(&slot)) {
                    Some(Ok(_)) => return false,
                    Some(Err(at)) if used < INLINE => at,
                    _ => {
                        let mut many: RoaringBitmap =
                            slots[..used].iter().map(|&slot| u32::from(slot)).collect();
                        many.insert(slot);
                        *self = Self::Many(Box::new(many));
                        return true;
                    }
                };
                slots.copy_within(at..used, at + 1);
                slots[at] = fits.unwrap_or_default();
                *len += 1;
                true
            }
            // Not pushed: a bitmap looks for its last bit first, over all that are not set.
            Self::Many(many) => many.insert(slot),
        }
    }

    /// Answers whether the set is empty afterwards.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::Few(len, slots) => {
                let used = usize::from(*len);
                let at = u16::try_from(slot).ok().and_then(|slot| slots[..used].binary_search(&slot).ok());
                if let Some(at) = at {
                    slots.copy_within(at + 1..used, at);
                    *len -= 1;
                }
            }
            Self::Many(many) => {
                many.remove(slot);
                if many.is_empty() {
                    *self = Self::default();
                }
            }
        }
        self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(0, _))
    }

    /// Gives back spare memory: what grows by appending has room for twice as many.
    pub(crate) fn shrink(&mut self) {
        if let Self::Many(many) = self {
            // A copy has no room to grow; the bitmap itself offers no other way.
            let copy = RoaringBitmap::clone(many);
            **many = copy;
        }
    }

    pub(crate) fn write(&self, out: &mut Out) {
        match self {
            Self::Few(len, slots) => {
                out.len(usize::from(*len));
                slots[..usize::from(*len)].iter().for_each(|&slot| out.number(u32::from(slot)));
            }
            Self::Many(many) => {
                out.number(MANY);
                let mut bytes = Vec::with_capacity(many.serialized_size());
                // Writing to memory does not fail; bytes that lack something are noticed by who reads them.
                let _ = many.serialize_into(&mut bytes);
                out.bytes(&bytes);
            }
        }
    }

    /// A set of slots below `slots`.
    pub(crate) fn load(image: &mut In<'_>, slots: u32) -> Result<Self, Malformed> {
        let mut posting = Self::default();
        match image.number()? {
            MANY => {
                let many = RoaringBitmap::deserialize_from(image.bytes()?).map_err(|_malformed| Malformed)?;
                ensure(many.max().is_some_and(|last| last < slots))?;
                posting = Self::Many(Box::new(many));
            }
            few => {
                for _ in 0..few {
                    let slot = image.number()?;
                    ensure(slot < slots && posting.insert(slot))?;
                }
            }
        }
        Ok(posting)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        /// A container within the bitmap.
        const CONTAINER: usize = 40;
        match self {
            Self::Few(..) => 0,
            Self::Many(many) => {
                let all = many.statistics();
                let bytes =
                    all.n_bytes_array_containers + all.n_bytes_bitset_containers + all.n_bytes_run_containers;
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                size_of::<RoaringBitmap>() + CONTAINER * all.n_containers as usize + bytes
            }
        }
    }
}

/// The union of many postings, built at once.
#[derive(Default)]
pub(crate) struct Union<'a> {
    few: Vec<u32>,
    many: Vec<&'a RoaringBitmap>,
}

impl<'a> Union<'a> {
    pub(crate) fn add_slots(&mut self, slots: Slots<'a>) {
        match slots {
            Slots::Few(len, slots) => self.few.extend(&slots[..len]),
            Slots::Set(posting) => self.add(posting),
        }
    }

    pub(crate) fn add(&mut self, posting: &'a Posting) {
        match posting {
            Posting::Few(len, slots) => {
                self.few.extend(slots[..usize::from(*len)].iter().map(|&slot| u32::from(slot)));
            }
            Posting::Many(many) => self.many.push(many),
        }
    }

    /// A union of one set is that set.
    pub(crate) fn finish_or_borrow(self) -> Cow<'a, RoaringBitmap> {
        match (self.few.as_slice(), self.many.as_slice()) {
            ([], [one]) => Cow::Borrowed(one),
            _ => Cow::Owned(self.finish()),
        }
    }

    pub(crate) fn finish(mut self) -> RoaringBitmap {
        self.few.sort_unstable();
        let mut set = self.many.union();
        set.extend(self.few);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn slots(posting: &Posting) -> Vec<u32> {
        let mut union = Union::default();
        union.add(posting);
        union.finish_or_borrow().iter().collect()
    }

    proptest! {
        #[test]
        fn a_posting_is_a_set_of_slots(
            steps in prop::collection::vec((any::<bool>(), prop_oneof![0_u32..12, 65_530_u32..65_540]), 0..60),
        ) {
            let (mut posting, mut set) = (Posting::default(), BTreeSet::new());
            for (insert, slot) in steps {
                if insert {
                    prop_assert_eq!(posting.insert(slot), set.insert(slot));
                } else {
                    set.remove(&slot);
                    prop_assert_eq!(posting.remove(slot), set.is_empty());
                }
                prop_assert_eq!(posting.is_empty(), set.is_empty());
                prop_assert_eq!(slots(&posting), set.iter().copied().collect::<Vec<_>>());
                let mut smaller = posting.clone();
                smaller.shrink();
                prop_assert_eq!(slots(&smaller), slots(&posting));
            }
        }
    }

    #[test]
    fn few_slots_cost_nothing_on_the_heap() {
        let mut posting = Posting::default();
        assert_eq!(size_of::<Posting>(), 16);
        for slot in 0..7 {
            assert!(posting.insert(slot * 100));
            assert_eq!(posting.heap(), 0);
        }
        assert!(!posting.insert(300));
        assert!(posting.insert(7));
        assert!(posting.heap() > 0);
    }
}
