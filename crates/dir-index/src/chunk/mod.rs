//! Some thousand records in one place: their rows, the distinct values of every field, and their order.
//!
//! Chunks keep every lock short and every table small: a write moves at most one chunk's arrays, a wildcard
//! reads one chunk's dictionary at a time, and chunks load in parallel.

mod facts;
mod image;

use crate::dict::{Dict, Within};
use crate::label::Label;
use crate::packed::Lists;
use crate::pairs::Pairs;
use crate::plan::{PairField, Plan, Test, TextField};
use crate::popular::Popular;
use crate::rank::{Place, Rank};
use dir_core::index::{Usage, Work};
use dir_core::query::Sort;
use dir_core::{Cid, RecordFacts, Timestamp};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Texts of a chunk in bytes: far from the 4 GiB at which their offsets would end, whatever records hold.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024 * 1024;

/// Records, by slot.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    places: Vec<Place>,
    /// The facts of each as ids of texts, in the order of [`Chunk::insert`].
    ids: Lists,
    /// Slots, the one that comes first last: new records are added at the end.
    order: Vec<u32>,
    live: RoaringBitmap,
    popular: Popular,
    /// Records looked at while results were put in order.
    walked: AtomicU64,
    pub(crate) texts: [Dict; TextField::COUNT],
    pub(crate) pairs: [Pairs; PairField::COUNT],
    /// Texts that no query asks for: previous CIDs and artifact media types.
    other: Dict,
}

/// Which records of a chunk match.
#[derive(Debug)]
pub(crate) enum Matches {
    All,
    Some(RoaringBitmap),
}

impl Matches {
    fn has(&self, slot: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(set) => set.contains(slot),
        }
    }
}

impl Chunk {
    /// Whether new records belong in another chunk: it has had `records` of them, or its texts are large.
    pub(crate) fn is_full(&self, records: usize) -> bool {
        let bytes = || {
            self.texts.iter().map(Dict::bytes).sum::<usize>()
                + self.pairs.iter().map(Pairs::bytes).sum::<usize>()
                + self.other.bytes()
                + self.ids.bytes()
        };
        self.places.len() >= records || bytes() >= MAX_TEXT_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The first of its records in the order.
    pub(crate) fn first(&self) -> Option<Place> {
        self.order.last().and_then(|&slot| self.place(slot))
    }

    fn place(&self, slot: u32) -> Option<Place> {
        self.places.get(slot as usize).copied()
    }

    /// The place of the record in a slot, if it is still that one.
    fn place_of(&self, slot: u32, cid: &Cid) -> Option<Place> {
        self.place(slot).filter(|place| place.cid == *cid && self.live.contains(slot))
    }

    /// The record that a slot has or had.
    pub(crate) fn cid(&self, slot: u32) -> Option<&Cid> {
        self.places.get(slot as usize).map(|place| &place.cid)
    }

    /// Adds a record that is in no chunk; answers its slot.
    pub(crate) fn insert(&mut self, place: Place, facts: &RecordFacts) -> u32 {
        let slot = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.intern(slot, facts);
        if self.first() > Some(place) || self.is_empty() {
            self.order.push(slot);
        } else {
            let at = self.order.partition_point(|&s| self.place(s) > Some(place));
            self.order.insert(at, slot);
        }
        self.live.insert(slot);
        self.places.push(place);
        slot
    }

    /// Gives back memory that was kept for records to come, and keeps the texts in little of it: reading one costs
    /// more then, and another record undoes it.
    pub(crate) fn freeze(&mut self) {
        self.places.shrink_to_fit();
        self.ids.shrink();
        self.order.shrink_to_fit();
        self.other.freeze();
        self.texts.iter_mut().for_each(Dict::freeze);
        self.pairs.iter_mut().for_each(Pairs::freeze);
    }

    /// Removes the record in a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(place) = self.place(slot).filter(|_| self.live.contains(slot)) else { return };
        let at = self.order.partition_point(|&s| self.place(s) > Some(place));
        self.order.remove(at);
        self.popular.remove(slot, Rank::unused(place));
        self.live.remove(slot);
        self.forget(slot);
    }

    /// The record in a slot, if it is still that one.
    pub(crate) fn row(&self, slot: u32, cid: &Cid) -> Option<(Timestamp, RecordFacts, Usage)> {
        let place = self.place_of(slot, cid)?;
        Some((place.at.0, self.facts(slot), self.popular.usage(slot)))
    }

    /// Hands over every record, oldest first, until one is refused.
    pub(crate) fn each_row<E>(
        &self,
        take: &mut impl FnMut(Place, &RecordFacts) -> Result<(), E>,
    ) -> Result<(), E> {
        let slots = self.order.iter().filter_map(|&slot| Some((slot, self.place(slot)?)));
        slots.into_iter().try_for_each(|(slot, place)| take(place, &self.facts(slot)))
    }

    /// When the record in a slot came, if it is still that one.
    pub(crate) fn came_at(&self, slot: u32, cid: &Cid) -> Option<Timestamp> {
        self.place_of(slot, cid).map(|place| place.at.0)
    }

    /// The counters of the record in a slot, if it is still that one.
    pub(crate) fn usage(&self, slot: u32, cid: &Cid) -> Option<Usage> {
        self.place_of(slot, cid).map(|_| self.popular.usage(slot))
    }

    /// Adds to the counters of the record in a slot, if it is still that one.
    pub(crate) fn add_usage(&mut self, slot: u32, cid: &Cid, more: Usage) {
        if let Some(place) = self.place_of(slot, cid) {
            self.popular.add(slot, Rank::unused(place), more);
        }
    }

    /// Slots that were given so far: none is given twice.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// What asking a plan of all records costs at most: bytes of text times patterns.
    pub(crate) fn cost(&self, plan: &Plan) -> u64 {
        let cost = |test: &Test| {
            let (left, right) = test.weights();
            match test {
                Test::Text { field, .. } => left * self.texts[*field as usize].bytes() as u64,
                Test::Rows { field, .. } => {
                    let (lefts, rights) = self.pairs[*field as usize].sides();
                    left * lefts as u64 + right * rights as u64
                }
                Test::Labels(_) => 0,
            }
        };
        plan.tests().map(cost).sum()
    }

    /// Which records of some slots match a plan.
    pub(crate) fn matches_of(&self, plan: &Plan, slots: Range<u32>) -> RoaringBitmap {
        let mut some = RoaringBitmap::new();
        some.insert_range(slots);
        self.found(plan, Some(some & &self.live))
    }

    /// Which records match a plan. Has it been asked already, those that are still here.
    pub(crate) fn matches(&self, plan: &Plan, asked: Option<RoaringBitmap>) -> Matches {
        match asked {
            _ if plan.is_everything() => Matches::All,
            Some(found) => Matches::Some(found & &self.live),
            None => Matches::Some(self.found(plan, None)),
        }
    }

    /// Which records, of some or of all, match a plan: what is found by hash or order first, smallest set first; then
    /// what is read, of the records that are left.
    fn found(&self, plan: &Plan, of: Option<RoaringBitmap>) -> RoaringBitmap {
        if plan.nothing {
            return RoaringBitmap::new();
        }
        let (read, known): (Vec<&Test>, Vec<&Test>) =
            plan.include.iter().partition(|test| test.reads_dictionary());
        let mut sets = Vec::with_capacity(known.len());
        for test in known {
            let set = self.select(test, None);
            if set.is_empty() {
                return RoaringBitmap::new();
            }
            sets.push(set);
        }
        sets.sort_by_key(|set| set.len());
        let mut sets = of.into_iter().map(Cow::Owned).chain(sets);
        let mut found = sets.next().map(Cow::into_owned);
        for set in sets {
            found = found.map(|found| found & set.as_ref());
        }
        for test in read {
            let set = self.select(test, found.as_ref());
            let left = match &found {
                Some(found) => found & set.as_ref(),
                None => set.into_owned(),
            };
            if left.is_empty() {
                return left;
            }
            found = Some(left);
        }
        let mut found = found.unwrap_or_else(|| self.live.clone());
        for test in &plan.exclude {
            if found.is_empty() {
                break;
            }
            let without = self.select(test, Some(&found));
            found = &found - without.as_ref();
        }
        found
    }

    fn select(&self, test: &Test, within: Within<'_>) -> Cow<'_, RoaringBitmap> {
        match test {
            Test::Text { field, values } => self.texts[*field as usize].select(values, within),
            Test::Rows { field, left, right, join } => {
                self.pairs[*field as usize].select(left, right, *join, within)
            }
            Test::Labels(labels) => {
                let of = |label: &Label| label.select(&self.pairs[label.field as usize]);
                Cow::Owned(labels.iter().map(of).fold(RoaringBitmap::new(), |all, some| all | some))
            }
        }
    }

    /// How many records these are.
    pub(crate) fn count(&self, matches: &Matches) -> u64 {
        match matches {
            Matches::All => self.order.len() as u64,
            Matches::Some(set) => set.len(),
        }
    }

    /// The first `need` of these records after a rank, in order.
    pub(crate) fn top(&self, matches: &Matches, sort: Sort, after: Option<Rank>, need: usize) -> Vec<Rank> {
        let counted = sort == Sort::Popularity && !self.popular.is_empty();
        let mut found: Vec<Rank> = Vec::new();
        if counted {
            let used = self.popular.after(after).filter(|(_, slot)| matches.has(*slot));
            found.extend(used.take(need).map(|(rank, _)| rank));
        }
        // Only a rank without uses lies among the others.
        let after = after.filter(|rank| rank.uses.0 == 0).map(|rank| rank.place);
        let wanted = |slot: u32| !counted || !self.popular.has(slot);
        let rest = self.top_by_place(matches, after, need - found.len(), wanted);
        found.extend(rest.into_iter().map(Rank::unused));
        found
    }

    /// The first `need` wanted records of a set after a place, in order.
    fn top_by_place(
        &self,
        matches: &Matches,
        after: Option<Place>,
        need: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<Place> {
        if need == 0 {
            return Vec::new();
        }
        let end = after.map_or(self.order.len(), |after| {
            self.order.partition_point(|&slot| self.place(slot) > Some(after))
        });
        let walked = Cell::new(0);
        let candidates = self.order[..end].iter().copied().rev();
        let candidates = candidates.inspect(|_| walked.set(walked.get() + 1)).filter(|&slot| wanted(slot));
        let places = match matches {
            Matches::All => candidates.take(need).filter_map(|slot| self.place(slot)).collect(),
            Matches::Some(set) if self.walk_is_cheaper(set, need) => candidates
                .filter(|&slot| set.contains(slot))
                .take(need)
                .filter_map(|slot| self.place(slot))
                .collect(),
            Matches::Some(set) => {
                walked.set(set.len());
                let mut places: Vec<Place> = set
                    .iter()
                    .filter(|&slot| wanted(slot))
                    .filter_map(|slot| self.place(slot))
                    .filter(|place| after.is_none_or(|after| *place > after))
                    .collect();
                places.sort_unstable();
                places.truncate(need);
                places
            }
        };
        self.walked.fetch_add(walked.get(), Ordering::Relaxed);
        places
    }

    /// What queries have cost here.
    pub(crate) fn work(&self) -> Work {
        let walked = Work { records: self.walked.load(Ordering::Relaxed), ..Work::default() };
        let texts = self.texts.iter().map(Dict::work);
        texts.chain(self.pairs.iter().map(Pairs::work)).fold(walked, Work::plus)
    }

    /// Walking the order costs a look per record until enough are found; else the matches alone are sorted.
    fn walk_is_cheaper(&self, set: &RoaringBitmap, need: usize) -> bool {
        const SORT_COST: u64 = 8;
        let (all, found) = (self.order.len() as u64, set.len());
        let walk = all.min((need as u64).saturating_mul(all) / found.max(1));
        walk < found * SORT_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_testkit::catalogue::Catalogue;
    use std::cmp::Reverse;

    /// What a full chunk of a usual catalogue takes, by structure: bytes per record. The bounds are what was
    /// measured and a tenth; who raises one says why.
    #[test]
    fn a_record_costs_so_many_bytes() {
        const RECORDS: u32 = 16_384;
        let catalogue = Catalogue::new(1, 100_000);
        let mut chunk = Chunk::default();
        for n in 0..RECORDS {
            let place = Place { at: Reverse(Timestamp(i64::from(n))), cid: Cid::of(&n.to_be_bytes()) };
            chunk.insert(place, &catalogue.facts(u64::from(n)));
        }
        chunk.freeze();
        let rows =
            chunk.places.capacity() * size_of::<Place>() + chunk.ids.heap() + chunk.order.capacity() * 4;
        let text = |field: TextField| chunk.texts[field as usize].heap();
        let pair = |field: PairField| chunk.pairs[field as usize].heap();
        let parts = [
            ("rows", rows, 113),
            ("names", text(TextField::Name), 18),
            ("versions", text(TextField::Version), 6),
            ("descriptions", text(TextField::Description), 77),
            ("creation times", text(TextField::CreatedAt), 28),
            ("authors", text(TextField::Author), 27),
            ("skills", pair(PairField::Skill), 55),
            ("domains", pair(PairField::Domain), 45),
            ("modules", pair(PairField::Module), 35),
            ("locators", pair(PairField::Locator), 124),
            ("annotations", pair(PairField::Annotation), 42),
        ];
        for (name, bytes, bound) in parts {
            let each = bytes / RECORDS as usize;
            println!("{name}: {each} bytes per record");
            assert!(each <= bound, "{name}: {each} bytes per record, {bound} at most");
        }
    }
}
