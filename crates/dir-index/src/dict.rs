//! The distinct values of one field in one chunk, with the records that have each: found by hash when the value
//! is known, by order when its start is, by reading all of them otherwise.

use crate::codec::Malformed;
use crate::fold::{cmp_folded, fold, fold_into};
use crate::image::{In, Out};
use crate::order::Order;
use crate::pattern::Pattern;
use crate::plan::Values;
use crate::posting::{Slots, Union};
use crate::postings::Postings;
use crate::sketch::Sketches;
use crate::texts::Texts;
use dir_core::index::Work;
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cmp;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Texts below which all are read: sketches would not pay.
const MIN_SKETCHED: usize = 64;

/// Records that other conditions have left, if there are others: to read texts of those alone.
pub(crate) type Within<'a> = Option<&'a RoaringBitmap>;

/// Distinct texts with small ids. Rows name texts by id, so each text is kept once per chunk.
#[derive(Debug, Default)]
pub(crate) struct Dict {
    texts: Texts,
    /// By id; empty where the id is not in use.
    postings: Postings,
    /// Ids by the hash of the folded text.
    index: HashTable<u32>,
    hasher: RandomState,
    /// Made by the first read of a prefix, kept up from then on.
    order: OnceLock<Order>,
    /// A buffer for folding.
    folded: String,
    /// Made by the first read that wants them, kept up from then on.
    sketches: OnceLock<Sketches>,
    compared: AtomicU64,
    passed_over: AtomicU64,
}

/// So few patterns are asked of a sketch faster than a set is asked for the records of a text.
const FEW_PATTERNS: usize = 4;

impl Dict {
    /// Notes that a record has a text; answers the id of the text.
    pub(crate) fn add(&mut self, text: &str, slot: u32) -> u32 {
        self.note(text, slot).0
    }

    /// The same; answers also whether the record did not have it before.
    pub(crate) fn note(&mut self, text: &str, slot: u32) -> (u32, bool) {
        fold_into(text, &mut self.folded);
        let hash = self.hasher.hash_one(&self.folded);
        let id = match self.index.find(hash, |&id| self.texts.get(id) == text) {
            Some(&id) => id,
            None => self.add_text(text, hash),
        };
        (id, self.postings.insert(id, slot))
    }

    fn add_text(&mut self, text: &str, hash: u64) -> u32 {
        let id = self.texts.add(text);
        self.postings.reach(id);
        let (texts, hasher) = (&self.texts, &self.hasher);
        self.index.insert_unique(hash, id, |&id| hasher.hash_one(fold(&texts.get(id))));
        if let Some(sketches) = self.sketches.get_mut() {
            sketches.set(id, &self.folded);
            if sketches.is_wasteful() {
                self.sketches = OnceLock::new();
            }
        }
        if let Some(order) = self.order.get_mut() {
            order.add(id, &self.texts);
        }
        id
    }

    /// Takes a record from a text; a text that no record has is forgotten, which is answered. Doing so twice changes
    /// nothing.
    pub(crate) fn remove(&mut self, id: u32, slot: u32) -> bool {
        if self.postings.is_empty(id) || !self.postings.remove(id, slot) {
            return false;
        }
        fold_into(&self.texts.get(id), &mut self.folded);
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(&self.folded), |&other| other == id) {
            entry.remove();
        }
        if let Some(order) = self.order.get_mut() {
            order.remove(id, &self.texts);
        }
        self.texts.remove(id);
        true
    }

    /// The records with a text.
    pub(crate) fn slots(&self, id: u32) -> Slots<'_> {
        self.postings.slots(id)
    }

    /// The text of an id.
    pub(crate) fn text(&self, id: u32) -> Cow<'_, str> {
        self.texts.get(id)
    }

    /// Gives back spare memory, and keeps the texts in little of it.
    pub(crate) fn freeze(&mut self) {
        if let Some(order) = self.order.get_mut() {
            order.shrink(&self.texts);
        }
        self.postings.shrink();
        let (texts, hasher) = (&self.texts, &self.hasher);
        self.index.shrink_to_fit(|&id| hasher.hash_one(fold(&texts.get(id))));
        self.texts.freeze();
        self.folded = String::new();
    }

    pub(crate) fn write(&self, out: &mut Out) {
        self.texts.write(out);
        self.postings.write(out);
    }

    /// A dictionary of slots below `slots`.
    pub(crate) fn load(image: &mut In<'_>, slots: u32) -> Result<Self, Malformed> {
        let (mut texts, postings) = (Texts::load(image)?, Postings::load(image, slots)?);
        let unused = postings.unused();
        let used = postings.len() - unused.len();
        texts.set_free(postings.len(), unused)?;
        let mut dict = Self { texts, postings, index: HashTable::with_capacity(used), ..Self::default() };
        let (texts, hasher, mut buffer) = (&dict.texts, &dict.hasher, String::new());
        for (id, _) in dict.postings.used() {
            fold_into(texts.read(id, &mut buffer), &mut dict.folded);
            let hash = hasher.hash_one(&dict.folded);
            dict.index.insert_unique(hash, id, |&id| hasher.hash_one(fold(&texts.get(id))));
        }
        dict.folded = String::new();
        Ok(dict)
    }

    /// Ids that were ever used.
    pub(crate) fn ids(&self) -> usize {
        self.postings.len()
    }

    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.bytes()
    }

    /// The records whose text meets the values; of those that are not `within` perhaps none.
    pub(crate) fn select(&self, values: &Values, within: Within<'_>) -> Cow<'_, RoaringBitmap> {
        if values.comparisons.is_empty() {
            return self.select_any(&values.patterns, within);
        }
        let mut union = Union::default();
        let (mut buffer, mut folded, mut read) = (String::new(), String::new(), 0);
        for (id, slots) in self.postings.used() {
            if within.is_some_and(|set| !slots.may_meet(set)) {
                continue;
            }
            let text = self.texts.read(id, &mut buffer);
            read += 1;
            let compared = values.comparisons.iter().all(|(op, operand)| op.holds(text, operand));
            if compared || matches_any(&values.patterns, text, &mut folded) {
                union.add_slots(slots);
            }
        }
        self.compared.fetch_add(read, Ordering::Relaxed);
        Cow::Owned(union.finish())
    }

    /// The records whose text matches any of the patterns; of those that are not `within` perhaps none.
    pub(crate) fn select_any(&self, patterns: &[Pattern], within: Within<'_>) -> Cow<'_, RoaringBitmap> {
        let mut union = Union::default();
        self.for_each_match(patterns, within, |id| union.add_slots(self.postings.slots(id)));
        union.finish_or_borrow()
    }

    /// Calls `found` with the id of every text that matches any of the patterns, some perhaps twice; with those of no
    /// record `within` perhaps not.
    pub(crate) fn for_each_match(
        &self,
        patterns: &[Pattern],
        within: Within<'_>,
        mut found: impl FnMut(u32),
    ) {
        if patterns.iter().any(|p| matches!(p, Pattern::Glob(_))) {
            let (mut buffer, mut folded, mut all, mut read) = (String::new(), String::new(), 0, 0);
            let (sketches, few) = (self.sketches(patterns), patterns.len() <= FEW_PATTERNS);
            for (id, slots) in self.postings.used() {
                all += 1;
                let meets = || within.is_none_or(|set| slots.may_meet(set));
                // Whatever is cheaper comes first.
                if (few || meets())
                    && sketches.is_none_or(|s| patterns.iter().any(|p| may_match(s, id, p)))
                    && (!few || meets())
                {
                    read += 1;
                    if matches_any(patterns, self.texts.read(id, &mut buffer), &mut folded) {
                        found(id);
                    }
                }
            }
            self.compared.fetch_add(read, Ordering::Relaxed);
            self.passed_over.fetch_add(all - read, Ordering::Relaxed);
            return;
        }
        for pattern in patterns {
            match pattern {
                Pattern::Exact(text) => self.equal(text, &mut found),
                Pattern::Prefix(prefix) => self.starting(prefix, &mut found),
                Pattern::Glob(_) | Pattern::Nothing => {}
            }
        }
    }

    /// Sketches, when they tell candidates for the patterns from other texts.
    fn sketches(&self, patterns: &[Pattern]) -> Option<&Sketches> {
        let helps = |p: &Pattern| !matches!(p, Pattern::Glob(glob) if glob.runs.is_empty());
        let make = || {
            let mut sketches = Sketches::default();
            let (mut buffer, mut folded) = (String::new(), String::new());
            for (id, _) in self.postings.used() {
                fold_into(self.texts.read(id, &mut buffer), &mut folded);
                sketches.set(id, &folded);
            }
            sketches
        };
        (self.postings.len() >= MIN_SKETCHED && patterns.iter().all(helps))
            .then(|| self.sketches.get_or_init(make))
    }

    /// What reads have cost.
    pub(crate) fn work(&self) -> Work {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Work { values: read(&self.compared), sketches: read(&self.passed_over), records: 0 }
    }

    /// Hands over every distinct text.
    pub(crate) fn each_value(&self, mut take: impl FnMut(&str)) {
        let mut buffer = String::new();
        self.postings.used().for_each(|(id, _)| take(self.texts.read(id, &mut buffer)));
    }

    fn equal(&self, folded: &str, found: &mut impl FnMut(u32)) {
        for &id in self.index.iter_hash(self.hasher.hash_one(folded)) {
            if cmp_folded(&self.texts.get(id), folded) == cmp::Ordering::Equal {
                found(id);
            }
        }
    }

    fn starting(&self, prefix: &str, found: &mut impl FnMut(u32)) {
        let (mut buffer, mut folded) = (String::new(), String::new());
        let mut starts = |id: u32| {
            fold_into(self.texts.read(id, &mut buffer), &mut folded);
            folded.starts_with(prefix)
        };
        let Order { sorted, unsorted } =
            self.order.get_or_init(|| Order::of(self.postings.used().map(|(id, _)| id), &self.texts));
        let from =
            sorted.partition_point(|&id| cmp_folded(&self.texts.get(id), prefix) == cmp::Ordering::Less);
        let same = sorted[from..].partition_point(|&id| starts(id));
        let unsorted = unsorted.iter().filter(|&&id| starts(id));
        sorted[from..from + same].iter().chain(unsorted).for_each(|&id| found(id));
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.texts.heap()
            + self.postings.heap()
            + self.index.allocation_size()
            + self.order.get().map_or(0, |o| (o.sorted.capacity() + o.unsorted.capacity()) * size_of::<u32>())
            + self.folded.capacity()
            + self.sketches.get().map_or(0, Sketches::heap)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.postings.used().count()
    }
}

fn may_match(sketches: &Sketches, id: u32, pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Glob(glob) => sketches.may_have(id, &glob.runs),
        Pattern::Exact(_) | Pattern::Prefix(_) => true,
        Pattern::Nothing => false,
    }
}

fn matches_any(patterns: &[Pattern], text: &str, folded: &mut String) -> bool {
    if patterns.is_empty() {
        return false;
    }
    fold_into(text, folded);
    patterns.iter().any(|p| p.matches(folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn slots(dict: &Dict, pattern: &str) -> Vec<u32> {
        dict.select_any(&[Pattern::new(pattern)], None).iter().collect()
    }

    #[test]
    fn texts_are_found_by_fold_and_forgotten_with_their_last_record() {
        let mut dict = Dict::default();
        let upper = dict.add("Alpha", 1);
        let lower = dict.add("alpha", 2);
        assert_ne!(upper, lower);
        assert_eq!(dict.add("alpha", 3), lower);
        assert_eq!(slots(&dict, "ALPHA"), [1, 2, 3]);
        assert_eq!(slots(&dict, "al*"), [1, 2, 3]);
        assert_eq!(slots(&dict, "*b*"), [0_u32; 0]);
        dict.remove(lower, 2);
        dict.remove(lower, 3);
        dict.remove(lower, 3);
        assert_eq!(slots(&dict, "alpha"), [1]);
        assert_eq!(dict.len(), 1);
        assert_eq!(dict.add("beta", 4), lower);
        assert_eq!(slots(&dict, "*"), [1, 4]);
    }

    #[test]
    fn sketches_change_no_answer_while_texts_come_and_go() {
        let mut dict = Dict::default();
        let text = |n: u32| format!("Agent-{:x}/{}", n.wrapping_mul(0x9e37_79b1), n % 7);
        let mut ids: BTreeMap<u32, u32> = (0..500).map(|n| (n, dict.add(&text(n), n))).collect();
        for round in 0..4 {
            for pattern in ["*gent-f*", "*A1*", "*-?a?*/3", "*zzz*", "*/5", "*GENT*/6*"] {
                let compiled = Pattern::new(pattern);
                let naive = ids.keys().filter(|n| compiled.matches(&fold(&text(**n))));
                assert_eq!(slots(&dict, pattern), naive.copied().collect::<Vec<_>>(), "{pattern} in {round}");
            }
            for n in (round * 100)..(round * 100 + 80) {
                dict.remove(ids.remove(&n).unwrap(), n);
            }
            ids.extend((1000 + round * 50..1050 + round * 50).map(|n| (n, dict.add(&text(n), n))));
        }
        assert!(dict.sketches.get().is_some());
    }

    #[test]
    fn many_values_come_and_go_and_prefixes_stay_right() {
        let mut dict = Dict::default();
        let mut ids = BTreeMap::new();
        for n in 0..3_000_u32 {
            let text =
                format!("{}{:04}", if n % 3 == 0 { "Key" } else { "key" }, n.wrapping_mul(7919) % 3_000);
            ids.insert(n, (dict.add(&text, n), text));
            if n % 2 == 1 {
                let (id, _) = ids.remove(&(n / 2)).unwrap();
                dict.remove(id, n / 2);
            }
        }
        assert_eq!(dict.len(), ids.len());
        for prefix in ["key0", "key12", "KEY299", "k", "key4", "key0000"] {
            let folded = prefix.to_lowercase();
            let expected: Vec<u32> = ids
                .iter()
                .filter(|(_, (_, t))| t.to_lowercase().starts_with(&folded))
                .map(|(n, _)| *n)
                .collect();
            assert_eq!(slots(&dict, &format!("{prefix}*")), expected, "{prefix}");
        }
        for (n, (id, text)) in &ids {
            assert_eq!(&dict.text(*id), text);
            assert!(slots(&dict, text).contains(n));
        }
    }
}
