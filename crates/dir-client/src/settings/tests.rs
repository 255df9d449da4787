use super::*;
use proptest::prelude::*;

/// Flags where only this setting's is given.
fn flags_of(key: &str, value: Option<String>) -> Flags {
    let mut flags = Flags::default();
    match key {
        "server_address" => flags.server_addr = value,
        "auth_mode" => flags.auth_mode = value,
        "spiffe_socket_path" => flags.spiffe_socket_path = value,
        "jwt_audience" => flags.jwt_audience = value,
        "spiffe_token" => flags.spiffe_token = value,
        "expected_server_id" => flags.expected_server_id = value,
        "tls_server_name" => flags.tls_server_name = value,
        "tls_ca_file" => flags.tls_ca_file = value,
        "tls_cert_file" => flags.tls_cert_file = value,
        "tls_key_file" => flags.tls_key_file = value,
        "timeout" => flags.timeout = value,
        other => panic!("no flag field for {other}"),
    }
    flags
}

fn profile(values: &[(&str, &str)]) -> Profile {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Profile::new("prod", values)
}

proptest! {
    #[test]
    fn flag_over_environment_over_profile_over_default(
        index in 0..SETTINGS.len(),
        flag in proptest::option::of("[a-z]{0,3}"),
        env in proptest::option::of("[a-z]{0,3}"),
        named in proptest::option::of("[a-z]{0,3}"),
        machine in proptest::option::of("[a-z]{0,3}"),
    ) {
        let setting = &SETTINGS[index];
        let flag = flag.filter(|_| !setting.flag.is_empty());
        let flags = if setting.flag.is_empty() { Flags::default() } else { flags_of(setting.key, flag.clone()) };
        let profile = named.clone().map(|value| profile(&[(setting.key, &value)]));
        let look = |name: &str| match name {
            _ if name == setting.env => env.clone(),
            _ if Some(name) == setting.machine_env => machine.clone(),
            _ => None,
        };
        let found = setting.find(&Sources { flags: &flags, env: &look, profile: profile.as_ref() });
        let said = |value: Option<String>| value.filter(|v| !v.is_empty());
        let by = |source: Source| move |value: String| Found { value, source };
        let machine = said(machine.clone()).filter(|_| setting.machine_env.is_some());
        let expected = flag
            .map(by(Source::Flag(setting.flag)))
            .or(said(env.clone()).map(by(Source::Env(setting.env))))
            .or(said(named).map(by(Source::Profile("prod".into()))))
            .or(machine.map(by(Source::Env(setting.machine_env.unwrap_or_default()))))
            .or(setting.default.map(|v| by(Source::Default)(v.to_owned())));
        prop_assert_eq!(&found, &expected);
        // What is explained is what holds; secrets stay hidden.
        let explained = explain(&Sources { flags: &flags, env: &look, profile: profile.as_ref() });
        let shown = expected.as_ref().map(|f| if setting.secret { HIDDEN.to_owned() } else { f.value.clone() });
        prop_assert_eq!(&explained[index].value, &shown);
        prop_assert_eq!(&explained[index].source, &expected.map_or(Source::Default, |f| f.source));
    }
}

fn config(flags: &Flags, env: &[(&str, &str)]) -> Result<ClientConfig, SettingError> {
    config_with(flags, env, None)
}

fn config_with(
    flags: &Flags,
    env: &[(&str, &str)],
    profile: Option<&Profile>,
) -> Result<ClientConfig, SettingError> {
    let look = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    client_config(&Sources { flags, env: &look, profile })
}

#[test]
fn keys_variables_and_flags_are_unique_and_alike() {
    for (index, setting) in SETTINGS.iter().enumerate() {
        assert!(SETTINGS[..index].iter().all(|s| s.key != setting.key && s.env != setting.env));
        assert_eq!(setting.env, format!("DIRECTORY_CLIENT_{}", setting.key.to_ascii_uppercase()));
    }
}

#[test]
fn a_profile_describes_a_server() {
    let prod = profile(&[
        ("server_address", "grpcs://api.example.org"),
        ("auth_mode", "x509"),
        ("spiffe_socket_path", "unix:///run/a.sock"),
        ("tls_server_name", "api"),
        ("timeout", "2m"),
    ]);
    let config =
        config_with(&Flags::default(), &[("SPIFFE_ENDPOINT_SOCKET", "unix:///m")], Some(&prod)).unwrap();
    assert_eq!(config.server_addr, "grpcs://api.example.org");
    assert_eq!(config.server_addr_source.to_string(), "from profile prod");
    assert_eq!(config.auth_mode, AuthMode::X509);
    assert_eq!(
        config.spiffe_socket.as_deref(),
        Some("unix:///run/a.sock"),
        "the machine's own variable yields"
    );
    assert_eq!(config.server_name.as_deref(), Some("api"));
    assert_eq!(config.call_timeout, Some(Duration::from_secs(120)));
    assert_eq!(prod.unknown_keys().count(), 0);
}

#[test]
fn faults_of_a_profile_name_it() {
    for (key, value, says) in [
        ("auth_mode", "quantum", "auth_mode (from profile prod): unsupported auth mode: quantum"),
        ("timeout", "soon", "timeout (from profile prod): "),
        ("expected_server_id", "a b", "expected_server_id (from profile prod): "),
        ("tls_skip_verify", "true", "tls_skip_verify is set (from profile prod)"),
        ("auth_token", "s3cret", "auth_token is set (from profile prod), which asks for OIDC"),
    ] {
        let fail = config_with(&Flags::default(), &[], Some(&profile(&[(key, value)]))).unwrap_err();
        assert!(fail.message.contains(says) && !fail.message.contains("s3cret"), "{fail:?}");
        assert_eq!(fail.exit_code(), 4);
    }
    let odd = profile(&[("sever_address", "x"), ("tls_skip_verify", "false")]);
    assert!(config_with(&Flags::default(), &[], Some(&odd)).is_ok());
    assert_eq!(odd.unknown_keys().collect::<Vec<_>>(), ["sever_address"]);
    assert!(!format!("{:?}", profile(&[("auth_token", "s3cret")])).contains("s3cret"));
}

#[test]
fn everything_from_the_environment() {
    let config = config(
        &Flags::default(),
        &[
            ("DIRECTORY_CLIENT_SERVER_ADDRESS", "grpcs://api.example.org"),
            ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
            ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", "unix:///run/a.sock"),
            ("DIRECTORY_CLIENT_JWT_AUDIENCE", "https://dir"),
            ("DIRECTORY_CLIENT_SPIFFE_TOKEN", "/token"),
            ("DIRECTORY_CLIENT_TLS_SERVER_NAME", "api"),
            ("DIRECTORY_CLIENT_TLS_CA_FILE", "/ca"),
            ("DIRECTORY_CLIENT_TLS_CERT_FILE", "/cert"),
            ("DIRECTORY_CLIENT_TLS_KEY_FILE", "/key"),
            ("DIRECTORY_CLIENT_EXPECTED_SERVER_ID", "spiffe://example.org/api"),
            ("DIRECTORY_CLIENT_TIMEOUT", "2m"),
            ("DIRECTORY_CLIENT_TLS_SKIP_VERIFY", "false"),
        ],
    )
    .unwrap();
    assert_eq!(config.server_addr, "grpcs://api.example.org");
    assert_eq!(config.server_addr_source, Source::Env("DIRECTORY_CLIENT_SERVER_ADDRESS"));
    assert_eq!(config.auth_mode, AuthMode::X509);
    assert_eq!(config.spiffe_socket.as_deref(), Some("unix:///run/a.sock"));
    assert_eq!(config.jwt_audience.as_deref(), Some("https://dir"));
    assert_eq!(config.spiffe_token, Some("/token".into()));
    assert_eq!(config.server_name.as_deref(), Some("api"));
    assert_eq!(config.tls.key, Some("/key".into()));
    assert_eq!(config.expected_server, ExpectedServer::Id("spiffe://example.org/api".parse().unwrap()));
    assert_eq!(config.call_timeout, Some(Duration::from_secs(120)));
    assert_eq!(config.connect_timeout, Duration::from_secs(10));
}

#[test]
fn nothing_said_is_plaintext_to_this_machine() {
    let config = config(&Flags::default(), &[("SPIFFE_ENDPOINT_SOCKET", "unix:///s")]).unwrap();
    assert_eq!(config.server_addr, "0.0.0.0:8888");
    assert_eq!(config.auth_mode, AuthMode::Insecure);
    assert_eq!(config.spiffe_socket.as_deref(), Some("unix:///s"));
}

#[test]
fn bad_values_name_their_origin() {
    let flags = |auth_mode: &str| Flags { auth_mode: Some(auth_mode.into()), ..Flags::default() };
    let fail = config(&flags("quantum"), &[]).unwrap_err();
    assert_eq!(
        (fail.exit_code(), fail.message.as_str()),
        (2, "--auth-mode (from --auth-mode): unsupported auth mode: quantum")
    );
    let fail = config(&Flags::default(), &[("DIRECTORY_CLIENT_AUTH_MODE", "oidc")]).unwrap_err();
    assert_eq!(fail.exit_code(), 4);
    assert!(fail.message.contains("$DIRECTORY_CLIENT_AUTH_MODE"), "{fail:?}");
    for name in ["DIRECTORY_CLIENT_AUTH_TOKEN", "DIRECTORY_CLIENT_TLS_SKIP_VERIFY"] {
        let fail = config(&Flags::default(), &[(name, "1")]).unwrap_err();
        assert!(fail.message.contains(&format!("(from ${name})")) && fail.exit_code() == 4, "{fail:?}");
    }
    // A token beside an explicit mode is somebody else's business.
    assert!(config(&flags("insecure"), &[("DIRECTORY_CLIENT_AUTH_TOKEN", "t")]).is_ok());
}

#[test]
fn durations() {
    for (text, millis) in [("1", 1000), ("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "s", "0", "0s", "-1s", "1.5s", "1d", "99999999999999999999h", "18446744073709551615h"] {
        assert!(duration(text).is_err(), "{text}");
    }
}
