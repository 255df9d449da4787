//! Limits of the configuration in the words of the API.

use crate::config::keys::{Authn, RateLimit};
use dir_api::{Rate, RateConfig};
use dir_core::SpiffeId;
use std::collections::HashSet;

/// The rate limits; `None` when they are off.
pub(super) fn rates(keys: &RateLimit) -> Option<RateConfig> {
    let rate = |rps: f64, burst: u32| Rate { rps, burst };
    let some = |rps: f64, burst: u32| (rps > 0.0).then(|| rate(rps, burst));
    keys.enabled.then(|| RateConfig {
        global: some(keys.global_rps.0, keys.global_burst),
        per_client: some(keys.per_client_rps.0, keys.per_client_burst),
        methods: keys
            .method_limits
            .0
            .iter()
            .map(|(method, limit)| (method.clone(), rate(limit.rps, limit.burst)))
            .collect(),
        ..RateConfig::default()
    })
}

/// The gateways that may call for others. Whether they are SPIFFE IDs was judged with the configuration.
pub(super) fn gateways(keys: &Authn) -> HashSet<SpiffeId> {
    keys.trusted_gateways.iter().filter_map(|id| id.parse().ok()).collect()
}
