//! What searches may show: the same as what is decided of each record.

use super::{NOW, caller, rule};
use crate::Timestamp;
use crate::policy::{
    Conditions, Effect, MethodCatalogue, MethodId, Narrowed, NativeRule, Policy, RecordTraits, RuleEffect,
    SEARCH_METHODS, UnknownMethod,
};
use crate::query::Scope;
use proptest::prelude::*;

const SEARCH: &str = SEARCH_METHODS[0];
const A: &str = "spiffe://a.example/a";
const LABELS: [&str; 5] = ["/skills/a", "/skills/a/b", "/skills/A", "/domains/x", "/locators/image"];
const WANTED: [&str; 6] =
    ["/skills/a", "/skills/a/*", "/skills/*", "/domains/x", "/locators/image", "/domains/X"];

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

fn about(rule: NativeRule, labels: &[&str]) -> NativeRule {
    NativeRule { resources: Some(Conditions { owner: None, labels: texts(labels) }), ..rule }
}

fn policy(rules: Vec<NativeRule>) -> Policy {
    let catalogue = MethodCatalogue::new([SEARCH.to_owned()]);
    Policy::from_rules(rules, None, &catalogue, UnknownMethod::Error).unwrap().policy
}

fn number(policy: &Policy) -> Option<MethodId> {
    policy.catalogue().find(SEARCH)
}

fn narrowed(policy: &Policy, who: &str, now: Timestamp) -> Narrowed {
    policy.narrowed(policy.grants(&caller(who), None).as_deref(), number(policy), now)
}

#[test]
fn a_rule_without_conditions_narrows_nothing_and_a_deny_rule_always_does() {
    let all = rule("all", RuleEffect::Allow, &["spiffe://a.example/**"], &[SEARCH]);
    let some = about(rule("some", RuleEffect::Allow, &["spiffe://a.example/**"], &[SEARCH]), &["/skills/a"]);
    let not = about(rule("not", RuleEffect::Deny, &["spiffe://a.example/**"], &[SEARCH]), &["/domains/x"]);
    let scope = |rules: &[&NativeRule]| {
        narrowed(&policy(rules.iter().map(|rule| (*rule).clone()).collect()), A, NOW).scope
    };
    assert!(scope(&[&all]).is_everything() && scope(&[&some, &all]).is_everything());
    assert_eq!(scope(&[&some]), Scope { shown: vec![texts(&["/skills/a"])], hidden: vec![] });
    assert_eq!(scope(&[&all, &not]), Scope { shown: vec![], hidden: texts(&["/domains/x"]) });
    // Nobody, and somebody without a rule, are shown nothing.
    let some = policy(vec![some]);
    for scope in [narrowed(&some, "spiffe://b.example/b", NOW).scope, some.narrowed(None, None, NOW).scope] {
        assert!(LABELS.iter().all(|label| !scope.shows(&texts(&[label]))));
    }
    assert!(narrowed(&some.shadow(true), A, NOW).scope.is_everything(), "shadow mode narrows nothing");
}

#[test]
fn an_explanation_says_what_a_search_shows() {
    let all = rule("all", RuleEffect::Allow, &["spiffe://a.example/**"], &[SEARCH]);
    let not = about(rule("not", RuleEffect::Deny, &["spiffe://a.example/**"], &[SEARCH]), &["/domains/x"]);
    let of = |rules: Vec<NativeRule>, told| policy(rules).explain(&caller(A), SEARCH, NOW).reason(told);
    assert_eq!(of(vec![all.clone()], true), "a rule allows it");
    let narrowed = of(vec![all.clone(), not.clone()], true);
    assert!(narrowed.ends_with(", and it shows the records without /domains/x"), "{narrowed}");
    // Whoever asks about himself does not learn what is hidden from him.
    let own = of(vec![all, not], false);
    assert!(own.ends_with(", and the rules narrow what it shows"), "{own}");
}

#[test]
fn a_grant_that_ends_says_when_to_ask_again() {
    let end = Timestamp(NOW.0 + 10);
    let all = NativeRule {
        not_after: Some(end),
        ..rule("all", RuleEffect::Allow, &["spiffe://a.example/**"], &[SEARCH])
    };
    let some = about(rule("some", RuleEffect::Allow, &["spiffe://a.example/**"], &[SEARCH]), &["/skills/a"]);
    let policy = policy(vec![all, some]);
    assert_eq!(narrowed(&policy, A, NOW), Narrowed { scope: Scope::default(), until: Some(end) });
    let after = Narrowed { scope: Scope { shown: vec![texts(&["/skills/a"])], hidden: vec![] }, until: None };
    assert_eq!(narrowed(&policy, A, end), after);
}

/// One rule of the random policies.
fn some_rule() -> impl Strategy<Value = NativeRule> {
    let labels = proptest::sample::subsequence(WANTED.to_vec(), 0..3);
    (any::<bool>(), labels, 0_i64..3, any::<bool>()).prop_map(|(allows, labels, ends, gateway)| {
        let effect = if allows { RuleEffect::Allow } else { RuleEffect::Deny };
        let who = if gateway { "spiffe://g.example/**" } else { "spiffe://a.example/**" };
        let mut rule = rule("r", effect, &[who], &[SEARCH]);
        rule.not_after = (allows && ends > 0).then(|| Timestamp(NOW.0 + ends - 2));
        if labels.is_empty() { rule } else { about(rule, &labels) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// A search shows exactly the records that the same rules would let the caller have one by one, also when a
    /// gateway calls for somebody.
    #[test]
    fn a_search_shows_what_each_record_is_decided_to_be(
        rules in prop::collection::vec(some_rule(), 1..6),
        labels in proptest::sample::subsequence(LABELS.to_vec(), 0..4),
    ) {
        // A policy without any allow rule is refused.
        let third = rule("third", RuleEffect::Allow, &["spiffe://b.example/**"], &[SEARCH]);
        let rules = rules.into_iter().chain([third]).enumerate();
        let rules = rules.map(|(n, rule)| NativeRule { id: format!("r{n}"), ..rule });
        let policy = policy(rules.collect());
        let (who, gateway) = (caller(A), caller("spiffe://g.example/g"));
        let (grants, its) = (policy.grants(&who, None), policy.grants(&gateway, None));
        let (grants, its, method) = (grants.as_deref(), its.as_deref(), number(&policy));
        let record = RecordTraits { owner: None, labels: Some(texts(&labels)) };
        let shows = |narrowed: Narrowed| narrowed.scope.shows(&texts(&labels));
        // Decided as a call is: the method first, then the record.
        let alone = policy.judge(grants, method, NOW).effect == Effect::Allow
            && policy.judge_record(grants, method, NOW, &who, &record).effect == Effect::Allow;
        prop_assert_eq!(shows(policy.narrowed(grants, method, NOW)), alone);
        let both = policy.judge_delegated(grants, its, method, NOW).effect == Effect::Allow
            && policy.judge_record_delegated(grants, its, method, NOW, &who, &record).effect == Effect::Allow;
        prop_assert_eq!(shows(policy.narrowed_delegated(grants, its, method, NOW)), both);
    }
}
