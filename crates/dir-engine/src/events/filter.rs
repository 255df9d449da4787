//! Which events a listener wants.

use dir_core::{Cid, EventKind};
use std::collections::HashSet;

/// Which events a listener wants: AND between the members, OR inside each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// These kinds; `None` for all.
    pub kinds: Option<Vec<EventKind>>,
    /// About these records; `None` for all.
    pub cids: Option<HashSet<Cid>>,
    /// With a label that contains one of these texts, case-sensitively; `None` for all. An event without labels
    /// never matches.
    pub labels: Option<Vec<String>>,
}

impl EventFilter {
    /// Whether events of a kind can match.
    pub fn takes(&self, kind: EventKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether an event matches.
    pub fn matches(&self, kind: EventKind, cid: &Cid, labels: &[String]) -> bool {
        let labelled =
            |wanted: &Vec<String>| wanted.iter().any(|text| labels.iter().any(|l| l.contains(text.as_str())));
        self.takes(kind)
            && self.cids.as_ref().is_none_or(|cids| cids.contains(cid))
            && self.labels.as_ref().is_none_or(labelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_and_between_or_inside() {
        let labels = ["/skills/a/b".to_owned(), "/domains/c".to_owned()];
        let cid = Cid::of(b"x");
        let matches = |filter: &EventFilter| filter.matches(EventKind::RecordPushed, &cid, &labels);
        let text = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let filter = EventFilter::default();
        assert!(matches(&filter));
        assert!(matches(&EventFilter { labels: text(&["zzz", "ills/a"]), ..filter.clone() }));
        assert!(!matches(&EventFilter { labels: text(&["ILLS/a"]), ..filter.clone() }), "case matters");
        assert!(matches(&EventFilter { labels: text(&[""]), ..filter.clone() }));
        let any = EventFilter { labels: text(&[""]), ..filter.clone() };
        assert!(!any.matches(EventKind::RecordDeleted, &cid, &[]), "an event without labels never matches");
        assert!(!matches(&EventFilter { kinds: Some(vec![]), ..filter.clone() }));
        assert!(!matches(&EventFilter { cids: Some(HashSet::from([Cid::of(b"y")])), ..filter.clone() }));
        let both = HashSet::from([Cid::of(b"y"), cid]);
        assert!(matches(&EventFilter { cids: Some(both), labels: text(&["/domains/"]), ..filter }));
    }
}
