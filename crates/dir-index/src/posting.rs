//! Which records of a chunk have a value: nothing allocated for the many values that only one record has.

use roaring::RoaringBitmap;

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
            Self::Many(many) => {
                many.insert(slot);
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

    pub(crate) fn union_into(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Empty => {}
            Self::One(one) => {
                set.insert(*one);
            }
            Self::Many(many) => *set |= many.as_ref(),
        }
    }
}
