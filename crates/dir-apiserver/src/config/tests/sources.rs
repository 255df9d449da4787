//! Which source wins, and what happens to names that nobody knows.

use super::{LOOPBACK, errors, loaded, value, warnings};
use crate::config::layers::{Layers, Source};
use crate::config::leaf::Raw;
use crate::config::{Inputs, load};
use proptest::prelude::*;
use serde_json::json;
use std::io::Write;

#[test]
fn names_keep_their_dots_and_capitals() {
    let yaml =
        "ratelimit:\n  method_limits:\n    \"/agntcy.dir.store.v1.StoreService/Push\": {rps: 5, burst: 10}\n";
    let read = loaded(yaml, &[]);
    let limits = &read.config.ratelimit.method_limits.0;
    assert_eq!(limits["/agntcy.dir.store.v1.StoreService/Push"].burst, 10);
    assert!((limits["/agntcy.dir.store.v1.StoreService/Push"].rps - 5.0).abs() < f64::EPSILON);
}

#[test]
fn key_names_are_taken_in_any_case() {
    let read = loaded("Authn: {Enabled: false}\nLISTEN_ADDRESS: 127.0.0.1:1\n", &[]);
    assert_eq!(errors(&read), Vec::<String>::new());
    assert_eq!(value(&read, "listen_address"), json!("127.0.0.1:1"));
}

#[test]
fn unknown_keys_are_errors_with_a_hint() {
    let read = loaded(&format!("{LOOPBACK}authn: {{enabeld: true}}\nzzz_nothing_like_it: 1\n"), &[]);
    let errors = errors(&read);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("authn.enabeld: unknown key in "), "{errors:?}");
    assert!(errors[0].ends_with("did you mean authn.enabled?"), "{errors:?}");
    assert!(errors[1].contains("zzz_nothing_like_it") && errors[1].contains("config env"), "{errors:?}");
}

#[test]
fn unknown_variables_are_errors_with_a_hint() {
    let read = loaded(LOOPBACK, &[("DIRECTORY_SERVER_AUTHN_ENABELD", "true"), ("OTHER", "x")]);
    assert_eq!(
        errors(&read),
        ["DIRECTORY_SERVER_AUTHN_ENABELD: unknown variable; did you mean DIRECTORY_SERVER_AUTHN_ENABLED?"]
    );
    // What every variable begins with makes none of them near.
    let read = loaded(LOOPBACK, &[("DIRECTORY_SERVER_QUUX", "1")]);
    assert!(errors(&read)[0].ends_with("lists every variable"), "{:?}", errors(&read));
}

#[test]
fn a8_legacy_variables_and_service_links_pass() {
    let read = loaded(
        LOOPBACK,
        &[
            ("DIRECTORY_SERVER_AUTHZ_SOCKET_PATH", "/s"),
            ("DIRECTORY_SERVER_AUTHZ_TRUST_DOMAIN", "d"),
            ("RECONCILER_REGSYNC_INTERVAL", "30s"),
            ("RECONCILER_NAME_ENABLED", "true"),
            ("DIRECTORY_SERVER_SERVICE_HOST", "10.0.0.1"),
            ("DIRECTORY_SERVER_PORT_8888_TCP", "tcp://10.0.0.1:8888"),
        ],
    );
    assert_eq!(errors(&read), Vec::<String>::new());
    assert_eq!(
        warnings(&read),
        [
            "ignored legacy variable DIRECTORY_SERVER_AUTHZ_SOCKET_PATH",
            "ignored legacy variable DIRECTORY_SERVER_AUTHZ_TRUST_DOMAIN",
            "not available in this build: RECONCILER_*, but for RECONCILER_INDEXER_*",
        ]
    );
}

#[test]
fn variables_of_the_indexer_keep_their_names() {
    let read =
        loaded(LOOPBACK, &[("RECONCILER_INDEXER_INTERVAL", "5m"), ("RECONCILER_INDEXER_ENABLED", "false")]);
    assert_eq!((errors(&read), warnings(&read)), (Vec::new(), Vec::new()));
    let indexer = &read.config.reconciler.indexer;
    assert_eq!((indexer.enabled, indexer.interval.as_secs(), indexer.max_removal_percent), (false, 300, 10));
    let twice =
        [("RECONCILER_INDEXER_INTERVAL", "5m"), ("DIRECTORY_SERVER_RECONCILER_INDEXER_INTERVAL", "6m")];
    assert_eq!(errors(&loaded(LOOPBACK, &twice)).len(), 1);
}

#[test]
fn the_indexer_refuses_what_cannot_be_meant() {
    for (wrong, said) in [
        ("interval: 999ms", "reconciler.indexer.interval: must be at least 1s"),
        ("max_removal_percent: 101", "reconciler.indexer.max_removal_percent: must be at most 100"),
    ] {
        let read = loaded(&format!("{LOOPBACK}reconciler: {{indexer: {{{wrong}}}}}\n"), &[]);
        assert_eq!(errors(&read), [said]);
    }
    for good in ["interval: 1s", "max_removal_percent: 100", "max_removal_percent: 0"] {
        let read = loaded(&format!("{LOOPBACK}reconciler: {{indexer: {{{good}}}}}\n"), &[]);
        assert_eq!(errors(&read), Vec::<String>::new());
    }
}

#[test]
fn wrong_types_name_key_and_source() {
    let read = loaded(
        "listen_address: 127.0.0.1:1\nconnection: {max_recv_msg_size: many, keepalive: 5m}\nauthn: {startup_wait: {total: 1d}}\n",
        &[("DIRECTORY_SERVER_METRICS_ENABLED", "maybe")],
    );
    let errors = errors(&read);
    assert!(errors.iter().any(|e| e == "connection.keepalive: a map of keys belongs here"), "{errors:?}");
    assert!(
        errors.iter().any(|e| e.starts_with("connection.max_recv_msg_size: \"many\" is not a whole number"))
    );
    assert!(errors.iter().any(|e| e.starts_with("authn.startup_wait.total: \"1d\" is not a duration")));
    assert!(errors.iter().any(|e| {
        e == "metrics.enabled: \"maybe\" is neither true nor false (env DIRECTORY_SERVER_METRICS_ENABLED)"
    }));
}

#[test]
fn files_that_are_none() {
    for (yaml, wanted) in [("a: [", "is not YAML"), ("- 1\n", "a map of keys belongs at the top")] {
        let found = errors(&loaded(yaml, &[]));
        assert!(found.len() == 1 && found[0].contains(wanted), "only what is known: {found:?}");
    }
    let twice = errors(&loaded("store: {provider: oci}\nstore: {provider: memory}\n", &[]));
    assert!(twice[0].contains("duplicate mapping key") && !twice[0].contains("Policy"), "{twice:?}");
    for yaml in ["", "# nothing\n", "---\n", "authn:\n"] {
        let read = loaded(yaml, &[("DIRECTORY_SERVER_LISTEN_ADDRESS", "127.0.0.1:1")]);
        assert_eq!(errors(&read), Vec::<String>::new(), "{yaml:?}");
    }
    let inputs = Inputs { file: Some("/nowhere/x.yml".into()), ..Inputs::default() };
    assert!(
        load(&inputs, None).errors().any(|p| p.to_string().starts_with("/nowhere/x.yml: cannot be read"))
    );
}

#[test]
fn secrets_come_from_files_and_never_show() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"sentinel-in-a-file\n").unwrap();
    let path = file.path().display().to_string();
    let read = loaded(
        "listen_address: 127.0.0.1:1\ndatabase: {postgres: {password: sentinel-in-yaml}}\n",
        &[
            ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_PASSWORD_FILE", &path),
            ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_ACCESS_TOKEN", "sentinel-in-env"),
            ("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD", "sentinel-sync"),
        ],
    );
    assert_eq!(read.config.store.oci.auth_config.password.reveal(), "sentinel-in-a-file");
    let everything = format!(
        "{:?} {} {} {:?}",
        read,
        serde_json::to_string(&read.entries).unwrap(),
        read.config.store.oci.auth_config.password,
        read.problems
    );
    assert!(!everything.contains("sentinel"), "a secret shows");
    assert_eq!(value(&read, "store.oci.auth_config.password"), json!("***"));
    assert_eq!(value(&read, "store.oci.auth_config.refresh_token"), json!(""));

    let both = loaded(
        LOOPBACK,
        &[
            ("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD", "sentinel"),
            ("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD_FILE", &path),
        ],
    );
    assert!(errors(&both)[0].contains("are both set; keep one"), "{:?}", errors(&both));
    let gone = loaded(LOOPBACK, &[("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD_FILE", "/nowhere")]);
    assert!(errors(&gone)[0].contains("cannot read /nowhere"));
}

#[test]
fn credentials_in_an_address_are_refused_and_do_not_show() {
    for address in ["http://u:sentinel@zot", "u:sentinel@zot:5000"] {
        let read = loaded(&format!("{LOOPBACK}store: {{oci: {{registry_address: '{address}'}}}}\n"), &[]);
        assert!(errors(&read)[0].ends_with("must not hold credentials: use store.oci.auth_config"));
        let shown = value(&read, "store.oci.registry_address").to_string();
        assert!(!shown.contains("sentinel") && shown.contains("***@zot"), "{shown}");
        assert!(!errors(&read).concat().contains("sentinel"));
    }
}

#[test]
fn a_secret_of_the_wrong_shape_does_not_show_either() {
    let read = loaded("listen_address: 127.0.0.1:1\nsync: {auth_config: {password: [sentinel]}}\n", &[]);
    let errors = errors(&read);
    assert!(errors.len() == 1 && !errors[0].contains("sentinel"), "{errors:?}");
}

#[test]
fn a_file_that_does_not_parse_shows_no_secret() {
    for yaml in [
        "sync:\n  auth_config:\n    password: \"sentinel\n",
        "sync: {auth_config: {password: sentinel",
        "sync:\n  auth_config:\n    password: sentinel: x\n",
        "sync:\n  auth_config:\n\tpassword: sentinel\n",
        "sync:\n  auth_config:\n    password: *sentinel\n",
        "sync:\n  auth_config:\n    password: sentinel\n   x: 1\n",
        "sync: {auth_config: {password: sentinel, password: sentinel}}\n",
        "sync:\n  auth_config:\n    password: \"\\q sentinel\"\n",
    ] {
        let found = errors(&loaded(yaml, &[]));
        assert!(found.iter().any(|e| e.contains("is not YAML")), "{yaml}: {found:?}");
        // An alias name is a name, not a value: the parser says which one is missing.
        let shows = found.iter().any(|e| e.contains("sentinel"));
        assert!(!shows || yaml.contains('*'), "{found:?}");
    }
}

proptest! {
    /// Whatever is set where: the highest rank that is set wins.
    #[test]
    fn rank(file: Option<u32>, env: Option<u32>, preset: Option<u32>, flag: Option<u32>) {
        let key = "ratelimit.auth_rpm".to_owned();
        let mut yaml = tempfile::NamedTempFile::new().unwrap();
        if let Some(n) = file {
            write!(yaml, "ratelimit: {{auth_rpm: {n}}}").unwrap();
        }
        let given = |value: Option<u32>, name: &str| {
            value.map(|n| (key.clone(), n.to_string(), name.to_owned())).into_iter().collect()
        };
        let inputs = Inputs {
            file: Some(yaml.path().to_owned()),
            vars: env.map(|n| ("DIRECTORY_SERVER_RATELIMIT_AUTH_RPM".to_owned(), n.to_string())).into_iter().collect(),
            presets: given(preset, "--dev"),
            flags: given(flag, "--set"),
            home: String::new(),
        };
        let read = load(&inputs, None);
        let wanted = flag.or(preset).or(env).or(file).unwrap_or(60);
        prop_assert_eq!(read.config.ratelimit.auth_rpm, wanted);
        let source = read.source(&key).clone();
        prop_assert_eq!(matches!(source, Source::Flag(_)), flag.is_some());
        prop_assert_eq!(source == Source::Default, flag.or(preset).or(env).or(file).is_none());
    }
}

#[test]
fn l_debug_of_what_a_configuration_is_made_of_shows_no_value() {
    let triple = |key: &str| vec![(key.to_owned(), "sentinel-a".to_owned(), "--set".to_owned())];
    let mut inputs = Inputs {
        vars: vec![("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD".to_owned(), "sentinel-b".to_owned())],
        presets: triple("database.postgres.password"),
        flags: triple("store.oci.auth_config.password"),
        ..Inputs::default()
    };
    let mut layers = Layers::default();
    layers.set("a", Raw::Text("sentinel-c".to_owned()), Source::Default);
    layers.set("b", Raw::Tree(json!({ "c": "sentinel-d" })), Source::Default);
    let shown = format!("{inputs:?} {layers:?} {:?}", load(&inputs, None));
    assert!(!shown.contains("sentinel") && shown.contains("--set"), "{shown}");
    inputs.clear();
    assert!(inputs.vars[0].1.is_empty() && inputs.flags[0].1.is_empty());
}
