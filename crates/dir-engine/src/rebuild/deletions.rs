//! What is deleted while a rebuild runs.
//!
//! The walk sees a record's manifest some time before its content is read. Contents outlive a deletion in a registry,
//! so that a record whose deletion came in between must not be taken for one that is there.

use dir_core::Cid;
use std::collections::HashSet;

/// Deletions that are remembered. With more of them every record is resolved once more before it is taken in.
const REMEMBERED: usize = 65_536;

/// The records that were deleted since the rebuild began.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    running: bool,
    too_many: bool,
    cids: HashSet<Cid>,
}

impl Deletions {
    pub(super) fn begin(&mut self) {
        *self = Self { running: true, ..Self::default() };
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn note(&mut self, cid: &Cid) {
        if !self.running || self.too_many {
            return;
        }
        if self.cids.len() < REMEMBERED {
            self.cids.insert(*cid);
        } else {
            (self.too_many, self.cids) = (true, HashSet::new());
        }
    }

    /// Whether the record was certainly not deleted since the rebuild began.
    pub(super) fn is_untouched(&self, cid: &Cid) -> bool {
        self.running && !self.too_many && !self.cids.contains(cid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: usize) -> Cid {
        Cid::of(&n.to_be_bytes())
    }

    #[test]
    fn what_was_deleted_is_known_and_with_too_many_nothing_is() {
        let mut deletions = Deletions::default();
        deletions.note(&cid(0));
        assert!(!deletions.is_untouched(&cid(1)), "no rebuild: nobody remembers");
        deletions.begin();
        assert!(deletions.is_untouched(&cid(0)), "that was before it began");
        for n in 0..REMEMBERED {
            deletions.note(&cid(n));
        }
        assert!(!deletions.is_untouched(&cid(REMEMBERED - 1)) && deletions.is_untouched(&cid(REMEMBERED)));
        deletions.note(&cid(REMEMBERED));
        assert!(!deletions.is_untouched(&cid(REMEMBERED + 1)));
        deletions.begin();
        assert!(deletions.is_untouched(&cid(0)));
    }
}
