//! Why a decision is what it is: the rule that decided, and the rules that nearly did.

use super::methods::distance;
use super::{
    Cause, Decision, Effect, Grants, Policy, RecordTraits, Rule, RuleEffect, SEARCH_METHODS, Subject,
};
use crate::identity::{Principal, RoleClaims};
use crate::query::Scope;
use crate::time::Timestamp;
use std::sync::Arc;

/// In what a rule differs from a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// In nothing, but it has ended.
    Ended,
    /// In nothing, but the record does not meet its conditions.
    Record,
    /// In nothing, but a deny rule wins over it.
    Overruled,
    /// In the path of the SPIFFE ID.
    Path,
    /// In the trust domain.
    TrustDomain,
    /// In who is meant: it is about callers of another kind, or of another name.
    Principal,
    /// In the method.
    Method,
}

impl Difference {
    /// As reports spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Difference::Ended => "has ended",
            Difference::Record => "has conditions that the record does not meet",
            Difference::Overruled => "is overruled by the deny rule",
            Difference::Path => "differs in the path of the SPIFFE ID",
            Difference::TrustDomain => "differs in trust domain",
            Difference::Principal => "is about somebody else",
            Difference::Method => "differs in method",
        }
    }
}

/// An allow rule that nearly decided.
#[derive(Debug, Clone, Copy)]
pub struct Miss<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Why it did not.
    pub difference: Difference,
}

/// A decision with its surroundings.
#[derive(Debug, Clone)]
pub struct Explanation<'p> {
    /// The decision.
    pub decision: Decision<'p>,
    /// For a denied call the nearest allow rules that did not match, nearest first.
    pub misses: Vec<Miss<'p>>,
    /// For a search that goes on: the records that it shows, when these are not all.
    pub narrowed: Option<Scope>,
}

impl Explanation<'_> {
    /// Why, in words; whoever may be told sees which records a search shows.
    pub fn reason(&self, told: bool) -> String {
        let reason = self.decision.reason();
        match &self.narrowed {
            None => reason.to_owned(),
            Some(_) if !told => format!("{reason}, and the rules narrow what it shows"),
            Some(scope) => {
                let some = |labels: &[String]| {
                    if labels.is_empty() {
                        "a label that no record has".to_owned()
                    } else {
                        labels.join(" or ")
                    }
                };
                let shown = scope.shown.iter().map(|group| format!("with {}", some(group)));
                let hidden = (!scope.hidden.is_empty()).then(|| format!("without {}", some(&scope.hidden)));
                let parts: Vec<String> = shown.chain(hidden).collect();
                format!("{reason}, and it shows the records {}", parts.join(" and "))
            }
        }
    }
}

/// Who makes a call that is explained.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose certificate or token it is.
    pub own: &'a Principal,
    /// What the token claims.
    pub claims: Option<&'a RoleClaims>,
    /// For whom a gateway makes it.
    pub delegated: Option<&'a Principal>,
}

/// What the rules grant somebody.
type Held = Option<Arc<Grants>>;

/// Misses that are told.
const MISSES_MAX: usize = 3;

impl Policy {
    /// Decides as [`Policy::decide`] does, and tells which rules nearly allowed a call that is denied.
    pub fn explain(&self, principal: &Principal, method: &str, now: Timestamp) -> Explanation<'_> {
        self.explain_call(Asked { own: principal, claims: None, delegated: None }, method, now)
    }

    /// The same of a call as it is judged. Of whoever lacks the grant the nearest rules are told.
    pub fn explain_call(&self, asked: Asked<'_>, method: &str, now: Timestamp) -> Explanation<'_> {
        let number = self.catalogue().find(method);
        let (own, theirs) = self.held(asked);
        let decision = match theirs {
            None => self.judge(own.as_deref(), number, now),
            Some((_, theirs)) => self.judge_delegated(theirs.as_deref(), own.as_deref(), number, now),
        };
        self.explained(asked, decision, method, now)
    }

    /// The same of one record of a call.
    pub fn explain_record(
        &self,
        asked: Asked<'_>,
        method: &str,
        now: Timestamp,
        record: &RecordTraits,
    ) -> Explanation<'_> {
        let number = self.catalogue().find(method);
        let (own, theirs) = self.held(asked);
        let decision = match theirs {
            None => self.judge_record(own.as_deref(), number, now, asked.own, record),
            Some((who, theirs)) => {
                self.judge_record_delegated(theirs.as_deref(), own.as_deref(), number, now, who, record)
            }
        };
        self.explained(asked, decision, method, now)
    }

    /// What the rules grant to whose certificate it is, and to whom a gateway calls for.
    fn held<'a>(&self, asked: Asked<'a>) -> (Held, Option<(&'a Principal, Held)>) {
        let theirs = asked.delegated.map(|who| (who, self.grants(who, None)));
        (self.grants(asked.own, asked.claims), theirs)
    }

    fn explained<'p>(
        &'p self,
        asked: Asked<'_>,
        decision: Decision<'p>,
        method: &str,
        now: Timestamp,
    ) -> Explanation<'p> {
        let wanted = matches!(decision.effect, Effect::Deny | Effect::WouldDeny)
            && decision.cause != Cause::UnknownMethod;
        let misses = match asked.delegated {
            _ if !wanted => Vec::new(),
            Some(who) if decision.cause != Cause::Gateway => self.misses(who, None, method, now),
            _ => self.misses(asked.own, asked.claims, method, now),
        };
        let mut misses = misses;
        if decision.cause == Cause::Record {
            for miss in misses.iter_mut().filter(|m| m.difference == Difference::Overruled) {
                miss.difference = Difference::Record;
            }
        }
        let narrowed = self.shown(asked, &decision, method, now);
        Explanation { decision, misses, narrowed }
    }

    /// What a search shows that goes on, when that is not everything.
    fn shown(
        &self,
        asked: Asked<'_>,
        decision: &Decision<'_>,
        method: &str,
        now: Timestamp,
    ) -> Option<Scope> {
        if !decision.effect.goes_on() || !SEARCH_METHODS.contains(&method) {
            return None;
        }
        let (number, (own, theirs)) = (self.catalogue().find(method), self.held(asked));
        let narrowed = match theirs {
            None => self.narrowed(own.as_deref(), number, now),
            Some((_, theirs)) => self.narrowed_delegated(theirs.as_deref(), own.as_deref(), number, now),
        };
        Some(narrowed.scope).filter(|scope| !scope.is_everything())
    }

    fn misses(
        &self,
        principal: &Principal,
        claims: Option<&RoleClaims>,
        method: &str,
        now: Timestamp,
    ) -> Vec<Miss<'_>> {
        let Some(number) = self.catalogue().find(method) else { return Vec::new() };
        let id = principal.spiffe_id();
        let mut found: Vec<(Difference, usize, &Rule)> = Vec::new();
        for rule in self.rules().iter().filter(|r| r.effect == RuleEffect::Allow) {
            let who = rule.concerns(principal, claims);
            let what = rule.methods.contains(number);
            let domain =
                id.is_some_and(|id| rule.subjects.iter().any(|s| s.matches_domain(id.trust_domain())));
            let ids = id.is_some() && rule.subjects.iter().any(Subject::is_about_ids);
            let difference = match (who, what) {
                (true, true) if rule.has_ended(now) => Difference::Ended,
                (true, true) => Difference::Overruled,
                (false, true) if domain => Difference::Path,
                (false, true) if ids => Difference::TrustDomain,
                (false, true) => Difference::Principal,
                (true, false) => Difference::Method,
                (false, false) => continue,
            };
            let far = match difference {
                Difference::Ended | Difference::Record | Difference::Overruled => 0,
                Difference::Path | Difference::Principal => nearest(rule, principal.as_str()),
                Difference::TrustDomain => nearest(rule, id.map_or("", |id| id.trust_domain().as_str())),
                Difference::Method => distance(&rule.methods_text, method),
            };
            found.push((difference, far, rule));
        }
        found.sort_by_key(|(difference, far, rule)| (*difference, *far, rule.number));
        found.into_iter().take(MISSES_MAX).map(|(difference, _, rule)| Miss { rule, difference }).collect()
    }
}

fn nearest(rule: &Rule, text: &str) -> usize {
    rule.subjects.iter().map(|s| distance(&s.to_string(), text)).min().unwrap_or(usize::MAX)
}
