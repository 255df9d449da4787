//! Limits of the configuration in the words of the API.

use crate::config::keys::{Authn, RateLimit};
use dir_api::{Rate, RateConfig};
use dir_core::SpiffeId;
use std::collections::HashSet;
use std::time::Duration;

/// The rate limits; `None` when they are off.
pub(super) fn rates(keys: &RateLimit) -> Option<RateConfig> {
    let rate = |rps: f64, burst: u32| Rate { rps, burst };
    let some = |rps: f64, burst: u32| (rps > 0.0).then(|| rate(rps, burst));
    keys.enabled.then(|| RateConfig {
        global: some(keys.global_rps.0, keys.global_burst),
        per_client: some(keys.per_client_rps.0, keys.per_client_burst),
        per_trust_domain: full(keys.per_trust_domain_rps.0, keys.per_trust_domain_burst),
        auth_per_minute: keys.auth_rpm,
        methods: keys
            .method_limits
            .0
            .iter()
            .map(|(method, limit)| (method.clone(), rate(limit.rps, limit.burst)))
            .collect(),
        ..RateConfig::default()
    })
}

/// New connections from one address; `None` is no limit.
pub(super) fn connections(keys: &RateLimit) -> Option<Rate> {
    keys.enabled.then(|| full(keys.per_ip_rps.0, keys.per_ip_burst)).flatten()
}

/// A rate whose burst, unless it is given, is what comes in a second, and at least one.
fn full(rps: f64, burst: u32) -> Option<Rate> {
    // The whole number from a rate up: of the conversions there are, this one never lies.
    let second =
        Duration::try_from_secs_f64(rps).map_or(u64::MAX, |t| t.as_secs() + u64::from(t.subsec_nanos() > 0));
    let second = u32::try_from(second).unwrap_or(u32::MAX).max(1);
    (rps > 0.0).then_some(Rate { rps, burst: if burst == 0 { second } else { burst } })
}

/// The gateways that may call for others. Whether they are SPIFFE IDs was judged with the configuration.
pub(super) fn gateways(keys: &Authn) -> HashSet<SpiffeId> {
    keys.trusted_gateways.iter().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_that_is_not_given_is_what_comes_in_a_second() {
        let burst = |rps, burst| full(rps, burst).map(|rate| rate.burst);
        assert_eq!(burst(0.0, 5), None);
        for (rps, given, taken) in
            [(10.0, 0, 10), (10.5, 0, 11), (0.2, 0, 1), (10.0, 25, 25), (1e12, 0, u32::MAX)]
        {
            assert_eq!(burst(rps, given), Some(taken), "{rps} {given}");
        }
    }
}
