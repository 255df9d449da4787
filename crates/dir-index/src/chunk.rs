//! Some thousand records in one place: their rows, the distinct values of every field, and their order.
//!
//! Chunks keep every lock short and every table small: a write moves at most one chunk's arrays, a wildcard
//! reads one chunk's dictionary at a time, and chunks load in parallel.

use crate::dict::Dict;
use crate::packed::Packed;
use crate::pairs::Pairs;
use crate::plan::{PairField, Plan, Test, TextField};
use crate::popular::Popular;
use crate::rank::{Place, Rank};
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use dir_core::index::{Usage, Work};
use dir_core::query::Sort;
use dir_core::{Cid, Timestamp};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Texts of a chunk in bytes: far from the 4 GiB at which their offsets would end, whatever records hold.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024 * 1024;

/// Records, by slot.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    slots: Vec<Option<Stored>>,
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

#[derive(Debug)]
struct Stored {
    place: Place,
    /// The facts as ids of texts, in the order of [`Chunk::insert`].
    ids: Packed,
}

/// Which records of a chunk match.
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
        };
        self.slots.len() >= records || bytes() >= MAX_TEXT_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The first of its records in the order.
    pub(crate) fn first(&self) -> Option<Place> {
        self.order.last().and_then(|&slot| self.place(slot))
    }

    fn place(&self, slot: u32) -> Option<Place> {
        self.slots.get(slot as usize)?.as_ref().map(|stored| stored.place)
    }

    /// Adds a record that is in no chunk; answers its slot.
    pub(crate) fn insert(&mut self, place: Place, facts: &RecordFacts) -> u32 {
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let ids = self.intern(slot, facts);
        if self.first() > Some(place) || self.is_empty() {
            self.order.push(slot);
        } else {
            let at = self.order.partition_point(|&s| self.place(s) > Some(place));
            self.order.insert(at, slot);
        }
        self.live.insert(slot);
        self.slots.push(Some(Stored { place, ids }));
        slot
    }

    /// Gives back memory that was kept for records to come.
    pub(crate) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.order.shrink_to_fit();
        self.other.shrink();
        self.texts.iter_mut().for_each(Dict::shrink);
        self.pairs.iter_mut().for_each(Pairs::shrink);
    }

    /// Removes the record in a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(place) = self.place(slot) else { return };
        let at = self.order.partition_point(|&s| self.place(s) > Some(place));
        self.order.remove(at);
        self.popular.remove(slot, Rank::unused(place));
        self.live.remove(slot);
        if let Some(stored) = self.slots[slot as usize].take() {
            self.forget(slot, &stored.ids);
        }
    }

    /// The record in a slot, if it is still that one.
    pub(crate) fn row(&self, slot: u32, cid: &Cid) -> Option<(Timestamp, RecordFacts, Usage)> {
        let stored = self.slots.get(slot as usize)?.as_ref().filter(|s| s.place.cid == *cid)?;
        Some((stored.place.at.0, self.facts(&stored.ids), self.popular.usage(slot)))
    }

    /// The counters of the record in a slot, if it is still that one.
    pub(crate) fn usage(&self, slot: u32, cid: &Cid) -> Option<Usage> {
        self.place(slot).filter(|place| place.cid == *cid).map(|_| self.popular.usage(slot))
    }

    /// Adds to the counters of the record in a slot, if it is still that one.
    pub(crate) fn add_usage(&mut self, slot: u32, cid: &Cid, more: Usage) {
        if let Some(place) = self.place(slot).filter(|place| place.cid == *cid) {
            self.popular.add(slot, Rank::unused(place), more);
        }
    }

    /// Which records match a plan: smallest set first.
    pub(crate) fn matches(&self, plan: &Plan) -> Matches {
        if plan.nothing {
            return Matches::Some(RoaringBitmap::new());
        }
        if plan.is_everything() {
            return Matches::All;
        }
        let mut sets = Vec::with_capacity(plan.include.len());
        for test in &plan.include {
            let set = self.select(test);
            if set.is_empty() {
                return Matches::Some(RoaringBitmap::new());
            }
            sets.push(set);
        }
        sets.sort_by_key(|set| set.len());
        let mut sets = sets.into_iter();
        let mut found = sets.next().map_or_else(|| self.live.clone(), Cow::into_owned);
        for set in sets {
            found &= set.as_ref();
        }
        for test in &plan.exclude {
            if found.is_empty() {
                break;
            }
            found -= self.select(test).as_ref();
        }
        Matches::Some(found)
    }

    fn select(&self, test: &Test) -> Cow<'_, RoaringBitmap> {
        match test {
            Test::Text { field, values } => self.texts[*field as usize].select(values),
            Test::Rows { field, left, right, join } => self.pairs[*field as usize].select(left, right, *join),
        }
    }

    /// How many records match.
    pub(crate) fn count(&self, plan: &Plan) -> u64 {
        match self.matches(plan) {
            Matches::All => self.order.len() as u64,
            Matches::Some(set) => set.len(),
        }
    }

    /// The first `need` matching records after a rank, in order.
    pub(crate) fn top(&self, plan: &Plan, sort: Sort, after: Option<Rank>, need: usize) -> Vec<Rank> {
        let matches = self.matches(plan);
        let counted = sort == Sort::Popularity && !self.popular.is_empty();
        let mut found: Vec<Rank> = Vec::new();
        if counted {
            let used = self.popular.after(after).filter(|(_, slot)| matches.has(*slot));
            found.extend(used.take(need).map(|(rank, _)| rank));
        }
        // Only a rank without uses lies among the others.
        let after = after.filter(|rank| rank.uses.0 == 0).map(|rank| rank.place);
        let wanted = |slot: u32| !counted || !self.popular.has(slot);
        let rest = self.top_by_place(&matches, after, need - found.len(), wanted);
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

    /// Interns the facts of a record. [`Chunk::facts`] and [`Chunk::forget`] read the ids in the same order.
    fn intern(&mut self, slot: u32, facts: &RecordFacts) -> Packed {
        let mut ids = Vec::with_capacity(
            12 + 2
                * (facts.skills.len() + facts.domains.len() + facts.locators.len() + facts.annotations.len())
                + 3 * facts.modules.len(),
        );
        for (field, text) in single_texts(facts) {
            ids.push(self.texts[field as usize].add(text, slot));
        }
        ids.push(self.other.add(&facts.previous_cid, slot));
        let authors = &mut self.texts[TextField::Author as usize];
        match facts.authors.as_deref() {
            None => ids.push(0),
            Some([]) => ids.extend([1, authors.add("", slot)]),
            Some(list) => {
                ids.push(2 + count(list.len()));
                ids.extend(list.iter().map(|author| authors.add(author, slot)));
            }
        }
        let mut pair = |field: PairField, left: &str, right: &str, ids: &mut Vec<u32>| {
            let (left, right) = self.pairs[field as usize].add(left, right, slot);
            ids.extend([left, right]);
        };
        for (field, classes) in [(PairField::Skill, &facts.skills), (PairField::Domain, &facts.domains)] {
            ids.push(count(classes.len()));
            for class in classes {
                pair(field, &class.id.to_string(), &class.name, &mut ids);
            }
        }
        ids.push(count(facts.locators.len()));
        for locator in &facts.locators {
            pair(PairField::Locator, &locator.kind, &locator.url, &mut ids);
        }
        ids.push(count(facts.annotations.len()));
        for (key, value) in &facts.annotations {
            pair(PairField::Annotation, key, value, &mut ids);
        }
        ids.push(count(facts.modules.len()));
        for module in &facts.modules {
            pair(PairField::Module, &module.id.to_string(), &module.name, &mut ids);
        }
        ids.extend(facts.modules.iter().map(|m| self.other.add(&m.artifact_media_type, slot)));
        Packed::new(&ids)
    }

    fn facts(&self, ids: &Packed) -> RecordFacts {
        let mut ids = ids.iter();
        let mut next = || ids.next().unwrap_or_default();
        let text = |field: TextField, id: u32| self.texts[field as usize].text(id).to_owned();
        let mut facts = RecordFacts {
            name: text(TextField::Name, next()),
            version: text(TextField::Version, next()),
            schema_version: text(TextField::SchemaVersion, next()),
            description: text(TextField::Description, next()),
            created_at: text(TextField::CreatedAt, next()),
            previous_cid: self.other.text(next()).to_owned(),
            ..RecordFacts::default()
        };
        facts.authors = match next() {
            0 => None,
            1 => {
                next();
                Some(Vec::new())
            }
            n => Some((2..n).map(|_| text(TextField::Author, next())).collect()),
        };
        let mut pairs = |field: PairField| -> Vec<(&str, &str)> {
            let pairs = &self.pairs[field as usize];
            (0..next()).map(|_| (pairs.left.text(next()), pairs.right.text(next()))).collect()
        };
        let class =
            |(id, name): (&str, &str)| ClassFact { id: id.parse().unwrap_or(0), name: name.to_owned() };
        facts.skills = pairs(PairField::Skill).into_iter().map(class).collect();
        facts.domains = pairs(PairField::Domain).into_iter().map(class).collect();
        facts.locators = pairs(PairField::Locator)
            .into_iter()
            .map(|(kind, url)| LocatorFact { kind: kind.to_owned(), url: url.to_owned() })
            .collect();
        facts.annotations = pairs(PairField::Annotation)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let modules = pairs(PairField::Module);
        facts.modules = modules
            .into_iter()
            .map(|module| {
                let ClassFact { id, name } = class(module);
                ModuleFact { id, name, artifact_media_type: self.other.text(next()).to_owned() }
            })
            .collect();
        facts
    }

    fn forget(&mut self, slot: u32, ids: &Packed) {
        let mut ids = ids.iter();
        let mut next = || ids.next().unwrap_or_default();
        for dict in &mut self.texts[..TextField::Author as usize] {
            dict.remove(next(), slot);
        }
        self.other.remove(next(), slot);
        let authors = match next() {
            n @ (0 | 1) => n,
            n => n - 2,
        };
        for _ in 0..authors {
            self.texts[TextField::Author as usize].remove(next(), slot);
        }
        let mut modules = 0;
        for field in [
            PairField::Skill,
            PairField::Domain,
            PairField::Locator,
            PairField::Annotation,
            PairField::Module,
        ] {
            let rows = next();
            for _ in 0..rows {
                self.pairs[field as usize].remove((next(), next()), slot);
            }
            modules = rows;
        }
        for _ in 0..modules {
            self.other.remove(next(), slot);
        }
    }
}

/// The fields with exactly one text, in the order of [`TextField`].
fn single_texts(facts: &RecordFacts) -> [(TextField, &str); 5] {
    [
        (TextField::Name, &facts.name),
        (TextField::Version, &facts.version),
        (TextField::SchemaVersion, &facts.schema_version),
        (TextField::Description, &facts.description),
        (TextField::CreatedAt, &facts.created_at),
    ]
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
