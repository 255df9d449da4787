//! Native policies with any bytes in them: thousands of mutations, the same in every run (`DIR_FUZZ_ROUNDS` for more).

use super::{Form, read};
use dir_core::policy::{Effect, Policy, RuleEffect, UnknownMethod};
use dir_core::{Principal, Timestamp};
use dir_fuzz::mutate::{Dice, mutate};

const EXAMPLE: &str = include_str!("../../../../examples/policies/organisation.yaml");
const SMALL: &str = "version: 1
rules:
  - {id: a, effect: allow, principals: [local], methods: ['@read'], not_after: 2031-01-01T00:00:00Z}
  - {id: b, effect: deny, principals: ['spiffe://acme.example/ns/*/sa/ci'], methods: ['/agntcy.dir.store.v1.StoreService/*']}
roles: [{role: editor, claims: [acme/*/editor]}]
";
const TOML: &str = include_str!("../../../../examples/policies/organisation.toml");
const RECORDS: &str = "version: 1
rules:
  - id: own
    effect: allow
    principals: ['spiffe://acme.example/**']
    methods: [/agntcy.dir.store.v1.StoreService/Delete]
    resources: {owner: self, labels: [/skills/a/*]}
  - id: limited
    effect: allow
    principals: [federated, 'oidc:google:alice']
    methods: ['@read']
    limits: {rps: 5, burst: 10, max_streams: 2}
";

/// What must hold for any text: it is refused, with faults that are no longer than a page, or it is a policy in which a
/// deny rule wins, and in which nobody is allowed anything whom no rule names.
fn judge(text: &str, form: Form) {
    let own = "acme.example".parse().unwrap();
    let loaded = read(text, form).and_then(|native| {
        let catalogue = dir_api::method_catalogue();
        Policy::from_native(native.rules, &native.roles, Some(&own), &catalogue, UnknownMethod::Warn)
    });
    let policy = match loaded {
        Ok(loaded) => loaded.policy,
        Err(error) => {
            assert!(error.faults.iter().all(|fault| fault.text.len() < 16 * 1024), "{error}");
            return;
        }
    };
    let now = Timestamp::from_secs(1_800_000_000);
    for id in ["spiffe://acme.example/ns/x/sa/ci", "spiffe://acme.example/w", "spiffe://partner.example/w"] {
        let who = Principal::Spiffe(id.parse().unwrap());
        for (number, path) in policy.catalogue().iter() {
            let about = |effect: RuleEffect| {
                let mut rules = policy.rules().iter().filter(|r| r.effect == effect && r.resources.is_none());
                rules.any(|r| r.concerns(&who, None) && r.methods.contains(number))
            };
            let allowed = policy.decide(&who, path, now).effect == Effect::Allow;
            let open = path.starts_with("/grpc.health.v1")
                || path.ends_with("GetServerInfo")
                || path.ends_with("ExplainOwnAccess");
            assert!(open || !allowed || !about(RuleEffect::Deny), "{id} {path}: denied and allowed");
            let conditional = policy.has_conditions();
            assert!(
                open || !allowed || conditional || about(RuleEffect::Allow),
                "{id} {path}: nobody allows it"
            );
        }
    }
}

fn mutated(corpus: &[&str], form: Form) {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    for text in &corpus {
        assert!(read(std::str::from_utf8(text).unwrap(), form).is_ok());
    }
    let rounds = std::env::var("DIR_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let mut dice = Dice::new(0xd1_2ec7);
    let mut read_at_all = 0;
    for round in 0..rounds {
        let input = mutate(&corpus[dice.below(corpus.len())], &corpus, &mut dice);
        let Ok(text) = std::str::from_utf8(&input) else { continue };
        read_at_all += usize::from(read(text, form).is_ok());
        let held = std::panic::catch_unwind(|| judge(text, form));
        assert!(held.is_ok(), "round {round}:\n{text}");
    }
    assert!(read_at_all > rounds / 100, "mutations that are all refused early test nothing: {read_at_all}");
}

#[test]
fn mutated_policies_are_refused_or_hold() {
    mutated(&[EXAMPLE, SMALL, RECORDS], Form::Yaml);
}

#[test]
fn mutated_policies_in_toml_are_refused_or_hold() {
    mutated(
        &[
            TOML,
            "version = 1\nrules = [{id = 'a', effect = 'allow', principals = ['local'], methods = ['*']}]\n",
        ],
        Form::Toml,
    );
}
