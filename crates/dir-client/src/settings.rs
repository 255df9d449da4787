//! Where a client's settings come from: flag, then environment, then default. One pure function decides, for every
//! setting and every program; the program passes its environment in.

use crate::config::{AuthMode, ClientConfig, ExpectedServer, Source, TlsFiles};
use std::path::PathBuf;
use std::time::Duration;

/// The flag, its environment variable, its default.
#[derive(Debug, Clone, Copy)]
struct Setting {
    flag: &'static str,
    env: &'static str,
    default: Option<&'static str>,
}

const fn setting(flag: &'static str, env: &'static str, default: Option<&'static str>) -> Setting {
    Setting { flag, env, default }
}

const SERVER_ADDR: Setting =
    setting("--server-addr", "DIRECTORY_CLIENT_SERVER_ADDRESS", Some(crate::address::DEFAULT_SERVER_ADDRESS));
const AUTH_MODE: Setting = setting("--auth-mode", "DIRECTORY_CLIENT_AUTH_MODE", None);
const SOCKET: Setting = setting("--spiffe-socket-path", "DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", None);
const SERVER_NAME: Setting = setting("--tls-server-name", "DIRECTORY_CLIENT_TLS_SERVER_NAME", None);
const CA_FILE: Setting = setting("--tls-ca-file", "DIRECTORY_CLIENT_TLS_CA_FILE", None);
const CERT_FILE: Setting = setting("--tls-cert-file", "DIRECTORY_CLIENT_TLS_CERT_FILE", None);
const KEY_FILE: Setting = setting("--tls-key-file", "DIRECTORY_CLIENT_TLS_KEY_FILE", None);
const EXPECTED: Setting = setting("--expected-server-id", "DIRECTORY_CLIENT_EXPECTED_SERVER_ID", None);
const TIMEOUT: Setting = setting("--timeout", "DIRECTORY_CLIENT_TIMEOUT", Some("30s"));

/// The SPIFFE standard's own variable for the Workload API (SPIFFE Workload Endpoint, section 4).
const STANDARD_SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";
/// Switched on, the reference client does not check the server at all.
const SKIP_VERIFY: &str = "DIRECTORY_CLIENT_TLS_SKIP_VERIFY";
/// With one of these and no auth mode, other clients of this API choose OIDC; plaintext would be a surprise.
const OIDC_HINTS: [&str; 3] =
    ["DIRECTORY_CLIENT_AUTH_TOKEN", "DIRECTORY_CLIENT_OIDC_ISSUER", "DIRECTORY_CLIENT_OIDC_CLIENT_ID"];

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    value: String,
    source: Source,
}

impl Setting {
    /// Flag, then environment, then default. An empty variable says nothing; an empty flag says "empty".
    fn find(self, flag: Option<&str>, env: &impl Fn(&str) -> Option<String>) -> Option<Found> {
        if let Some(value) = flag {
            return Some(Found { value: value.to_owned(), source: Source::Flag(self.flag) });
        }
        if let Some(value) = env(self.env).filter(|v| !v.is_empty()) {
            return Some(Found { value, source: Source::Env(self.env) });
        }
        self.default.map(|value| Found { value: value.to_owned(), source: Source::Default })
    }
}

/// What flags say; `None` where a flag is not given.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--server-addr`
    pub server_addr: Option<String>,
    /// `--auth-mode`
    pub auth_mode: Option<String>,
    /// `--spiffe-socket-path`
    pub spiffe_socket_path: Option<String>,
    /// `--expected-server-id`
    pub expected_server_id: Option<String>,
    /// `--tls-server-name`
    pub tls_server_name: Option<String>,
    /// `--tls-ca-file`
    pub tls_ca_file: Option<String>,
    /// `--tls-cert-file`
    pub tls_cert_file: Option<String>,
    /// `--tls-key-file`
    pub tls_key_file: Option<String>,
    /// `--timeout`
    pub timeout: Option<String>,
}

/// A setting that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    /// Which setting, where it came from, and what is wrong with it.
    pub message: String,
    /// What to do; may be empty.
    pub next: String,
    /// Whether a flag said it (wrong usage) and not the environment (wrong configuration).
    pub is_usage: bool,
}

impl SettingError {
    /// The exit code of a program that ends because of it.
    pub const fn exit_code(&self) -> u8 {
        if self.is_usage { crate::exit::USAGE } else { crate::exit::CONFIG }
    }
}

/// What a client is told by flags and environment. `env` looks a variable up; empty ones say nothing.
pub fn client_config(
    flags: &Flags,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<ClientConfig, SettingError> {
    let text = |setting: Setting, flag: &Option<String>| setting.find(flag.as_deref(), env);
    let file = |setting: Setting, flag: &Option<String>| text(setting, flag).map(|f| PathBuf::from(f.value));
    let defaults = ClientConfig::default();

    refuse_skip_verify(env)?;
    let server = text(SERVER_ADDR, &flags.server_addr);
    let (server_addr, server_addr_source) =
        server.map_or((defaults.server_addr, Source::Default), |f| (f.value, f.source));
    let auth_mode = auth_mode(text(AUTH_MODE, &flags.auth_mode), env)?;
    let expected_server = match text(EXPECTED, &flags.expected_server_id) {
        None => ExpectedServer::default(),
        Some(found) => found.value.parse().map_err(|e| bad(EXPECTED, &found, e))?,
    };
    let timeout = match text(TIMEOUT, &flags.timeout) {
        None => crate::config::DEFAULT_CALL_TIMEOUT,
        Some(found) => duration(&found.value).map_err(|e| bad(TIMEOUT, &found, e))?,
    };
    let socket = text(SOCKET, &flags.spiffe_socket_path).map(|f| f.value);
    Ok(ClientConfig {
        server_addr,
        server_addr_source,
        auth_mode,
        spiffe_socket: socket.or_else(|| env(STANDARD_SOCKET).filter(|v| !v.is_empty())),
        tls: TlsFiles {
            ca: file(CA_FILE, &flags.tls_ca_file),
            cert: file(CERT_FILE, &flags.tls_cert_file),
            key: file(KEY_FILE, &flags.tls_key_file),
        },
        server_name: text(SERVER_NAME, &flags.tls_server_name).map(|f| f.value),
        expected_server,
        connect_timeout: crate::config::DEFAULT_CONNECT_TIMEOUT.min(timeout),
        call_timeout: Some(timeout),
        identity_timeout: timeout,
        ..defaults
    })
}

fn auth_mode(found: Option<Found>, env: &impl Fn(&str) -> Option<String>) -> Result<AuthMode, SettingError> {
    let Some(found) = found else {
        let hint = OIDC_HINTS.into_iter().find(|name| env(name).is_some_and(|v| !v.is_empty()));
        return match hint {
            None => Ok(AuthMode::Insecure),
            Some(name) => Err(config_error(
                format!("${name} is set, which asks for OIDC, and OIDC is not available in this build"),
                "set --auth-mode (insecure, x509, tls), or unset the variable",
            )),
        };
    };
    found.value.parse().map_err(|e| bad(AUTH_MODE, &found, e))
}

fn refuse_skip_verify(env: &impl Fn(&str) -> Option<String>) -> Result<(), SettingError> {
    match env(SKIP_VERIFY).as_deref() {
        None | Some("" | "0" | "false" | "FALSE" | "False" | "f" | "F") => Ok(()),
        Some(_) => Err(config_error(
            format!("${SKIP_VERIFY} is set; this client always checks the server"),
            "unset it, and name the authority with --tls-ca-file",
        )),
    }
}

/// `30s`, `2m`, `500ms`, `1h`; a bare number is seconds. Zero is refused: it would be no wait at all.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_e| format!("{text:?} is no duration: write 500ms, 30s, 2m or 1h"))?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("{text:?} is no duration: write 500ms, 30s, 2m or 1h")),
    };
    match millis {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(format!("{text:?} is out of range: more than nothing, and at most some hours")),
    }
}

fn bad(setting: Setting, found: &Found, cause: impl std::fmt::Display) -> SettingError {
    SettingError {
        message: format!("{} ({}): {cause}", setting.flag, found.source),
        next: String::new(),
        is_usage: matches!(found.source, Source::Flag(_)),
    }
}

fn config_error(message: String, next: &str) -> SettingError {
    SettingError { message, next: next.to_owned(), is_usage: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOME: Setting = setting("--some", "SOME", Some("d"));

    proptest! {
        #[test]
        fn flag_over_environment_over_default(
            flag in proptest::option::of("[a-z]{0,3}"),
            env in proptest::option::of("[a-z]{0,3}"),
            default in proptest::option::of(Just("d")),
        ) {
            let setting = Setting { default, ..SOME };
            let found = setting.find(flag.as_deref(), &|name: &str| env.clone().filter(|_| name == "SOME"));
            let said = env.filter(|v| !v.is_empty());
            let expected = flag
                .map(|value| Found { value, source: Source::Flag("--some") })
                .or(said.map(|value| Found { value, source: Source::Env("SOME") }))
                .or(default.map(|v| Found { value: v.to_owned(), source: Source::Default }));
            prop_assert_eq!(found, expected);
        }
    }

    fn config(flags: &Flags, env: &[(&str, &str)]) -> Result<ClientConfig, SettingError> {
        client_config(flags, &|name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn everything_from_the_environment() {
        let config = config(
            &Flags::default(),
            &[
                ("DIRECTORY_CLIENT_SERVER_ADDRESS", "grpcs://api.example.org"),
                ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
                ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", "unix:///run/a.sock"),
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
            assert!(fail.message.contains(name) && fail.exit_code() == 4, "{fail:?}");
        }
        // A token beside an explicit mode is somebody else's business.
        assert!(config(&flags("insecure"), &[("DIRECTORY_CLIENT_AUTH_TOKEN", "t")]).is_ok());
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("1", 1000), ("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "0", "0s", "-1s", "1.5s", "1d", "99999999999999999999h", "18446744073709551615h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
