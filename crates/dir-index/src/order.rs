//! The texts of a dictionary in order: for reads that know how a text begins.

use crate::fold::cmp_folded;
use crate::texts::Texts;
use std::cmp;

/// New values wait unsorted until they are a quarter of the sorted ones, and so many at least.
const MIN_UNSORTED: usize = 64;
/// The ids of a dictionary in the folded order of their texts.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) sorted: Vec<u32>,
    /// Ids that are not sorted in yet.
    pub(crate) unsorted: Vec<u32>,
}

impl Order {
    pub(crate) fn of(ids: impl Iterator<Item = u32>, texts: &Texts) -> Self {
        let mut order = Self { sorted: Vec::new(), unsorted: ids.collect() };
        // Each text is compared many times.
        order.sort_in(texts.thawed().as_ref().unwrap_or(texts));
        order.sorted.shrink_to_fit();
        order
    }

    pub(crate) fn add(&mut self, id: u32, texts: &Texts) {
        self.unsorted.push(id);
        if self.unsorted.len() >= MIN_UNSORTED.max(self.sorted.len() / 4) {
            self.sort_in(texts);
        }
    }

    fn sort_in(&mut self, texts: &Texts) {
        let order = |a: &u32, b: &u32| cmp_folded(&texts.get(*a), &texts.get(*b));
        self.unsorted.sort_unstable_by(order);
        self.sorted.append(&mut self.unsorted);
        // Two sorted runs: the stable sort merges them.
        self.sorted.sort_by(order);
    }

    pub(crate) fn remove(&mut self, id: u32, texts: &Texts) {
        if let Some(at) = self.unsorted.iter().position(|&other| other == id) {
            self.unsorted.swap_remove(at);
            return;
        }
        let text = texts.get(id);
        let from = self.sorted.partition_point(|&o| cmp_folded(&texts.get(o), &text) == cmp::Ordering::Less);
        if let Some(at) = self.sorted[from..].iter().position(|&other| other == id) {
            self.sorted.remove(from + at);
        }
    }

    pub(crate) fn shrink(&mut self, texts: &Texts) {
        if !self.unsorted.is_empty() {
            self.sort_in(texts);
        }
        self.sorted.shrink_to_fit();
        self.unsorted.shrink_to_fit();
    }
}
