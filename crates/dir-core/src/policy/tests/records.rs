//! Rules with conditions: what is decided of a call, and of each of its records.

use super::{NOW, caller as id, rule};
use crate::Timestamp;
use crate::policy::{
    Asked, Cause, Conditions, Difference, Effect, MethodCatalogue, NativeRule, Ownership, Policy,
    RecordTraits, RuleEffect, UnknownMethod,
};

const DELETE: &str = "/agntcy.dir.store.v1.StoreService/Delete";
const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const A: &str = "spiffe://a.example/a";
const B: &str = "spiffe://a.example/b";

fn catalogue() -> MethodCatalogue {
    MethodCatalogue::new([DELETE.to_owned(), PULL.to_owned()])
}

fn asking(rule: NativeRule, owner: Option<Ownership>, labels: &[&str]) -> NativeRule {
    let labels = labels.iter().map(|l| (*l).to_owned()).collect();
    NativeRule { resources: Some(Conditions { owner, labels }), ..rule }
}

fn policy(rules: Vec<NativeRule>) -> Policy {
    Policy::from_rules(rules, None, &catalogue(), UnknownMethod::Error).unwrap().policy
}

fn record(owner: &str, labels: &[&str]) -> RecordTraits {
    let owner = Some(owner.to_owned()).filter(|o| !o.is_empty());
    RecordTraits { owner, labels: Some(labels.iter().map(|l| (*l).to_owned()).collect()) }
}

/// What is decided of the call, and then of the record.
fn decided(policy: &Policy, who: &str, method: &str, about: &RecordTraits) -> (Effect, Effect, Cause) {
    let who = id(who);
    let (number, grants) = (policy.catalogue().find(method), policy.grants(&who, None));
    let call = policy.judge(grants.as_deref(), number, NOW);
    let one = policy.judge_record(grants.as_deref(), number, NOW, &who, about);
    (call.effect, one.effect, one.cause)
}

#[test]
fn f_delete_own() {
    let own = asking(
        rule("own", RuleEffect::Allow, &["spiffe://a.example/**"], &[DELETE]),
        Some(Ownership::Own),
        &[],
    );
    let policy = policy(vec![own, rule("read", RuleEffect::Allow, &["spiffe://a.example/**"], &[PULL])]);
    assert!(policy.has_conditions());
    let of_a = record(A, &[]);
    assert_eq!(decided(&policy, A, DELETE, &of_a), (Effect::Allow, Effect::Allow, Cause::Rule));
    assert_eq!(decided(&policy, B, DELETE, &of_a), (Effect::Allow, Effect::Deny, Cause::Record));
    assert_eq!(decided(&policy, B, DELETE, &record("", &[])), (Effect::Allow, Effect::Deny, Cause::Record));
    assert_eq!(
        decided(&policy, B, DELETE, &RecordTraits::default()),
        (Effect::Allow, Effect::Deny, Cause::Record)
    );
    assert_eq!(decided(&policy, B, PULL, &of_a), (Effect::Allow, Effect::Allow, Cause::Rule));
    assert_eq!(
        decided(&policy, "spiffe://b.example/a", DELETE, &of_a),
        (Effect::Deny, Effect::Deny, Cause::NoRule)
    );
    // In shadow mode the record is reported.
    let shadow = policy.clone().shadow(true);
    assert_eq!(decided(&shadow, B, DELETE, &of_a), (Effect::Allow, Effect::WouldDeny, Cause::Record));
    let told =
        policy.explain_record(Asked { own: &id(B), claims: None, delegated: None }, DELETE, NOW, &of_a);
    assert_eq!((told.misses[0].rule.id.as_str(), told.misses[0].difference), ("own", Difference::Record));
}

#[test]
fn f_a_deny_rule_about_some_records_wins_for_those() {
    let all = rule("all", RuleEffect::Allow, &["spiffe://a.example/**"], &[DELETE, PULL]);
    let others = rule("others", RuleEffect::Deny, &["spiffe://a.example/b"], &[DELETE]);
    let secret = rule("secret", RuleEffect::Deny, &["spiffe://a.example/**"], &[PULL]);
    let policy = policy(vec![
        all,
        asking(others, Some(Ownership::Other), &[]),
        asking(secret, None, &["/domains/secret/*"]),
    ]);
    assert_eq!(decided(&policy, A, DELETE, &record(B, &[])), (Effect::Allow, Effect::Allow, Cause::Rule));
    assert_eq!(decided(&policy, B, DELETE, &record(B, &[])), (Effect::Allow, Effect::Allow, Cause::Rule));
    assert_eq!(decided(&policy, B, DELETE, &record(A, &[])), (Effect::Allow, Effect::Deny, Cause::Rule));
    assert_eq!(decided(&policy, B, DELETE, &record("", &[])), (Effect::Allow, Effect::Deny, Cause::Rule));
    assert_eq!(
        decided(&policy, A, PULL, &record("", &["/domains/secret/x"])),
        (Effect::Allow, Effect::Deny, Cause::Rule)
    );
    assert_eq!(
        decided(&policy, A, PULL, &record("", &["/domains/open"])),
        (Effect::Allow, Effect::Allow, Cause::Rule)
    );
    assert_eq!(
        decided(&policy, A, PULL, &RecordTraits::default()),
        (Effect::Allow, Effect::Deny, Cause::Rule)
    );
}

#[test]
fn f_the_next_rule_decides_where_a_condition_does_not_hold() {
    let own = asking(rule("own", RuleEffect::Allow, &[A], &[DELETE]), Some(Ownership::Own), &[]);
    let lab = asking(rule("lab", RuleEffect::Allow, &[A], &[DELETE]), None, &["/domains/lab"]);
    let ended = NativeRule {
        not_after: Some(Timestamp(NOW.0 - 1)),
        ..rule("ended", RuleEffect::Allow, &[A], &[DELETE])
    };
    let policy = policy(vec![ended, own, lab]);
    let who = id(A);
    let grants = policy.grants(&who, None);
    let decide = |about: &RecordTraits| {
        let number = policy.catalogue().find(DELETE);
        let decision = policy.judge_record(grants.as_deref(), number, NOW, &who, about);
        decision.rule.map(|rule| rule.id.clone())
    };
    assert_eq!(decide(&record(A, &["/domains/lab"])).as_deref(), Some("own"));
    assert_eq!(decide(&record(B, &["/domains/lab"])).as_deref(), Some("lab"));
    assert_eq!(decide(&record(B, &["/domains/other"])), None);
}

#[test]
fn k_for_a_gateway_the_record_is_to_be_that_of_whom_it_speaks_for() {
    let who = ["spiffe://a.example/**", "oidc:google:alice"];
    let own = asking(rule("own", RuleEffect::Allow, &who, &[DELETE]), Some(Ownership::Own), &[]);
    let policy = policy(vec![own]);
    let (gateway, alice) =
        (id("spiffe://a.example/gateway"), crate::Principal::parse_delegated("oidc:google:alice").unwrap());
    let number = policy.catalogue().find(DELETE);
    let (theirs, its) = (policy.grants(&alice, None), policy.grants(&gateway, None));
    let decide = |about: &RecordTraits| {
        policy.judge_record_delegated(theirs.as_deref(), its.as_deref(), number, NOW, &alice, about).effect
    };
    assert_eq!(decide(&record("oidc:google:alice", &[])), Effect::Allow);
    assert_eq!(decide(&record("spiffe://a.example/gateway", &[])), Effect::Deny);
    let alone = policy.judge_record(its.as_deref(), number, NOW, &gateway, &record("oidc:google:alice", &[]));
    assert_eq!(alone.effect, Effect::Deny, "the gateway itself owns nothing of alice");
}

#[test]
fn a_rule_with_conditions_makes_no_other_unreachable() {
    let own = asking(rule("own", RuleEffect::Allow, &[A], &[DELETE]), Some(Ownership::Own), &[]);
    let all = rule("all", RuleEffect::Allow, &[A], &[DELETE]);
    let check = |rules: Vec<NativeRule>| {
        let loaded = Policy::from_rules(rules, None, &catalogue(), UnknownMethod::Error).unwrap();
        loaded.warnings.iter().map(|w| w.at.rule.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(check(vec![own.clone(), all.clone()]), ["own"], "the rule for all records decides those too");
    let deny = asking(rule("deny", RuleEffect::Deny, &[A], &[DELETE]), None, &["/domains/x"]);
    assert_eq!(check(vec![deny, all]), Vec::<String>::new());
    let twice = NativeRule { id: "twice".to_owned(), ..own.clone() };
    assert_eq!(check(vec![own, twice]), ["twice"]);
}
