//! What is refused, and in which words.

use super::{LOOPBACK, errors, loaded, warnings};
use crate::config::keys::Profile;
use crate::config::{Inputs, load};
use std::io::Write;

fn refused(yaml: &str) -> Vec<String> {
    errors(&loaded(&format!("{LOOPBACK}{yaml}"), &[]))
}

fn production(yaml: &str) -> Vec<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let inputs = Inputs { file: Some(file.path().to_owned()), ..Inputs::default() };
    load(&inputs, Some(Profile::Production)).errors().map(|p| p.key.clone()).collect()
}

#[test]
fn a10_plaintext_stays_on_this_machine() {
    let open = errors(&loaded("", &[]));
    assert!(open.len() == 1 && open[0].contains("--allow-insecure"), "{open:?}");
    assert_eq!(errors(&loaded("listen: {allow_insecure: true}", &[])), Vec::<String>::new());
    assert_eq!(refused(""), Vec::<String>::new());
    let with_identity = loaded("authn: {enabled: true, socket_path: /run/s.sock}", &[]);
    assert_eq!(errors(&with_identity), Vec::<String>::new());
}

#[test]
fn a8_authn_in_these_words() {
    for (yaml, wanted) in [
        ("{enabled: true}", "authn.socket_path: invalid authn config: socket path is required"),
        (
            "{enabled: true, socket_path: /s, mode: jwt}",
            "authn.audiences: invalid authn config: at least one audience is required for JWT mode",
        ),
        (
            "{enabled: true, socket_path: /s, mode: oidc}",
            "authn.mode: invalid authn config: invalid auth mode: oidc (must be 'jwt', 'jwt-tls', or 'x509')",
        ),
        (
            "{enabled: true, socket_path: /s, mode: jwt-tls, audiences: [a]}",
            "authn.mode: invalid authn config: mode 'jwt-tls' is for clients only; a server takes 'x509' or 'jwt'",
        ),
        (
            "{enabled: true, socket_path: 'unix://host/path'}",
            "authn.socket_path: invalid authn config: \"unix://host/path\" is not unix:///abs/path, /abs/path or tcp://IP:port",
        ),
        (
            "{enabled: true, socket_path: relative/path}",
            "authn.socket_path: invalid authn config: \"relative/path\" is not unix:///abs/path, /abs/path or tcp://IP:port",
        ),
    ] {
        assert_eq!(refused(&format!("authn: {yaml}\n")), [wanted]);
    }
    for socket in ["unix:///a/b", "unix:/a/b", "/a/b", "tcp://127.0.0.1:99", "tcp:127.0.0.1:99"] {
        assert_eq!(
            refused(&format!("authn: {{enabled: true, socket_path: '{socket}'}}\n")),
            Vec::<String>::new()
        );
    }
    assert_eq!(refused("authn: {mode: nonsense}\n"), Vec::<String>::new(), "an unused block is not judged");
    let authz = "authz: {enabled: true, enforcer_policy_file_path: ''}\n";
    assert!(refused(authz)[0].ends_with("invalid authz config: enforcer policy file path is required"));
}

#[test]
fn limits_at_their_edges() {
    for (yaml, key) in [
        ("connection: {max_concurrent_streams: 0}", "connection.max_concurrent_streams"),
        ("connection: {max_recv_msg_size: 1023}", "connection.max_recv_msg_size"),
        ("connection: {keepalive: {time: 0s}}", "connection.keepalive.time"),
        ("ratelimit: {global_rps: 10, global_burst: 9}", "ratelimit.global_burst"),
        ("ratelimit: {global_rps: -1}", "ratelimit.global_rps"),
        ("ratelimit: {method_limits: {Push: {rps: 1, burst: 1}}}", "ratelimit.method_limits"),
        ("ratelimit: {method_limits: {/a.B/C: {rps: 1, bust: 1}}}", "ratelimit.method_limits"),
        ("audit: {queue: 0}", "audit.queue"),
        ("listen: {proxy_protocol: required}", "listen.trusted_proxies"),
        ("listen: {trusted_proxies: [10.0.0.1/8]}", "listen.trusted_proxies"),
        ("listen: {trusted_proxies: [proxy.example]}", "listen.trusted_proxies"),
        ("limits: {proxy_header_timeout: 0s}", "limits.proxy_header_timeout"),
        ("audit: {output: file}", "audit.path"),
        (
            "ratelimit: {per_trust_domain_rps: 10, per_trust_domain_burst: 9}",
            "ratelimit.per_trust_domain_burst",
        ),
        ("ratelimit: {per_ip_rps: 10, per_ip_burst: 9}", "ratelimit.per_ip_burst"),
        ("authn: {trusted_gateways: [acme.example]}", "authn.trusted_gateways"),
        ("authn: {trusted_gateways: ['spiffe://acme.example']}", "authn.trusted_gateways"),
        ("metrics: {address: '127.0.0.1:8888'}", "metrics.address"),
        ("store: {oci: {registry_address: 'ftp://x'}}", "store.oci.registry_address"),
        ("oasf_api_validation: {mode: remote}", "oasf_api_validation.mode"),
        ("database: {type: postgres}", "database.type"),
        ("dev_identity: {enabled: true, svid_ttl: 9s}", "dev_identity.svid_ttl"),
    ] {
        let found = refused(&format!("{yaml}\n"));
        assert!(found.len() == 1 && found[0].starts_with(key), "{yaml}: {found:?}");
    }
    for yaml in [
        "connection: {max_concurrent_streams: 1, max_recv_msg_size: 1024}",
        "ratelimit: {global_rps: 10, global_burst: 10, per_client_rps: 1}",
        "ratelimit: {method_limits: {/a.B/C: {rps: 1, burst: 0}}}",
        "ratelimit: {per_trust_domain_rps: 10, per_ip_rps: 5, per_ip_burst: 5, auth_rpm: 0}",
        "authn: {trusted_gateways: ['spiffe://acme.example/ns/gateway/sa/oidc']}",
        "dev_identity: {enabled: true, svid_ttl: 10s}",
        "listen: {proxy_protocol: required, trusted_proxies: [10.0.0.0/8, '2001:db8::/32', 192.0.2.7]}",
        "listen: {trusted_proxies: '10.0.0.0/8, ::1'}",
    ] {
        assert_eq!(refused(&format!("{yaml}\n")), Vec::<String>::new(), "{yaml}");
    }
}

#[test]
fn federation_rules() {
    let of = |item: &str| {
        refused(&format!("authn: {{trust_domain: own.x}}\nfederation: {{trust_domains: [{item}]}}\n"))
    };
    for (item, wanted) in [
        ("{name: own.x}", "own trust domain"),
        ("{name: a.x}, {name: A.x}", "named twice"),
        ("{name: a.x, url: 'http://a'}", "https://"),
        ("{name: a.x, url: 'https://u@a'}", "carry a user"),
        ("{name: a.x, profile: https_spiffe}", "endpoint_spiffe_id"),
        ("{name: a.x, profile: ftp}", "none of https_web"),
        ("{name: 'a x'}", "trust domain has"),
        ("{name: a.x}", "needs a url"),
        ("{name: a.x, bootstrap_file: /b, max_stale: 7d}", "max_stale: "),
        ("{name: a.x, bootstrap_file: /b, max_stale: 0s}", "longer than 0"),
        ("{name: a.x, bootstrap_file: /b, refresh_min: 2m, refresh_max: 1m}", "longer than refresh_max"),
        ("{nam: a.x}", "unknown field"),
    ] {
        let found = of(item);
        assert!(found.iter().any(|e| e.contains(wanted)), "{item}: {found:?}");
    }
    for item in [
        "{name: a.x, bootstrap_file: /b}",
        "{name: a.x, url: 'https://a/', ca_file: /c, refresh_min: 1m, refresh_max: 1h, max_stale: 24h}",
        "{name: a.x, url: 'https://a/', profile: https_spiffe, endpoint_spiffe_id: 'spiffe://a.x/s'}",
    ] {
        assert_eq!(of(item), Vec::<String>::new(), "{item}");
    }
    let hint = |hint: &str| {
        refused(&format!("federation: {{bundle_endpoint: {{enabled: true, refresh_hint: {hint}}}}}\n"))
    };
    assert!(hint("29s").iter().any(|e| e.contains("at least 30s")));
    assert_eq!(hint("30s"), Vec::<String>::new());
}

#[test]
fn absent_parts_are_one_warning_each() {
    let read = loaded(
        &format!(
            "{LOOPBACK}http_gateway: {{enabled: true, listen_address: ':1'}}\nrouting: {{relay_service: false}}\nstore: {{verification: {{enabled: true}}}}\n"
        ),
        &[],
    );
    assert_eq!(errors(&read), Vec::<String>::new());
    assert_eq!(
        warnings(&read),
        ["has no effect: store.verification.enabled", "not available in this build: http_gateway.enabled"]
    );
    let alias = loaded(&format!("{LOOPBACK}database: {{type: sqlite}}\n"), &[]);
    assert!(warnings(&alias)[0].starts_with("sqlite is an alias of embedded"));
}

#[test]
fn a_rate_limiter_without_a_bucket_is_a_warning() {
    let warned = |yaml: &str| {
        let read = loaded(&format!("{LOOPBACK}ratelimit: {{{yaml}}}\n"), &[]);
        assert_eq!(errors(&read), Vec::<String>::new(), "{yaml}");
        warnings(&read)
    };
    for yaml in [
        "enabled: true",
        "enabled: true, global_burst: 5, per_ip_burst: 5",
        "enabled: true, auth_rpm: 60",
        "enabled: true, method_limits: {/a.B/C: {rps: 0}}",
    ] {
        let text = "enabled without any limit: nothing but failed authentications is limited";
        assert_eq!(warned(yaml), [text], "{yaml}");
    }
    for yaml in [
        "enabled: false",
        "enabled: true, global_rps: 1, global_burst: 1",
        "enabled: true, per_client_rps: 1, per_client_burst: 1",
        "enabled: true, per_trust_domain_rps: 1",
        "enabled: true, per_ip_rps: 1",
        "enabled: true, method_limits: {/a.B/C: {rps: 1, burst: 1}}",
    ] {
        assert_eq!(warned(yaml), Vec::<String>::new(), "{yaml}");
    }
}

#[test]
fn production_refuses() {
    let unsafe_file = "\
        listen: {allow_insecure: true}\ndev_identity: {enabled: true}\nauthn: {trust_domain: example.org}\n\
        store: {provider: memory, oci: {registry_address: ghcr.io, auth_config: {password: p}}}\n\
        oasf_api_validation: {mode: 'off'}\n";
    assert_eq!(
        production(unsafe_file),
        [
            "authn.enabled",
            "authz.enabled",
            "listen.allow_insecure",
            "dev_identity.enabled",
            "authn.trust_domain",
            "store.provider",
            "store.oci.auth_config.insecure",
            "oasf_api_validation.mode",
            "store.oci.auth_config.password",
        ]
    );
    let good = "\
        authn: {enabled: true, socket_path: /run/spire/agent.sock, trust_domain: acme.directory}\n\
        authz: {enabled: true}\nstore: {oci: {registry_address: 'zot.dir.svc:5000'}}\n";
    assert_eq!(production(good), Vec::<String>::new());
}
