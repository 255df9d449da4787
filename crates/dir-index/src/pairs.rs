//! Fields whose rows have two halves (id and name, type and URL, key and value): conditions on both halves must
//! hold on the same row, so distinct rows are kept beside the distinct halves.

use crate::dict::Dict;
use crate::pattern::Pattern;
use crate::plan::Join;
use crate::posting::{Posting, Union};
use dir_core::index::Work;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The rows of one field in one chunk.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) left: Dict,
    pub(crate) right: Dict,
    rows: BTreeMap<(u32, u32), Posting>,
}

impl Pairs {
    /// Notes that a record has a row; answers the ids of its halves.
    pub(crate) fn add(&mut self, left: &str, right: &str, slot: u32) -> (u32, u32) {
        let ids = (self.left.add(left, slot), self.right.add(right, slot));
        self.rows.entry(ids).or_default().insert(slot);
        ids
    }

    /// Takes a record from a row. Doing so twice changes nothing.
    pub(crate) fn remove(&mut self, ids: (u32, u32), slot: u32) {
        if let Some(posting) = self.rows.get_mut(&ids)
            && posting.remove(slot)
        {
            self.rows.remove(&ids);
        }
        self.left.remove(ids.0, slot);
        self.right.remove(ids.1, slot);
    }

    /// The records with a row that meets the patterns.
    pub(crate) fn select(&self, left: &[Pattern], right: &[Pattern], join: Join) -> Cow<'_, RoaringBitmap> {
        match (left, right) {
            (_, []) => self.left.select_any(left),
            ([], _) => self.right.select_any(right),
            _ if join == Join::Either => {
                let set = self.left.select_any(left).into_owned() | self.right.select_any(right).as_ref();
                Cow::Owned(set)
            }
            _ => Cow::Owned(self.select_both(left, right)),
        }
    }

    fn select_both(&self, left: &[Pattern], right: &[Pattern]) -> RoaringBitmap {
        let mut rights = RoaringBitmap::new();
        self.right.for_each_match(right, |id| {
            rights.insert(id);
        });
        if rights.is_empty() {
            return RoaringBitmap::new();
        }
        let mut union = Union::default();
        self.left.for_each_match(left, |id| {
            for (ids, posting) in self.rows.range((id, 0)..=(id, u32::MAX)) {
                if rights.contains(ids.1) {
                    union.add(posting);
                }
            }
        });
        union.finish()
    }

    /// Gives back spare memory.
    pub(crate) fn shrink(&mut self) {
        self.left.shrink();
        self.right.shrink();
    }

    /// What reads have cost.
    pub(crate) fn work(&self) -> Work {
        self.left.work().plus(self.right.work())
    }

    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_on_the_same_row() {
        let mut pairs = Pairs::default();
        let first = pairs.add("1", "a", 0);
        pairs.add("2", "b", 0);
        pairs.add("1", "b", 1);
        let p = |text: &str| vec![Pattern::new(text)];
        let slots = |set: Cow<'_, RoaringBitmap>| set.iter().collect::<Vec<_>>();
        assert_eq!(slots(pairs.select(&p("1"), &p("b"), Join::Both)), [1]);
        assert_eq!(slots(pairs.select(&p("1"), &p("a"), Join::Either)), [0, 1]);
        assert_eq!(slots(pairs.select(&p("2"), &[], Join::Both)), [0]);
        assert_eq!(slots(pairs.select(&[], &p("*"), Join::Both)), [0, 1]);
        pairs.remove(first, 0);
        pairs.remove(first, 0);
        assert_eq!(slots(pairs.select(&p("*"), &p("a"), Join::Both)), [0_u32; 0]);
        assert_eq!(pairs.len(), 2);
    }
}
