//! Judgement over values that are well formed: what contradicts itself, what this build refuses.

use super::keys::{AuditOutput, Config, DatabaseType, ProxyProtocol, RulesMode, StoreProvider};
use super::layers::{Problem, Source};
use super::{Loaded, given};
use dir_core::{SpiffeId, TrustDomain};
use std::net::SocketAddr;
use std::time::Duration;

/// Smallest message limit that lets any record through.
const MIN_MESSAGE: usize = 1024;

/// Shortest pause of a background task.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Every finding that does not depend on the profile.
pub(super) fn check(loaded: &Loaded) -> Vec<Problem> {
    let mut found = Vec::new();
    let config = &loaded.config;
    listening(config, &mut found);
    authn(config, &mut found);
    authz(config, &mut found);
    connection(loaded, &mut found);
    rates(config, &mut found);
    data(loaded, &mut found);
    super::partners::check(config, &mut found);
    found
}

fn listening(config: &Config, found: &mut Vec<Problem>) {
    for (key, listen) in
        [("listen_address", &config.listen_address), ("metrics.address", &config.metrics.address)]
    {
        if listen.candidates().is_empty() {
            found.push(Problem::error(key, format!("{listen} does not resolve to an address")));
        }
    }
    let (grpc, ops) = (&config.listen_address, &config.metrics.address);
    if grpc.port() != 0 && grpc == ops {
        found.push(Problem::error("metrics.address", format!("{ops} is the gRPC port too; choose another")));
    }
    if !config.authn.enabled && !config.listen.allow_insecure && !grpc.is_loopback() {
        found.push(Problem::error(
            "listen_address",
            format!(
                "without authentication the server speaks plaintext, and {grpc} is reachable from other machines: \
                 set authn.enabled (with authn.socket_path), or listen on 127.0.0.1, or consent with \
                 listen.allow_insecure (--allow-insecure)"
            ),
        ));
    }
    proxies(config, found);
    if !given(&config.state_dir) {
        found.push(Problem::error("state_dir", "a directory is needed"));
    }
    if config.audit.output == AuditOutput::File && !given(&config.audit.path) {
        found.push(Problem::error("audit.path", "a path is needed with audit.output: file"));
    }
    let indexer = &config.reconciler.indexer;
    if indexer.enabled && indexer.interval < MIN_INTERVAL {
        found.push(Problem::error("reconciler.indexer.interval", "must be at least 1s"));
    }
    if indexer.max_removal_percent > 100 {
        found.push(Problem::error("reconciler.indexer.max_removal_percent", "must be at most 100"));
    }
    if config.audit.queue == 0 {
        found.push(Problem::error("audit.queue", "must be at least 1"));
    }
}

fn proxies(config: &Config, found: &mut Vec<Problem>) {
    let (mode, trusted) = (config.listen.proxy_protocol, &config.listen.trusted_proxies.0);
    let key = "listen.trusted_proxies";
    match mode {
        ProxyProtocol::Off => return,
        ProxyProtocol::Required if trusted.is_empty() => {
            let text =
                "listen.proxy_protocol is required and nobody is trusted: every connection would be closed";
            found.push(Problem::error(key, text));
        }
        ProxyProtocol::Optional if trusted.is_empty() => {
            let text = "nobody is trusted: no PROXY header will be read";
            found.push(Problem::warning(key, text));
        }
        ProxyProtocol::Optional | ProxyProtocol::Required => {}
    }
    if let Some(everything) = trusted.iter().find(|network| network.is_everything()) {
        let text = format!("{everything} lets every client claim any address; name the proxies");
        found.push(Problem::warning(key, text));
    }
}

fn authn(config: &Config, found: &mut Vec<Problem>) {
    let authn = &config.authn;
    if !authn.trust_domain.is_empty()
        && let Err(error) = authn.trust_domain.parse::<TrustDomain>()
    {
        found.push(Problem::error("authn.trust_domain", format!("{:?}: {error}", authn.trust_domain)));
    }
    for id in &authn.trusted_gateways {
        match id.parse::<SpiffeId>() {
            Err(error) => found.push(Problem::error("authn.trusted_gateways", format!("{id:?}: {error}"))),
            Ok(id) if id.is_root() => {
                let text = format!("{id} is a trust domain; name the workload that is the gateway");
                found.push(Problem::error("authn.trusted_gateways", text));
            }
            Ok(_) => {}
        }
    }
    if config.dev_identity.enabled {
        if let Err(error) = config.dev_identity.trust_domain.parse::<TrustDomain>() {
            found.push(Problem::error("dev_identity.trust_domain", error.to_string()));
        }
        if config.dev_identity.svid_ttl < Duration::from_secs(10) {
            found.push(Problem::error("dev_identity.svid_ttl", "must be at least 10s"));
        }
    }
    if !authn.enabled {
        return;
    }
    if config.auth.allow_anonymous_discovery && authn.mode != "jwt" {
        let text = "only for authn.mode jwt: nobody connects without a certificate; /info of the ops listener says the same";
        found.push(Problem::warning("auth.allow_anonymous_discovery", text));
    }
    let mut bad = |key: &str, text: &str| {
        found.push(Problem::error(key, format!("invalid authn config: {text}")));
    };
    match authn.mode.as_str() {
        "x509" => {}
        "jwt" | "jwt-tls" if authn.audiences.is_empty() => {
            bad("authn.audiences", "at least one audience is required for JWT mode");
        }
        "jwt-tls" => bad("authn.mode", "mode 'jwt-tls' is for clients only; a server takes 'x509' or 'jwt'"),
        "jwt" => {}
        other => {
            bad("authn.mode", &format!("invalid auth mode: {other} (must be 'jwt', 'jwt-tls', or 'x509')"));
        }
    }
    let socket = authn.socket_path.as_str();
    if socket.is_empty() {
        if !config.dev_identity.enabled {
            bad("authn.socket_path", "socket path is required");
        }
    } else if !is_endpoint(socket) {
        let text = format!("{socket:?} is not unix:///abs/path, /abs/path or tcp://IP:port");
        bad("authn.socket_path", &text);
    }
}

fn is_endpoint(text: &str) -> bool {
    match text.split_once(':') {
        Some(("tcp", rest)) => rest.strip_prefix("//").unwrap_or(rest).parse::<SocketAddr>().is_ok(),
        // What follows two slashes would be a host.
        Some(("unix", rest)) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            path.starts_with('/') && path.len() > 1
        }
        _ => text.starts_with('/') && text.len() > 1,
    }
}

fn authz(config: &Config, found: &mut Vec<Problem>) {
    if config.authz.enabled && !given(&config.authz.enforcer_policy_file_path) {
        let text = "invalid authz config: enforcer policy file path is required";
        found.push(Problem::error("authz.enforcer_policy_file_path", text));
    }
    if config.authz.enabled && !config.authn.enabled {
        let text = "without authn.enabled nobody has an identity: every call will be UNAUTHENTICATED";
        found.push(Problem::warning("authz.enabled", text));
    }
}

fn connection(loaded: &Loaded, found: &mut Vec<Problem>) {
    let (c, limits) = (&loaded.config.connection, &loaded.config.limits);
    if c.max_concurrent_streams == 0 {
        let text = "0 would refuse every call; give the number of streams a connection may have";
        found.push(Problem::error("connection.max_concurrent_streams", text));
    }
    for (key, size) in
        [("max_recv_msg_size", c.max_recv_msg_size), ("max_send_msg_size", c.max_send_msg_size)]
    {
        if size < MIN_MESSAGE || u32::try_from(size).is_err() {
            let text = format!("{size} is outside {MIN_MESSAGE} to {} bytes", u32::MAX);
            found.push(Problem::error(format!("connection.{key}"), text));
        }
    }
    for (key, value) in [
        ("connection.connection_timeout", c.connection_timeout),
        ("connection.keepalive.time", c.keepalive.time),
        ("connection.keepalive.timeout", c.keepalive.timeout),
        ("limits.handshake_timeout", limits.handshake_timeout),
        ("limits.proxy_header_timeout", limits.proxy_header_timeout),
        ("limits.first_request_timeout", limits.first_request_timeout),
        ("limits.stalled_timeout", limits.stalled_timeout),
    ] {
        if value.is_zero() {
            found.push(Problem::error(key, "must be longer than 0"));
        }
    }
    if limits.buffered_bytes_per_connection < c.max_send_msg_size.min(MIN_MESSAGE * 64) {
        let text = "too small to hold a message; give at least 65536";
        found.push(Problem::error("limits.buffered_bytes_per_connection", text));
    }
}

fn rates(config: &Config, found: &mut Vec<Problem>) {
    let limit = &config.ratelimit;
    let mut pair = |key: &str, rps: f64, burst: u32| {
        if rps < 0.0 {
            found.push(Problem::error(key, "a rate must not be negative"));
        }
        if burst > 0 && f64::from(burst) < rps {
            found.push(Problem::error(
                key,
                format!("burst {burst} is below the rate {rps}; give at least the rate"),
            ));
        }
    };
    pair("ratelimit.global_burst", limit.global_rps.0, limit.global_burst);
    pair("ratelimit.per_client_burst", limit.per_client_rps.0, limit.per_client_burst);
    pair("ratelimit.per_trust_domain_burst", limit.per_trust_domain_rps.0, limit.per_trust_domain_burst);
    pair("ratelimit.per_ip_burst", limit.per_ip_rps.0, limit.per_ip_burst);
    for (method, one) in &limit.method_limits.0 {
        pair(&format!("ratelimit.method_limits.\"{method}\""), one.rps, one.burst);
    }
    for method in limit.method_limits.0.keys() {
        let parts: Vec<_> = method.split('/').collect();
        if !matches!(parts.as_slice(), ["", service, call] if service.contains('.') && !call.is_empty()) {
            let text = format!(
                "{method:?} is not a full method name such as /agntcy.dir.store.v1.StoreService/Push"
            );
            found.push(Problem::error("ratelimit.method_limits", text));
        }
    }
    let rates = [limit.global_rps, limit.per_client_rps, limit.per_trust_domain_rps, limit.per_ip_rps];
    // A method with a rate of 0 is freed from limits: that is no bucket.
    let empty =
        rates.iter().all(|rate| rate.0 == 0.0) && limit.method_limits.0.values().all(|one| one.rps == 0.0);
    if limit.enabled && empty {
        let text = "enabled without any limit: nothing but failed authentications is limited";
        found.push(Problem::warning("ratelimit.enabled", text));
    }
}

fn data(loaded: &Loaded, found: &mut Vec<Problem>) {
    let config = &loaded.config;
    match config.database.r#type {
        DatabaseType::Postgres => found.push(Problem::error(
            "database.type",
            "postgres is not available in this build; use embedded (the index is rebuilt from the registry)",
        )),
        DatabaseType::Sqlite => found.push(Problem::warning(
            "database.type",
            "sqlite is an alias of embedded: the index is index.sled beside database.sqlite.path",
        )),
        DatabaseType::Embedded | DatabaseType::Memory => {}
    }
    let oci = &config.store.oci;
    for (key, address) in [
        ("store.oci.registry_address", &oci.registry_address),
        ("store.oci.advertised_registry_address", &oci.advertised_registry_address),
    ] {
        if address.contains('@') {
            let text = "must not hold credentials: use store.oci.auth_config";
            found.push(Problem::error(key, text));
        }
        if let Some((scheme, _)) = address.split_once("://")
            && !matches!(scheme, "http" | "https")
        {
            found.push(Problem::error(
                key,
                format!("registry address must use http or https scheme, not {scheme}"),
            ));
        }
    }
    if oci.repository_name.is_empty() {
        found.push(Problem::error("store.oci.repository_name", "must not be empty"));
    }
    let set = |key: &str| *loaded.source(key) != Source::Default;
    if config.store.provider == StoreProvider::Oci
        && given(&oci.local_dir)
        && set("store.oci.registry_address")
    {
        let text = "ignored: store.oci.local_dir is set and wins";
        found.push(Problem::warning("store.oci.registry_address", text));
    }
    let rules = &config.oasf_api_validation;
    if rules.mode == RulesMode::Remote && rules.schema_url.is_empty() {
        let text = "mode remote needs oasf_api_validation.schema_url";
        found.push(Problem::error("oasf_api_validation.mode", text));
    }
    let url = &rules.schema_url;
    if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        found.push(Problem::error("oasf_api_validation.schema_url", "is no http or https URL"));
    }
}
