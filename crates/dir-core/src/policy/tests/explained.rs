//! F5: the rule that decided, and the rules that nearly did.

use super::*;
use RuleEffect::{Allow, Deny};

fn told(policy: &Policy, id: &str, method: &str) -> Vec<(String, Difference)> {
    let found = policy.explain(&caller(id), method, NOW);
    found.misses.iter().map(|m| (m.rule.id.clone(), m.difference)).collect()
}

#[test]
fn f5_the_nearest_rules_come_first() {
    let policy = strict(&format!(
        "p,acme.example,*\np,partner.example,{STORE}Pull\np,partner2.example,{STORE}Push\np,zzz.example,{STORE}Push\n"
    ));
    assert_eq!(told(&policy, "partner.example", &format!("{STORE}Pull")), []);
    let misses = told(&policy, "partner.example", &format!("{STORE}Push"));
    assert_eq!(
        misses,
        [
            ("line-3".to_owned(), Difference::TrustDomain),
            ("line-1".to_owned(), Difference::TrustDomain),
            ("line-4".to_owned(), Difference::TrustDomain),
        ]
    );
    // An unknown method is nobody's near miss.
    assert_eq!(told(&policy, "partner.example", "/x.Y/Z"), []);
}

#[test]
fn f5_every_difference_has_a_name() {
    let ended = NativeRule {
        not_after: Some(Timestamp::from_secs(1)),
        ..rule("ended", Allow, &["spiffe://b.example/ns/x/sa/y"], &["@write"])
    };
    let policy = native(vec![
        ended,
        rule("path", Allow, &["spiffe://b.example/ns/z/**"], &["@write"]),
        rule("method", Allow, &["spiffe://b.example/**"], &["@read"]),
        rule("overruled", Allow, &["spiffe://c.example/**"], &["@write"]),
        rule("no", Deny, &["spiffe://c.example/**"], &["@write"]),
    ])
    .unwrap()
    .policy;
    let push = format!("{STORE}Push");
    let misses = told(&policy, "spiffe://b.example/ns/x/sa/y", &push);
    assert_eq!(
        misses,
        [
            ("ended".to_owned(), Difference::Ended),
            ("path".to_owned(), Difference::Path),
            ("overruled".to_owned(), Difference::TrustDomain),
        ]
    );
    let found = policy.explain(&caller("c.example"), &push, NOW);
    assert_eq!(found.decision.rule.unwrap().id, "no");
    assert_eq!(found.misses[0].difference, Difference::Overruled);
    assert_eq!(told(&policy, "spiffe://b.example/q", &format!("{STORE}Push")).len(), 3);
}
