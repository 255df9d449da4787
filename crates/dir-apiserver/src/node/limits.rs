//! Limits of the configuration in the words of the API.

use crate::config::keys::RateLimit;
use dir_api::{Rate, RateConfig};

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
