//! The records and names that a call has touched.

use super::trail::{Counts, Verdict};
use dir_core::Cid;
use http::Request;
use std::sync::Arc;

/// Records and names that a line tells of one call; more are counted.
pub(super) const RESOURCES_MAX: usize = 64;
/// Bytes of a name in a line; a longer one is cut.
const NAME_MAX: usize = 256;

/// One record or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Record(Cid),
    Name(String),
}

/// What was touched so far.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) first: Vec<Resource>,
    pub(super) more: u64,
}

impl Resources {
    fn add(&mut self, resource: impl FnOnce() -> Resource) {
        if self.first.len() < RESOURCES_MAX {
            self.first.push(resource());
        } else {
            self.more += 1;
        }
    }
}

/// Where a handler says what it touches. Without an audit log it says so to nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched(pub(super) Option<Arc<Counts>>);

impl Touched {
    /// Of the call that a request belongs to.
    pub(crate) fn by<B>(request: &Request<B>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    pub(crate) fn record(&self, cid: Cid) {
        if let Some(counts) = &self.0 {
            counts.touched.lock().add(|| Resource::Record(cid));
        }
    }

    /// Those of the texts that name a record.
    pub(crate) fn records(&self, texts: &[String]) {
        for cid in texts.iter().filter_map(|text| text.parse().ok()) {
            self.record(cid);
        }
    }

    /// The policy refuses a record, or would.
    pub(crate) fn refused(&self, decision: &'static str, rule: Option<&str>, generation: u64) {
        if let Some(counts) = &self.0 {
            let verdict = Verdict { decision, rule: rule.map(str::to_owned), generation };
            *counts.refused.lock() = Some(verdict);
        }
    }

    pub(crate) fn name(&self, name: &str) {
        if let Some(counts) = &self.0 {
            let mut end = name.len().min(NAME_MAX);
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            counts.touched.lock().add(|| Resource::Name(name[..end].to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded() {
        let counts = Arc::new(Counts::default());
        let touched = Touched(Some(counts.clone()));
        touched.name(&"ü".repeat(NAME_MAX));
        for number in 0..100u8 {
            touched.record(Cid::of(&[number]));
        }
        let told = counts.touched.lock();
        assert_eq!(told.first[0], Resource::Name("ü".repeat(NAME_MAX / 2)));
        assert_eq!((told.first.len(), told.more), (RESOURCES_MAX, 101 - 64));
        Touched::default().record(Cid::of(b""));
    }
}
