//! Callers that are no SPIFFE IDs: whom a gateway speaks for, the HTTP gateway, roles that tokens claim.

use super::*;
use RuleEffect::{Allow, Deny};

const RELEASES: &str = "oidc:github:repo:acme/agents:workflow:release.yml:ref:refs/heads/release/*";
const GATEWAY: &str = "spiffe://acme.example/ns/gateway/sa/oidc";

fn oidc(text: &str) -> Principal {
    Principal::parse_delegated(text).unwrap()
}

/// The decision of a call that the gateway makes for somebody.
fn delegated<'p>(policy: &'p Policy, who: &Principal, method: &str) -> Decision<'p> {
    let grants = |who: &Principal| policy.grants(who, None);
    let (theirs, gateway) = (grants(who), grants(&caller(GATEWAY)));
    let method = policy.catalogue().find(method);
    policy.judge_delegated(theirs.as_deref(), gateway.as_deref(), method, NOW)
}

#[test]
fn k_callers_of_every_kind_have_rules_of_their_own() {
    let policy = native(vec![
        rule("people", Allow, &["oidc:google:alice@acme.example", "oidc:dex:group:writers"], &["@write"]),
        rule("releases", Allow, &[RELEASES], &["@write"]),
        rule("web", Allow, &["anonymous:http"], &["/agntcy.dir.catalog.v1.AIFinderService/*"]),
        rule("everybody", Allow, &["spiffe://*/**", "local", "federated"], &["@read"]),
    ])
    .unwrap()
    .policy;
    let push = format!("{STORE}Push");
    let pull = format!("{STORE}Pull");
    let list = "/agntcy.dir.catalog.v1.AIFinderService/ListAgents";
    let by = |who: &Principal, method: &str| {
        let decision = policy.decide(who, method, NOW);
        (decision.effect, decision.rule.map(|r| r.id.as_str()))
    };
    let release = RELEASES.replace('*', "1.2");
    for (who, method, expected) in [
        (oidc("oidc:google:alice@acme.example"), &push, (Effect::Allow, Some("people"))),
        (oidc("oidc:dex:group:writers"), &push, (Effect::Allow, Some("people"))),
        (oidc("oidc:google:mallory@acme.example"), &push, (Effect::Deny, None)),
        (oidc(&release), &push, (Effect::Allow, Some("releases"))),
        (oidc(&format!("{release}:env:prod")), &push, (Effect::Deny, None)),
        // Rules about SPIFFE IDs, however wide, are about nobody else.
        (oidc("oidc:google:alice@acme.example"), &pull, (Effect::Deny, None)),
        (Principal::Http, &pull, (Effect::Deny, None)),
        (Principal::Http, &push, (Effect::Deny, None)),
        (Principal::Http, &list.to_owned(), (Effect::Allow, Some("web"))),
        (Principal::Anonymous, &list.to_owned(), (Effect::Unauthenticated, None)),
        (caller("acme.example"), &pull, (Effect::Allow, Some("everybody"))),
        (caller("acme.example"), &push, (Effect::Deny, None)),
    ] {
        assert_eq!(by(&who, method), expected, "{who} {method}");
    }
}

#[test]
fn k_deny_rules_are_about_every_kind_of_caller_in_any_spelling() {
    let policy = native(vec![
        rule("all", Allow, &["oidc:google:alice@acme.example", "oidc:google:Alice@acme.example"], &["@read"]),
        rule("not-alice", Deny, &["oidc:google:alice@acme.example"], &["*"]),
        rule("no-web", Deny, &["anonymous:http"], &["*"]),
        rule("web", Allow, &["anonymous:http", "local"], &["@read"]),
        rule("not-ci", Deny, &["spiffe://acme.example/ns/*/sa/ci"], &["*"]),
    ])
    .unwrap()
    .policy;
    for (who, rule) in [
        (oidc("oidc:google:alice@acme.example"), "not-alice"),
        (oidc("oidc:google:Alice@acme.example"), "not-alice"),
        (Principal::Http, "no-web"),
        (caller("spiffe://acme.example/ns/build/sa/ci"), "not-ci"),
        (oidc("spiffe:spiffe://acme.example/ns/build/sa/ci"), "not-ci"),
    ] {
        let decision = policy.decide(&who, &format!("{STORE}Pull"), NOW);
        assert_eq!((decision.effect, decision.rule.unwrap().id.as_str()), (Effect::Deny, rule), "{who}");
    }
}

#[test]
fn k_a_delegated_call_needs_the_grant_of_both() {
    let gateway = NativeRule {
        not_after: Some(Timestamp(NOW.0 + 5_000)),
        ..rule("gateway", Allow, &[GATEWAY], &["@read", "/agntcy.dir.store.v1.StoreService/Push"])
    };
    let alice = "oidc:google:alice";
    let policy = native(vec![
        gateway,
        rule("alice", Allow, &[alice], &["@read", "@write", "@admin"]),
        rule("no-lookup", Deny, &[GATEWAY], &["/agntcy.dir.store.v1.StoreService/Lookup"]),
        rule("no-list", Deny, &[alice], &["/agntcy.dir.store.v1.SyncService/ListSyncs"]),
    ])
    .unwrap()
    .policy;
    let says = |who: &str, method: &str| {
        let decision = delegated(&policy, &oidc(who), method);
        (decision.effect, decision.cause, decision.rule.map(|r| r.id.as_str()))
    };
    assert_eq!(says(alice, &format!("{STORE}Push")), (Effect::Allow, Cause::Rule, Some("alice")));
    assert_eq!(says(alice, &format!("{STORE}Delete")), (Effect::Deny, Cause::Gateway, None));
    assert_eq!(says(alice, &format!("{SYNC}CreateSync")), (Effect::Deny, Cause::Gateway, None));
    assert_eq!(says(alice, &format!("{STORE}Lookup")), (Effect::Deny, Cause::Gateway, Some("no-lookup")));
    assert_eq!(says(alice, &format!("{SYNC}ListSyncs")), (Effect::Deny, Cause::Rule, Some("no-list")));
    assert_eq!(says("oidc:google:bob", &format!("{STORE}Pull")), (Effect::Deny, Cause::NoRule, None));
    assert_eq!(says(alice, "/no.Such/Method"), (Effect::Deny, Cause::UnknownMethod, None));
    assert_eq!(says(alice, "/grpc.health.v1.Health/Check"), (Effect::Allow, Cause::Open, None));
    // It goes on for as long as both may.
    let decision = delegated(&policy, &oidc(alice), &format!("{STORE}Pull"));
    assert_eq!(decision.gateway.unwrap().id, "gateway");
    assert_eq!(decision.until(), Some(Timestamp(NOW.0 + 5_000)));
    let shadow = policy.clone().shadow(true);
    assert_eq!(delegated(&shadow, &oidc(alice), &format!("{STORE}Delete")).effect, Effect::WouldDeny);
}

fn binding(role: Role, principals: &[&str], claims: &[&str]) -> RoleBinding {
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    RoleBinding {
        role,
        line: Some(7),
        principals: texts(principals),
        claims: texts(claims),
        trust_domain: None,
    }
}

fn bound(roles: &[RoleBinding]) -> Result<Loaded, PolicyError> {
    Policy::from_native(vec![], roles, Some(&domain("acme.example")), &catalogue(), UnknownMethod::Error)
}

#[test]
fn roles_are_given_to_spiffe_paths_and_claims() {
    let policy = bound(&[
        binding(Role::Viewer, &["spiffe://acme.example/**"], &[]),
        binding(Role::ServiceAccount, &["spiffe://acme.example/ns/*/sa/publisher"], &[]),
        binding(Role::Editor, &["oidc:google:alice"], &["acme/agents/editor"]),
        binding(Role::Admin, &[], &["acme/*/owner"]),
    ])
    .unwrap()
    .policy;
    let claims = |project: &str, role: &str| RoleClaims::new("acme", project, role);
    let may = |id: &str, claims: Option<RoleClaims>, method: &str| {
        let grants = policy.grants(&caller(id), claims.as_ref()).unwrap();
        let decision = policy.judge(Some(&grants), policy.catalogue().find(method), NOW);
        (decision.effect == Effect::Allow).then(|| decision.rule.unwrap().id.as_str())
    };
    let (push, pull, sync) = (format!("{STORE}Push"), format!("{STORE}Pull"), format!("{SYNC}CreateSync"));
    let web = "spiffe://acme.example/ns/web/sa/portal";
    for (id, claims, method, rule) in [
        (web, None, &pull, Some("role-viewer-1")),
        (web, None, &push, None),
        ("spiffe://acme.example/ns/web/sa/publisher", None, &push, Some("role-service-account-2")),
        ("spiffe://acme.example/ns/web/sa/publisher", None, &sync, None),
        (web, claims("agents", "editor"), &push, Some("role-editor-3")),
        (web, claims("other", "editor"), &push, None),
        (web, claims("other", "editor"), &pull, Some("role-viewer-1")),
        (web, claims("any", "owner"), &sync, Some("role-admin-4")),
        // A partner's tokens may claim what they like.
        ("spiffe://partner.example/w", claims("any", "owner"), &sync, None),
        ("spiffe://partner.example/w", claims("any", "owner"), &pull, None),
    ] {
        assert_eq!(may(id, claims.clone(), method), rule, "{id} {claims:?} {method}");
    }
    assert!(policy.decide(&oidc("oidc:google:alice"), &push, NOW).effect == Effect::Allow);
}

#[test]
fn claims_of_a_partner_count_where_the_policy_says_so() {
    let partner = RoleBinding {
        trust_domain: Some("partner.example".into()),
        ..binding(Role::Viewer, &[], &["*/*/reader"])
    };
    let policy = bound(&[partner]).unwrap().policy;
    let reader = RoleClaims::new("", "", "reader");
    for (id, allowed) in [("partner.example", true), ("acme.example", false)] {
        let grants = policy.grants(&caller(id), reader.as_ref());
        let method = policy.catalogue().find(&format!("{STORE}Pull"));
        assert_eq!(policy.judge(grants.as_deref(), method, NOW).effect == Effect::Allow, allowed, "{id}");
    }
}

#[test]
fn roles_that_are_none() {
    let fault = |binding: RoleBinding| bound(&[binding]).unwrap_err().to_string();
    assert!(fault(binding(Role::Viewer, &[], &[])).contains("at least one principal"));
    assert!(fault(binding(Role::Viewer, &[], &["editor"])).contains("`org/project/role`"));
    let strange =
        RoleBinding { trust_domain: Some("no domain".into()), ..binding(Role::Viewer, &[], &["a/b/c"]) };
    assert!(fault(strange).contains("trust domain \"no domain\""));
    let unknown = Policy::from_native(
        vec![],
        &[binding(Role::Viewer, &[], &["a/b/c"])],
        None,
        &catalogue(),
        UnknownMethod::Error,
    );
    assert!(unknown.unwrap_err().to_string().contains("write whose tokens are believed"));
    for role in Role::ALL {
        assert_eq!(Role::of(role.as_str()), Some(role));
    }
    assert_eq!(Role::of("owner"), None);
}

#[test]
fn f5_rules_about_somebody_else_are_told_apart() {
    let policy = native(vec![
        rule("alice", Allow, &["oidc:google:alice"], &["@read"]),
        rule("ours", Allow, &["local"], &["@read"]),
    ])
    .unwrap()
    .policy;
    let told = |who: &Principal| -> Vec<(String, Difference)> {
        let found = policy.explain(who, &format!("{STORE}Pull"), NOW);
        found.misses.iter().map(|m| (m.rule.id.clone(), m.difference)).collect()
    };
    assert_eq!(
        told(&oidc("oidc:google:alicia")),
        [("alice".to_owned(), Difference::Principal), ("ours".to_owned(), Difference::Principal)]
    );
    assert_eq!(
        told(&caller("partner.example")),
        [("ours".to_owned(), Difference::TrustDomain), ("alice".to_owned(), Difference::Principal)]
    );
}

#[test]
fn f5_what_a_token_claims_is_part_of_the_explanation() {
    let policy = bound(&[binding(Role::Editor, &[], &["acme/agents/editor"])]).unwrap().policy;
    let who = caller("acme.example");
    let push = format!("{STORE}Push");
    let told = |claims: Option<&RoleClaims>| {
        let found = policy.explain_call(Asked { own: &who, claims, delegated: None }, &push, NOW);
        (found.decision.effect, found.misses.first().map(|m| m.difference))
    };
    let editor = RoleClaims::new("acme", "agents", "editor");
    assert_eq!(told(editor.as_ref()), (Effect::Allow, None));
    assert_eq!(told(None), (Effect::Deny, Some(Difference::Principal)));
}
