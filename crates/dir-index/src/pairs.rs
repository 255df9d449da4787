//! Fields whose rows have two halves (id and name, type and URL, key and value): conditions on both halves must
//! hold on the same row, so distinct rows are known beside the distinct halves.

use crate::codec::Malformed;
use crate::dict::{Dict, Within};
use crate::image::{In, Out, ensure};
use crate::pattern::Pattern;
use crate::plan::Join;
use crate::posting::{Posting, Union};
use dir_core::index::Work;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// No left half in [`Pairs::partner`].
const NONE: u32 = u32::MAX;
/// Several of them.
const SEVERAL: u32 = u32::MAX - 1;

/// The rows of one field in one chunk.
///
/// Nearly every right half (a name, a URL, a value) stands beside one left half only: then the records with the row
/// are the records with the right half, and the row costs four bytes. Only the others are kept apart.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) left: Dict,
    pub(crate) right: Dict,
    /// The left half beside each right one, by id.
    partner: Vec<u32>,
    /// The rows, right half first, of right halves that have several partners.
    rows: BTreeMap<(u32, u32), Posting>,
}

impl Pairs {
    /// Notes that a record has a row; answers the ids of its halves.
    pub(crate) fn add(&mut self, left: &str, right: &str, slot: u32) -> (u32, u32) {
        let (left, _) = self.left.note(left, slot);
        let (right, new) = self.right.note(right, slot);
        let at = right as usize;
        if self.partner.len() <= at {
            self.partner.resize(at + 1, NONE);
        }
        match self.partner[at] {
            NONE => self.partner[at] = left,
            SEVERAL => self.add_row(right, left, slot),
            partner if partner == left => {}
            partner => {
                let mut others = self.right.slots(right).to_posting();
                if new {
                    others.remove(slot);
                }
                self.rows.insert((right, partner), others);
                self.partner[at] = SEVERAL;
                self.add_row(right, left, slot);
            }
        }
        (left, right)
    }

    fn add_row(&mut self, right: u32, left: u32, slot: u32) {
        self.rows.entry((right, left)).or_default().insert(slot);
    }

    /// Takes a record from a row; all of its rows are taken. Doing so twice changes nothing.
    pub(crate) fn remove(&mut self, (left, right): (u32, u32), slot: u32) {
        if let Some(posting) = self.rows.get_mut(&(right, left))
            && posting.remove(slot)
        {
            self.rows.remove(&(right, left));
        }
        self.left.remove(left, slot);
        if self.right.remove(right, slot) {
            // The id may be another text's from now on.
            self.partner[right as usize] = NONE;
        }
    }

    /// The records with a row that meets the patterns; of those that are not `within` perhaps none.
    pub(crate) fn select(
        &self,
        left: &[Pattern],
        right: &[Pattern],
        join: Join,
        within: Within<'_>,
    ) -> Cow<'_, RoaringBitmap> {
        match (left, right) {
            (_, []) => self.left.select_any(left, within),
            ([], _) => self.right.select_any(right, within),
            _ if join == Join::Either => {
                let lefts = self.left.select_any(left, within).into_owned();
                Cow::Owned(lefts | self.right.select_any(right, within).as_ref())
            }
            _ => Cow::Owned(self.select_both(left, right, within)),
        }
    }

    fn select_both(&self, left: &[Pattern], right: &[Pattern], within: Within<'_>) -> RoaringBitmap {
        let mut lefts = RoaringBitmap::new();
        self.left.for_each_match(left, within, |id| {
            lefts.insert(id);
        });
        if lefts.is_empty() {
            return lefts;
        }
        let mut union = Union::default();
        self.right.for_each_match(right, within, |id| match self.partner[id as usize] {
            SEVERAL => {
                let rows = self.rows.range((id, 0)..=(id, u32::MAX));
                rows.filter(|((_, left), _)| lefts.contains(*left))
                    .for_each(|(_, posting)| union.add(posting));
            }
            partner if lefts.contains(partner) => union.add_slots(self.right.slots(id)),
            _ => {}
        });
        union.finish()
    }

    /// Gives back spare memory, and keeps the texts in little of it.
    pub(crate) fn freeze(&mut self) {
        self.left.freeze();
        self.right.freeze();
        self.partner.shrink_to_fit();
        self.rows.values_mut().for_each(Posting::shrink);
    }

    pub(crate) fn write(&self, out: &mut Out) {
        self.left.write(out);
        self.right.write(out);
        out.numbers(&self.partner);
        out.len(self.rows.len());
        for ((right, left), posting) in &self.rows {
            out.number(*right);
            out.number(*left);
            posting.write(out);
        }
    }

    /// Rows of slots below `slots`.
    pub(crate) fn load(image: &mut In<'_>, slots: u32) -> Result<Self, Malformed> {
        let (left, right) = (Dict::load(image, slots)?, Dict::load(image, slots)?);
        let partner: Vec<u32> = image.numbers()?;
        ensure(partner.len() == right.ids())?;
        let rows = (0..image.number()?)
            .map(|_| Ok(((image.number()?, image.number()?), Posting::load(image, slots)?)))
            .collect::<Result<_, Malformed>>()?;
        Ok(Self { left, right, partner, rows })
    }

    /// What reads have cost.
    pub(crate) fn work(&self) -> Work {
        self.left.work().plus(self.right.work())
    }

    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    /// Bytes of the texts of each side.
    pub(crate) fn sides(&self) -> (usize, usize) {
        (self.left.bytes(), self.right.bytes())
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        let row = size_of::<((u32, u32), Posting)>();
        let rows: usize = self.rows.values().map(|posting| row * 3 / 2 + posting.heap()).sum();
        self.left.heap() + self.right.heap() + self.partner.capacity() * size_of::<u32>() + rows
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.rows.len() + self.partner.iter().filter(|partner| ![NONE, SEVERAL].contains(partner)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn both_halves_on_the_same_row() {
        let mut pairs = Pairs::default();
        let first = pairs.add("1", "a", 0);
        let second = pairs.add("2", "b", 0);
        pairs.add("1", "b", 1);
        let p = |text: &str| vec![Pattern::new(text)];
        let slots = |set: Cow<'_, RoaringBitmap>| set.iter().collect::<Vec<_>>();
        assert_eq!(slots(pairs.select(&p("1"), &p("b"), Join::Both, None)), [1]);
        assert_eq!(slots(pairs.select(&p("1"), &p("a"), Join::Either, None)), [0, 1]);
        assert_eq!(slots(pairs.select(&p("2"), &[], Join::Both, None)), [0]);
        assert_eq!(slots(pairs.select(&[], &p("*"), Join::Both, None)), [0, 1]);
        assert_eq!(pairs.len(), 3);
        for ids in [first, first, second] {
            pairs.remove(ids, 0);
        }
        assert_eq!(slots(pairs.select(&p("*"), &p("a"), Join::Both, None)), [0_u32; 0]);
        assert_eq!(pairs.len(), 1);
    }

    type Row = (u8, u8);

    fn matching(records: &BTreeMap<u32, BTreeSet<Row>>, left: &str, right: &str) -> Vec<u32> {
        let meets = |half: u8, pattern: &str| pattern == "*" || pattern == half.to_string();
        let has = |rows: &BTreeSet<Row>| rows.iter().any(|(l, r)| meets(*l, left) && meets(*r, right));
        records.iter().filter(|(_, rows)| has(rows)).map(|(slot, _)| *slot).collect()
    }

    proptest! {
        /// Records come and go; a row is found as in a list of all rows.
        #[test]
        fn rows_are_those_of_the_records(
            steps in prop::collection::vec((any::<bool>(), 0_u32..12, prop::collection::vec((0_u8..4, 0_u8..5), 0..5)), 1..40),
        ) {
            let (mut pairs, mut records) = (Pairs::default(), BTreeMap::<u32, BTreeSet<Row>>::new());
            let mut ids = BTreeMap::<u32, Vec<(u32, u32)>>::new();
            for (n, (add, slot, rows)) in (0..).zip(steps) {
                if add {
                    // A slot is used once.
                    let slot = 12 * n + slot;
                    let added = rows.iter().map(|(l, r)| pairs.add(&l.to_string(), &r.to_string(), slot));
                    ids.insert(slot, added.collect());
                    records.insert(slot, rows.into_iter().collect());
                } else if let Some((slot, added)) = ids.pop_first() {
                    for ids in added {
                        pairs.remove(ids, slot);
                    }
                    records.remove(&slot);
                }
                for left in ["*", "0", "1", "2"] {
                    for right in ["*", "0", "1", "4"] {
                        let p = |text: &str| vec![Pattern::new(text)];
                        let found = pairs.select(&p(left), &p(right), Join::Both, None);
                        prop_assert_eq!(found.iter().collect::<Vec<_>>(), matching(&records, left, right));
                    }
                }
                let distinct: BTreeSet<Row> = records.values().flatten().copied().collect();
                prop_assert!(pairs.len() >= distinct.len());
            }
        }
    }
}
