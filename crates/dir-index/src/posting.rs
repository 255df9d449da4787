//! Which records of a chunk have a value: nothing allocated for the many values that only one record has.

use roaring::{MultiOps, RoaringBitmap};
use std::borrow::Cow;

/// A set of slots of one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) enum Posting {
    #[default]
    Empty,
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Posting {
    pub(crate) fn insert(&mut self, slot: u32) {
        match self {
            Self::Empty => *self = Self::One(slot),
            Self::One(one) if *one == slot => {}
            Self::One(one) => {
                let both = RoaringBitmap::from_iter([*one, slot]);
                *self = Self::Many(Box::new(both));
            }
            // New records have the highest slot: appending is cheaper than looking for the place.
            Self::Many(many) => {
                if many.try_push(slot).is_err() {
                    many.insert(slot);
                }
            }
        }
    }

    /// Answers whether the set is empty afterwards.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) if *one == slot => *self = Self::Empty,
            Self::Many(many) => {
                many.remove(slot);
                if many.is_empty() {
                    *self = Self::Empty;
                }
            }
            Self::Empty | Self::One(_) => {}
        }
        matches!(self, Self::Empty)
    }
}

/// The union of many postings, built at once.
#[derive(Default)]
pub(crate) struct Union<'a> {
    ones: Vec<u32>,
    many: Vec<&'a RoaringBitmap>,
}

impl<'a> Union<'a> {
    pub(crate) fn add(&mut self, posting: &'a Posting) {
        match posting {
            Posting::Empty => {}
            Posting::One(one) => self.ones.push(*one),
            Posting::Many(many) => self.many.push(many),
        }
    }

    /// A union of one set is that set.
    pub(crate) fn finish_or_borrow(self) -> Cow<'a, RoaringBitmap> {
        match (self.ones.as_slice(), self.many.as_slice()) {
            ([], [one]) => Cow::Borrowed(one),
            _ => Cow::Owned(self.finish()),
        }
    }

    pub(crate) fn finish(mut self) -> RoaringBitmap {
        self.ones.sort_unstable();
        let mut set = self.many.union();
        set.extend(self.ones);
        set
    }
}
