//! The distinct values of one field in one chunk, in folded order, with the records that have each.

use crate::fold::{cmp_folded, fold_into};
use crate::pattern::Pattern;
use crate::plan::Values;
use crate::posting::Posting;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// Distinct texts with small ids. Rows name texts by id, so each text is kept once per chunk.
#[derive(Debug, Default)]
pub(crate) struct Dict {
    entries: Vec<Entry>,
    /// Ids in folded order, equal folds by their bytes.
    sorted: Vec<u32>,
    /// Ids to be used again.
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    text: Box<str>,
    posting: Posting,
}

impl Dict {
    /// Notes that a record has a text; answers the id of the text.
    pub(crate) fn add(&mut self, text: &str, slot: u32) -> u32 {
        let id = match self.find(text) {
            Ok(at) => self.sorted[at],
            Err(at) => {
                let id = self.take_id();
                self.entries[id as usize].text = text.into();
                self.sorted.insert(at, id);
                id
            }
        };
        self.entries[id as usize].posting.insert(slot);
        id
    }

    /// Takes a record from a text; a text that no record has is forgotten. Doing so twice changes nothing.
    pub(crate) fn remove(&mut self, id: u32, slot: u32) {
        let entry = &mut self.entries[id as usize];
        if matches!(entry.posting, Posting::Empty) || !entry.posting.remove(slot) {
            return;
        }
        if let Ok(at) = self.find(&self.entries[id as usize].text) {
            self.sorted.remove(at);
        }
        self.entries[id as usize] = Entry::default();
        self.free.push(id);
    }

    /// The text of an id.
    pub(crate) fn text(&self, id: u32) -> &str {
        &self.entries[id as usize].text
    }

    /// The records whose text meets the values.
    pub(crate) fn select(&self, values: &Values) -> Cow<'_, RoaringBitmap> {
        if values.comparisons.is_empty() {
            return self.select_any(&values.patterns);
        }
        let mut set = RoaringBitmap::new();
        let mut folded = String::new();
        for &id in &self.sorted {
            let entry = &self.entries[id as usize];
            let compared = values.comparisons.iter().all(|(op, operand)| op.holds(&entry.text, operand));
            if compared || matches_any(&values.patterns, &entry.text, &mut folded) {
                entry.posting.union_into(&mut set);
            }
        }
        Cow::Owned(set)
    }

    /// The records whose text matches any of the patterns.
    pub(crate) fn select_any(&self, patterns: &[Pattern]) -> Cow<'_, RoaringBitmap> {
        if let [Pattern::Exact(folded)] = patterns
            && let [id] = self.sorted[self.equal(folded)]
            && let Posting::Many(many) = &self.entries[id as usize].posting
        {
            return Cow::Borrowed(many);
        }
        let mut set = RoaringBitmap::new();
        self.for_each_match(patterns, |id| self.entries[id as usize].posting.union_into(&mut set));
        Cow::Owned(set)
    }

    /// Calls `found` with the id of every text that matches any of the patterns, some perhaps twice.
    pub(crate) fn for_each_match(&self, patterns: &[Pattern], mut found: impl FnMut(u32)) {
        let mut folded = String::new();
        if patterns.iter().any(|p| matches!(p, Pattern::Glob(_))) {
            for &id in &self.sorted {
                if matches_any(patterns, self.text(id), &mut folded) {
                    found(id);
                }
            }
            return;
        }
        for pattern in patterns {
            let range = match pattern {
                Pattern::Exact(text) => self.equal(text),
                Pattern::Prefix(prefix) => self.starting(prefix),
                Pattern::Glob(_) => 0..0,
            };
            self.sorted[range].iter().for_each(|&id| found(id));
        }
    }

    fn equal(&self, folded: &str) -> Range<usize> {
        let from = self.sorted.partition_point(|&id| cmp_folded(self.text(id), folded) == Ordering::Less);
        let same =
            self.sorted[from..].partition_point(|&id| cmp_folded(self.text(id), folded) == Ordering::Equal);
        from..from + same
    }

    fn starting(&self, prefix: &str) -> Range<usize> {
        let from = self.sorted.partition_point(|&id| cmp_folded(self.text(id), prefix) == Ordering::Less);
        let mut folded = String::new();
        let same = self.sorted[from..].partition_point(|&id| {
            fold_into(self.text(id), &mut folded);
            folded.starts_with(prefix)
        });
        from..from + same
    }

    fn find(&self, text: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|&id| {
            let have = self.text(id);
            cmp_folded(have, text).then_with(|| have.cmp(text))
        })
    }

    fn take_id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            // A chunk holds some ten thousand records; the number of their texts stays far below 2^32.
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
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

    #[test]
    fn texts_are_found_by_fold_and_forgotten_with_their_last_record() {
        let mut dict = Dict::default();
        let upper = dict.add("Alpha", 1);
        let lower = dict.add("alpha", 2);
        assert_ne!(upper, lower);
        assert_eq!(dict.add("alpha", 3), lower);
        let slots = |dict: &Dict, p: &str| dict.select_any(&[Pattern::new(p)]).iter().collect::<Vec<_>>();
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
}
