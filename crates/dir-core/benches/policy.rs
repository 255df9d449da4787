//! Authorization of one call: with the grants a connection holds, from the policy alone, and what loading costs.

#![allow(missing_docs)] // the macros of criterion
#![allow(clippy::unwrap_used)] // a benchmark that cannot go on is a failed one

use criterion::{Criterion, criterion_group, criterion_main};
use dir_core::policy::{Matching, MethodCatalogue, NativeRule, PERMISSIONS, RuleEffect, UnknownMethod};
use dir_core::{Policy, Principal, Timestamp};
use std::hint::black_box;

const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn catalogue() -> MethodCatalogue {
    let paths = PERMISSIONS
        .iter()
        .flat_map(|(service, methods)| methods.iter().map(move |(method, _)| format!("/{service}/{method}")));
    MethodCatalogue::new(paths)
}

fn csv(lines: usize) -> String {
    (0..lines).map(|i| format!("p,partner{i}.example,{PULL}")).collect::<Vec<_>>().join("\n")
}

/// Rules about paths: nothing can be decided for a trust domain as a whole.
fn personal(rules: usize) -> Policy {
    let rule = |i| NativeRule {
        id: format!("r{i}"),
        line: None,
        effect: RuleEffect::Allow,
        principals: vec![format!("spiffe://acme.example/ns/team{i}/sa/*")],
        methods: vec!["@read".into()],
        not_after: None,
        limits: None,
        resources: None,
    };
    let rules = (0..rules).map(rule).collect();
    Policy::from_rules(rules, None, &catalogue(), UnknownMethod::Error).map(|l| l.policy).unwrap()
}

fn caller(id: &str) -> Principal {
    Principal::Spiffe(id.parse().unwrap())
}

fn decide(c: &mut Criterion) {
    let load = |text: &str| Policy::parse_csv(text, Matching::Strict, &catalogue(), UnknownMethod::Error);
    let small = Policy::default_for(&"acme.example".parse().unwrap(), &catalogue());
    let large = load(&csv(10_000)).unwrap().policy;
    let paths = personal(1_000);
    let cases = [
        ("default", &small, caller("spiffe://acme.example/ns/team999/sa/x")),
        ("csv 10000", &large, caller("spiffe://partner9999.example/w")),
        ("paths 1000", &paths, caller("spiffe://acme.example/ns/team999/sa/x")),
    ];
    for (name, policy, who) in &cases {
        c.bench_function(&format!("decide/alone/{name}"), |b| {
            b.iter(|| black_box(policy.decide(black_box(who), black_box(PULL), NOW).effect));
        });
        let grants = policy.grants(who, None).unwrap();
        let method = policy.catalogue().find(PULL);
        c.bench_function(&format!("decide/held/{name}"), |b| {
            b.iter(|| black_box(policy.judge(Some(black_box(&grants)), black_box(method), NOW).effect));
        });
    }
    let text = csv(1_000);
    c.bench_function("load/csv 1000", |b| b.iter(|| black_box(load(&text).unwrap().policy.rules().len())));
}

criterion_group!(benches, decide);
criterion_main!(benches);
