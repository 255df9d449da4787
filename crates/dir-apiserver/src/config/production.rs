//! What the production profile refuses.

use super::Loaded;
use super::keys::{AuditOutput, DatabaseType, RulesMode, StoreProvider};
use super::layers::{Problem, Source};
use super::section::{Flag, Key};
use std::time::Duration;

/// The chart's startup probe gives up after this: 30 times 3 s.
const STARTUP_PROBE_BUDGET: Duration = Duration::from_secs(90);

/// Every finding of the production profile.
pub(super) fn check(loaded: &Loaded, keys: &[Key]) -> Vec<Problem> {
    let mut found = Vec::new();
    let config = &loaded.config;
    let mut refuse = |key: &str, text: &str| found.push(Problem::error(key, format!("production: {text}")));
    if !config.authn.enabled {
        refuse("authn.enabled", "authentication must be on");
    }
    if !config.authz.enabled {
        refuse("authz.enabled", "authorization must be on");
    }
    if config.listen.allow_insecure {
        refuse("listen.allow_insecure", "plaintext on a reachable address is refused");
    }
    if config.dev_identity.enabled {
        refuse(
            "dev_identity.enabled",
            "the development Workload API hands an SVID to anybody on this machine",
        );
    }
    if let Some(text) = public_name_problem(&config.authn.trust_domain) {
        refuse("authn.trust_domain", &text);
    }
    for domain in &config.federation.trust_domains.0 {
        if let Some(text) = public_name_problem(&domain.name) {
            refuse("federation.trust_domains", &text);
        }
    }
    if config.store.provider == StoreProvider::Memory {
        refuse("store.provider", "records in memory are gone with the process");
    }
    let oci = &config.store.oci;
    if !oci.registry_address.is_empty()
        && plain(&oci.registry_address, oci.auth_config.insecure)
        && is_public(&oci.registry_address)
    {
        refuse("store.oci.auth_config.insecure", "a public registry is dialled without TLS; set it to false");
    }
    if config.oasf_api_validation.mode == RulesMode::Off {
        refuse("oasf_api_validation.mode", "records must be judged; use builtin or remote");
    }
    for key in keys.iter().filter(|k| k.has(Flag::Secret)) {
        let held = loaded.entries.iter().find(|e| e.key == key.path);
        if held.is_some_and(|e| matches!(e.source, Source::File(_)) && e.value != "") {
            refuse(
                &key.path,
                &format!("a secret stands in the file; use {} or {}_FILE", key.env(), key.env()),
            );
        }
    }
    found.append(&mut remarks(loaded));
    found
}

fn remarks(loaded: &Loaded) -> Vec<Problem> {
    let mut found = Vec::new();
    let config = &loaded.config;
    let total = config.authn.startup_wait.total;
    if total.is_zero() || total >= STARTUP_PROBE_BUDGET {
        let text = "longer than the startup probe waits (90s): the pod is killed before the cause is logged";
        found.push(Problem::warning("authn.startup_wait.total", text));
    }
    if config.authz.enabled && !config.authz.enforce {
        found.push(Problem::warning("authz.enforce", "shadow mode: denied calls are let through"));
    }
    if config.audit.output == AuditOutput::Off {
        found.push(Problem::warning("audit.output", "nothing is audited"));
    }
    if config.database.r#type == DatabaseType::Memory {
        found.push(Problem::warning("database.type", "the index is rebuilt at every start"));
    }
    found
}

/// Why a trust domain name cannot be used outside a laboratory.
pub fn public_name_problem(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let reserved = matches!(name.as_str(), "example.org" | "example.com" | "example.net" | "localhost")
        || [".local", ".localhost", ".example.org", ".example.com", ".invalid", ".test"]
            .iter()
            .any(|end| name.ends_with(end));
    if name.is_empty() {
        Some("a trust domain is required: it is chosen once and cannot be changed later".to_owned())
    } else if reserved {
        Some(format!("{name} is not globally unique; choose a name that you own"))
    } else {
        None
    }
}

fn plain(address: &str, insecure: bool) -> bool {
    match address.split_once("://") {
        Some((scheme, _)) => scheme == "http",
        None => insecure,
    }
}

/// Whether a registry is outside this machine and this cluster: a name with a dot that is no service name, or
/// an address that is not private.
fn is_public(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    if let Ok(ip) = host.parse::<std::net::Ipv4Addr>() {
        return !(ip.is_loopback() || ip.is_private() || ip.is_link_local());
    }
    host.contains('.') && ![".svc", ".cluster.local", ".internal"].iter().any(|end| host.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_laboratories() {
        for name in ["", "example.org", "EXAMPLE.com", "localhost", "dir.local", "a.example.org"] {
            assert!(public_name_problem(name).is_some(), "{name}");
        }
        for name in ["acme.directory", "prod.acme.internal", "not-resolvable"] {
            assert_eq!(public_name_problem(name), None);
        }
    }

    #[test]
    fn which_registries_are_public() {
        for address in ["ghcr.io", "https://registry.acme.com", "8.8.8.8:5000"] {
            assert!(is_public(address), "{address}");
        }
        for address in
            ["127.0.0.1:5555", "zot:5000", "zot.dir.svc:5000", "http://zot.dir.svc.cluster.local", "10.0.0.3"]
        {
            assert!(!is_public(address), "{address}");
        }
    }
}
