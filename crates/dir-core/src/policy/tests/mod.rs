//! The policy held against its tables, its decision table and a naive formulation.

mod callers;
mod decisions;
mod explained;
mod faults;
mod monotone;
mod records;
mod scope;
mod tables;

use super::*;
use crate::identity::TrustDomain;

pub(super) const STORE: &str = "/agntcy.dir.store.v1.StoreService/";
pub(super) const SYNC: &str = "/agntcy.dir.store.v1.SyncService/";
pub(super) const ROUTING: &str = "/agntcy.dir.routing.v1.RoutingService/";
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Every method of the permission table.
pub(super) fn catalogue() -> MethodCatalogue {
    let paths = |(service, methods): &(&str, &[(&str, Permission)])| {
        let service = (*service).to_owned();
        methods.iter().map(move |(method, _)| format!("/{service}/{method}")).collect::<Vec<_>>()
    };
    MethodCatalogue::new(PERMISSIONS.iter().flat_map(paths))
}

pub(super) fn load(text: &str, matching: Matching) -> Result<Loaded, PolicyError> {
    Policy::parse_csv(text, matching, &catalogue(), UnknownMethod::Error)
}

pub(super) fn strict(text: &str) -> Policy {
    load(text, Matching::Strict).unwrap().policy
}

pub(super) fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

pub(super) fn caller(id: &str) -> Principal {
    let text = if id.starts_with("spiffe://") { id.to_owned() } else { format!("spiffe://{id}/w") };
    Principal::Spiffe(text.parse().unwrap())
}

pub(super) fn allows(policy: &Policy, id: &str, method: &str) -> bool {
    policy.decide(&caller(id), method, NOW).effect == Effect::Allow
}

pub(super) fn kinds(loaded: &Loaded) -> Vec<WarningKind> {
    loaded.warnings.iter().map(|w| w.kind).collect()
}

pub(super) fn rule(id: &str, effect: RuleEffect, principals: &[&str], methods: &[&str]) -> NativeRule {
    NativeRule {
        id: id.to_owned(),
        line: None,
        effect,
        principals: principals.iter().map(|p| (*p).to_owned()).collect(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        not_after: None,
        limits: None,
        resources: None,
    }
}

pub(super) fn native(rules: Vec<NativeRule>) -> Result<Loaded, PolicyError> {
    let own = domain("acme.example");
    Policy::from_rules(rules, Some(&own), &catalogue(), UnknownMethod::Error)
}
