//! Random policies: the compiled form decides as a naive walk does, an allow rule takes nothing away, a deny rule
//! gives nothing.

use super::*;
use proptest::prelude::*;

const IDS: [&str; 6] = [
    "spiffe://acme.example/ns/a/sa/x",
    "spiffe://acme.example/ns/b/sa/x",
    "spiffe://eu.acme.example/ns/a/sa/x",
    "spiffe://partner.example/w",
    "spiffe://partner.example/ns/a/sa/y",
    "spiffe://stranger.example/ns/a/sa/x",
];
const PRINCIPALS: [&str; 10] = [
    "local",
    "federated",
    "spiffe://acme.example/**",
    "spiffe://acme.example/ns/*/sa/x",
    "spiffe://acme.example/ns/a/**",
    "spiffe://partner.example/**",
    "spiffe://partner.example/w",
    "spiffe://*/**",
    "spiffe://*/ns/a/sa/*",
    "spiffe://*.acme.example/**",
];
const METHODS: [&str; 8] = [
    "*",
    "@read",
    "@write",
    "@admin",
    "/agntcy.dir.store.v1.StoreService/*",
    "/agntcy.dir.store.v1.StoreService/Pull",
    "/agntcy.dir.store.v1.SyncService/RequestRegistryCredentials",
    "/agntcy.dir.routing.v1.RoutingService/Publish",
];

prop_compose! {
    fn native_rule()(
        deny in prop::bool::weighted(0.3),
        principals in prop::sample::subsequence(&PRINCIPALS[..], 1..3),
        methods in prop::sample::subsequence(&METHODS[..], 1..3),
        end in prop::option::weighted(0.3, 0_i64..10),
    ) -> NativeRule {
        let effect = if deny { RuleEffect::Deny } else { RuleEffect::Allow };
        let not_after = end.filter(|_| !deny).map(Timestamp::from_secs);
        NativeRule { not_after, ..super::rule("x", effect, &principals, &methods) }
    }
}

fn compiled(rules: &[NativeRule]) -> Policy {
    // One rule that is about nobody here keeps the policy from being refused as empty.
    let mut rules = rules.to_vec();
    rules.push(super::rule("x", RuleEffect::Allow, &["spiffe://nobody.example/w"], &["*"]));
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.id = format!("r{number}");
    }
    native(rules).unwrap().policy
}

/// Every call that is allowed, over all callers, methods and times of interest.
fn granted(policy: &Policy) -> Vec<bool> {
    let mut all = Vec::new();
    for id in IDS {
        for (_, method) in policy.catalogue().iter() {
            for secs in [0, 5, 20] {
                let decision = policy.decide(&caller(id), method, Timestamp::from_secs(secs));
                all.push(decision.effect == Effect::Allow);
            }
        }
    }
    all
}

fn naive(policy: &Policy) -> Vec<bool> {
    let mut all = Vec::new();
    for id in IDS {
        let who = caller(id);
        for (method, _) in policy.catalogue().iter() {
            let about: Vec<&Rule> = policy
                .rules()
                .iter()
                .filter(|r| r.concerns(&who, None) && r.methods.contains(method))
                .collect();
            for secs in [0, 5, 20] {
                let needs = policy.catalogue().permission(method);
                let (open, any) = (needs == Some(Permission::Open), needs == Some(Permission::Identity));
                let denied = about.iter().any(|r| r.effect == RuleEffect::Deny);
                let allowed = about
                    .iter()
                    .any(|r| r.effect == RuleEffect::Allow && !r.has_ended(Timestamp::from_secs(secs)));
                all.push(open || ((allowed || any) && !denied));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn compiled_as_a_naive_walk(rules in prop::collection::vec(native_rule(), 0..8)) {
        let policy = compiled(&rules);
        prop_assert_eq!(granted(&policy), naive(&policy));
    }

    #[test]
    fn rules_move_a_policy_one_way(
        rules in prop::collection::vec(native_rule(), 0..8),
        more in native_rule(),
        at in any::<prop::sample::Index>(),
    ) {
        let before = granted(&compiled(&rules));
        let mut longer = rules.clone();
        longer.insert(at.index(rules.len() + 1), more.clone());
        let after = granted(&compiled(&longer));
        for (before, after) in before.into_iter().zip(after) {
            match more.effect {
                RuleEffect::Allow => prop_assert!(!before || after, "an allow rule took a grant away"),
                RuleEffect::Deny => prop_assert!(before || !after, "a deny rule gave a grant"),
            }
        }
    }

    /// A rule that is called unreachable can go without anybody noticing.
    #[test]
    fn unreachable_rules_decide_nothing(rules in prop::collection::vec(native_rule(), 1..8)) {
        let mut numbered = rules.clone();
        for (number, rule) in numbered.iter_mut().enumerate() {
            rule.id = format!("r{number}");
        }
        let Ok(loaded) = native(numbered) else { return Ok(()) };
        let before = granted(&loaded.policy);
        let unreachable = loaded.warnings.iter().filter(|w| w.kind == WarningKind::Unreachable);
        for id in unreachable.filter_map(|w| w.at.rule.clone()) {
            let number: usize = id[1..].parse().unwrap();
            let mut fewer = rules.clone();
            fewer.remove(number);
            prop_assert_eq!(&granted(&compiled(&fewer)), &before, "without {}", id);
        }
    }

    /// Whatever a file holds: an answer, never a panic, and the same in both matchings but for method names.
    #[test]
    fn any_text_is_answered(text in "(p|g|#|\"|,|\\*|re:|[a-zA-Z./(|\\)]|\n| ){0,80}") {
        for matching in [Matching::Strict, Matching::Compat] {
            if let Ok(loaded) = load(&text, matching) {
                prop_assert!(!loaded.policy.rules().is_empty());
            }
        }
    }
}
