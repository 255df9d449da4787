//! Judgement over partner trust domains.

use super::duration;
use super::keys::{Config, FederatedDomain};
use super::layers::Problem;
use dir_core::{SpiffeId, TrustDomain};
use std::collections::BTreeSet;
use std::time::Duration;

/// Shortest `refresh_hint` that is published: nobody looks more often.
const HINT_MIN: Duration = Duration::from_secs(30);

pub(super) fn check(config: &Config, found: &mut Vec<Problem>) {
    let federation = &config.federation;
    let mut seen = BTreeSet::new();
    for domain in &federation.trust_domains.0 {
        if let Some(text) = problem(domain, &config.authn.trust_domain) {
            found.push(Problem::error("federation.trust_domains", format!("{}: {text}", domain.name)));
        }
        if !seen.insert(domain.name.to_ascii_lowercase()) {
            found.push(Problem::error("federation.trust_domains", format!("{}: named twice", domain.name)));
        }
    }
    let endpoint = &federation.bundle_endpoint;
    if endpoint.enabled && endpoint.refresh_hint < HINT_MIN {
        let text = "must be at least 30s: partners do not look more often";
        found.push(Problem::error("federation.bundle_endpoint.refresh_hint", text));
    }
    if !config.authn.enabled && (endpoint.enabled || !federation.trust_domains.0.is_empty()) {
        let text = "without effect: authn.enabled is off, and without identities there is nobody to trust";
        found.push(Problem::warning("federation", text));
    }
}

fn problem(domain: &FederatedDomain, own: &str) -> Option<String> {
    if let Err(error) = domain.name.parse::<TrustDomain>() {
        return Some(error.to_string());
    }
    if domain.name.eq_ignore_ascii_case(own) {
        return Some("is our own trust domain".to_owned());
    }
    profile_problem(domain).or_else(|| url_problem(domain)).or_else(|| times_problem(domain))
}

fn url_problem(domain: &FederatedDomain) -> Option<String> {
    if domain.url.is_empty() {
        return domain.bootstrap_file.is_empty().then(|| "needs a url, a bootstrap_file, or both".to_owned());
    }
    match domain.url.strip_prefix("https://").and_then(|rest| rest.split('/').next()) {
        None => Some("url must begin with https://".to_owned()),
        Some(host) if host.contains('@') => Some("url must not carry a user".to_owned()),
        Some(_) => None,
    }
}

fn profile_problem(domain: &FederatedDomain) -> Option<String> {
    match domain.profile.as_str() {
        "" | "https_web" => None,
        "https_spiffe" if domain.endpoint_spiffe_id.parse::<SpiffeId>().is_ok() => None,
        "https_spiffe" => Some("profile https_spiffe needs endpoint_spiffe_id".to_owned()),
        other => Some(format!("profile {other:?} is none of https_web, https_spiffe")),
    }
}

fn times_problem(domain: &FederatedDomain) -> Option<String> {
    let mut read = Vec::new();
    for (name, text) in [
        ("refresh_min", &domain.refresh_min),
        ("refresh_max", &domain.refresh_max),
        ("max_stale", &domain.max_stale),
    ] {
        match duration::parse(text) {
            _ if text.is_empty() => read.push(None),
            Ok(value) => read.push(Some(value)),
            Err(error) => return Some(format!("{name}: {error}")),
        }
    }
    match read.as_slice() {
        [Some(min), Some(max), _] if min > max => Some("refresh_min is longer than refresh_max".to_owned()),
        [_, _, Some(stale)] if stale.is_zero() => Some("max_stale must be longer than 0".to_owned()),
        _ => None,
    }
}
