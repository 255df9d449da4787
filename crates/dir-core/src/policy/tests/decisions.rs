//! The decision table, native rules, and what is denied whatever the rules say.

use super::*;
use RuleEffect::{Allow, Deny};

#[test]
fn f14_health_needs_nothing_and_reflection_does() {
    let policy = strict("p,a.example,*\n");
    for method in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        for who in [Principal::Anonymous, caller("stranger.example")] {
            let decision = policy.decide(&who, method, NOW);
            assert_eq!((decision.effect, decision.cause), (Effect::Allow, Cause::Open));
        }
    }
    for method in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/List"]
    {
        let decision = policy.decide(&Principal::Anonymous, method, NOW);
        assert_eq!((decision.effect, decision.cause), (Effect::Unauthenticated, Cause::Anonymous));
        assert!(!allows(&policy, "stranger.example", method));
        assert!(allows(&policy, "a.example", method));
    }
}

#[test]
fn a_method_that_nobody_knows_is_denied() {
    let mut paths: Vec<String> = catalogue().iter().map(|(_, p)| p.to_owned()).collect();
    paths.push("/agntcy.dir.store.v1.StoreService/Brandnew".into());
    let wider = MethodCatalogue::new(paths);
    let loaded =
        Policy::parse_csv("p,a.example,*\n", Matching::Strict, &wider, UnknownMethod::Error).unwrap();
    for method in ["/agntcy.dir.store.v1.StoreService/Brandnew", "/no.Such/Method", "", "*"] {
        let decision = loaded.policy.decide(&caller("a.example"), method, NOW);
        assert_eq!((decision.effect, decision.cause), (Effect::Deny, Cause::UnknownMethod), "{method}");
        assert!(decision.rule.is_none());
        let nobody = loaded.policy.decide(&Principal::Anonymous, method, NOW);
        assert_eq!(nobody.effect, Effect::Unauthenticated);
    }
}

#[test]
fn the_rule_that_decided_is_named() {
    let policy = strict("# head\n\np,a.example,*\n  p, *, /agntcy.dir.store.v1.StoreService/Pull\n");
    let rule = |id: &str| {
        let decision = policy.decide(&caller(id), &format!("{STORE}Pull"), NOW);
        decision.rule.map(|r| (r.id.clone(), r.line))
    };
    assert_eq!(rule("a.example"), Some(("line-3".into(), Some(3))));
    assert_eq!(rule("b.example"), Some(("line-4".into(), Some(4))));
    let decision = policy.decide(&caller("b.example"), &format!("{STORE}Push"), NOW);
    assert_eq!((decision.effect, decision.cause), (Effect::Deny, Cause::NoRule));
}

#[test]
fn f9_deny_overrides_allow() {
    let policy = native(vec![
        rule("all", Allow, &["local"], &["@read", "@write"]),
        rule("not-ci", Deny, &["spiffe://acme.example/ns/*/sa/ci"], &["@write"]),
        rule("again", Allow, &["spiffe://acme.example/ns/build/sa/ci"], &["*"]),
    ])
    .unwrap()
    .policy;
    let ci = caller("spiffe://acme.example/ns/build/sa/ci");
    let denied = policy.decide(&ci, &format!("{STORE}Push"), NOW);
    assert_eq!((denied.effect, denied.rule.unwrap().id.as_str()), (Effect::Deny, "not-ci"));
    assert_eq!(policy.decide(&ci, &format!("{STORE}Pull"), NOW).rule.unwrap().id, "all");
    assert_eq!(policy.decide(&ci, &format!("{SYNC}CreateSync"), NOW).rule.unwrap().id, "again");
    assert!(allows(&policy, "spiffe://acme.example/ns/build/sa/dev", &format!("{STORE}Push")));
    assert!(allows(&policy, "spiffe://acme.example/x", &format!("{STORE}Push")));
}

#[test]
fn f10_a_grant_ends() {
    let ends = |secs| Some(Timestamp::from_secs(secs));
    let timed = |id: &str, end| NativeRule {
        not_after: end,
        ..rule(id, Allow, &["spiffe://partner.example/**"], &["@read"])
    };
    let policy = native(vec![timed("first", ends(100)), timed("second", ends(200))]).unwrap().policy;
    let at = |secs| {
        let decision =
            policy.decide(&caller("partner.example"), &format!("{STORE}Pull"), Timestamp::from_secs(secs));
        (decision.effect, decision.cause, decision.rule.map(|r| r.id.as_str()), decision.until())
    };
    assert_eq!(at(99), (Effect::Allow, Cause::Rule, Some("first"), ends(100)));
    assert_eq!(at(100), (Effect::Allow, Cause::Rule, Some("second"), ends(200)));
    assert_eq!(at(200), (Effect::Deny, Cause::Ended, None, None));
}

#[test]
fn f11_shadow_mode_lets_through_and_says_so() {
    let policy = strict("p,a.example,*\n").shadow(true);
    assert!(policy.is_shadow());
    let effect = |who: &Principal, method: &str| policy.decide(who, method, NOW).effect;
    assert_eq!(effect(&caller("a.example"), &format!("{STORE}Pull")), Effect::Allow);
    assert_eq!(effect(&caller("b.example"), &format!("{STORE}Pull")), Effect::WouldDeny);
    assert_eq!(effect(&caller("b.example"), "/no.Such/Method"), Effect::WouldDeny);
    assert_eq!(effect(&Principal::Anonymous, &format!("{STORE}Pull")), Effect::Unauthenticated);
    assert!(Effect::WouldDeny.goes_on() && !Effect::Deny.goes_on() && !Effect::Unauthenticated.goes_on());
}

#[test]
fn spiffe_id_patterns() {
    for (pattern, id, matches) in [
        ("spiffe://acme.example/**", "spiffe://acme.example/a/b/c", true),
        ("spiffe://acme.example/**", "spiffe://acme.example.evil/a", false),
        ("spiffe://acme.example/**", "spiffe://sub.acme.example/a", false),
        ("spiffe://acme.example/ns/*/sa/ci", "spiffe://acme.example/ns/x/sa/ci", true),
        ("spiffe://acme.example/ns/*/sa/ci", "spiffe://acme.example/ns/x/y/sa/ci", false),
        ("spiffe://acme.example/ns/*/sa/ci", "spiffe://acme.example/ns/x/sa/ci/z", false),
        ("spiffe://acme.example/ns/*/sa/ci", "spiffe://acme.example/ns/x/sa/CI", false),
        ("spiffe://acme.example/ns/dir/**", "spiffe://acme.example/ns/dir/sa/x", true),
        ("spiffe://acme.example/ns/dir/**", "spiffe://acme.example/ns/dir", false),
        ("spiffe://acme.example/ns/dir/**", "spiffe://acme.example/ns/director/sa/x", false),
        ("spiffe://acme.example/ns/dir", "spiffe://acme.example/ns/dir", true),
        ("spiffe://*/ns/dir/sa/x", "spiffe://any.example/ns/dir/sa/x", true),
        ("spiffe://*.acme.example/**", "spiffe://eu.acme.example/w", true),
        ("spiffe://*.acme.example/**", "spiffe://a.eu.acme.example/w", false),
        ("spiffe://ACME.example/**", "spiffe://acme.example/w", true),
        ("local", "spiffe://acme.example/w", true),
        ("local", "spiffe://other.example/w", false),
        ("federated", "spiffe://other.example/w", true),
        ("federated", "spiffe://acme.example/w", false),
    ] {
        let policy = native(vec![rule("r", Allow, &[pattern], &["@read"])]).unwrap().policy;
        assert_eq!(allows(&policy, id, &format!("{STORE}Pull")), matches, "{pattern} {id}");
    }
}

#[test]
fn groups_are_made_of_the_permission_table() {
    for (group, permission) in
        [("@read", Permission::Read), ("@write", Permission::Write), ("@admin", Permission::Admin)]
    {
        let policy = native(vec![rule("r", Allow, &["local"], &[group])]).unwrap().policy;
        let catalogue = catalogue();
        let mut seen = 0;
        for (method, path) in catalogue.iter() {
            let needs = catalogue.permission(method).unwrap();
            let open = matches!(needs, Permission::Open | Permission::Identity);
            assert_eq!(allows(&policy, "acme.example", path), open || needs == permission, "{group} {path}");
            seen += usize::from(needs == permission);
        }
        assert!(seen > 0, "{group}");
    }
    let credentials = catalogue().find(&format!("{SYNC}RequestRegistryCredentials")).unwrap();
    assert_eq!(catalogue().permission(credentials), Some(Permission::Admin));
}
