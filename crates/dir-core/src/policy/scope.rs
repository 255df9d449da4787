//! What searches may show somebody: the labels of the rules that are about him, gathered once for a search.

use super::{Cell, Grants, MethodId, Policy, Rule};
use crate::query::Scope;
use crate::time::Timestamp;

/// What a search may show, and how long that is so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Narrowed {
    /// The records.
    pub scope: Scope,
    /// When it has to be asked for again, because a rule ends; `None`: with the next policy.
    pub until: Option<Timestamp>,
}

impl Policy {
    /// Which records the answer to a call that may go on shows: of the same rules as [`Policy::judge_record`], and the
    /// same for every record. In shadow mode, everything.
    pub fn narrowed(&self, grants: Option<&Grants>, method: Option<MethodId>, now: Timestamp) -> Narrowed {
        if self.is_shadow() {
            return Narrowed::default();
        }
        let nothing = || Scope { shown: vec![Vec::new()], hidden: Vec::new() };
        let cell = grants.zip(method).and_then(|(grants, method)| grants.cells.get(method.number()));
        let rule = |at: &usize| &self.rules()[*at];
        match cell {
            None | Some(Cell::Nothing | Cell::Deny(_)) => Narrowed { scope: nothing(), until: None },
            Some(Cell::Allow(_)) => Narrowed::default(),
            Some(Cell::Until(allow)) => {
                let mut open = allow.iter().map(rule).filter(|rule| !rule.has_ended(now)).peekable();
                let scope = if open.peek().is_some() { Scope::default() } else { nothing() };
                Narrowed { scope, until: open.filter_map(|rule| rule.not_after).min() }
            }
            Some(Cell::ByRecord { deny, allow }) => {
                let open: Vec<&Rule> = allow.iter().map(rule).filter(|rule| !rule.has_ended(now)).collect();
                let shown = if open.iter().any(|rule| rule.resources.is_none()) {
                    Vec::new()
                } else {
                    vec![open.iter().copied().flat_map(labels).collect()]
                };
                let scope = Scope { shown, hidden: deny.iter().map(rule).flat_map(labels).collect() };
                Narrowed { scope, until: open.iter().filter_map(|rule| rule.not_after).min() }
            }
        }
    }

    /// The same for a call that a gateway makes for somebody: what both may see.
    pub fn narrowed_delegated(
        &self,
        principal: Option<&Grants>,
        gateway: Option<&Grants>,
        method: Option<MethodId>,
        now: Timestamp,
    ) -> Narrowed {
        let (theirs, own) = (self.narrowed(principal, method, now), self.narrowed(gateway, method, now));
        Narrowed {
            scope: theirs.scope.and(own.scope),
            until: theirs.until.into_iter().chain(own.until).min(),
        }
    }
}

fn labels(rule: &Rule) -> impl Iterator<Item = String> {
    rule.resources.iter().flat_map(|asked| asked.labels.iter().cloned())
}
