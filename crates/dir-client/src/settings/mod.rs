//! Where a client's settings come from: flag, then environment, then profile, then default. One pure function decides,
//! for every setting and every program; the program passes its environment and its profile in.

mod explain;
mod profile;
mod table;
#[cfg(test)]
mod tests;

pub use explain::{Explained, HIDDEN, explain};
pub use profile::Profile;
pub use table::{SETTINGS, Setting};

use crate::config::{AuthMode, ClientConfig, ExpectedServer, Source, TlsFiles};
use std::path::PathBuf;
use std::time::Duration;
use table::{
    AUDIENCE, AUTH_MODE, AUTH_TOKEN, CA_FILE, CERT_FILE, EXPECTED, KEY_FILE, OIDC_CLIENT_ID, OIDC_ISSUER,
    SERVER_ADDR, SERVER_NAME, SKIP_VERIFY, SOCKET, SPIFFE_TOKEN, TIMEOUT,
};

/// With one of these and no auth mode, other clients of this API choose OIDC; plaintext would be a surprise.
const OIDC_HINTS: [Setting; 3] = [AUTH_TOKEN, OIDC_ISSUER, OIDC_CLIENT_ID];

/// Where settings are looked for, the first that says something wins.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The command line.
    pub flags: &'a Flags,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The profile in force.
    pub profile: Option<&'a Profile>,
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    value: String,
    source: Source,
}

impl Setting {
    /// Flag, then environment, then profile, then the machine's own variable, then default. An empty variable or
    /// profile entry says nothing; an empty flag says "empty".
    fn find(&self, sources: &Sources<'_>) -> Option<Found> {
        let found = |value: String, source: Source| Some(Found { value, source });
        let variable = |name: &str| (sources.env)(name).filter(|v| !v.is_empty());
        if let Some(value) = (self.of)(sources.flags) {
            return found(value.clone(), Source::Flag(self.flag));
        }
        if let Some(value) = variable(self.env) {
            return found(value, Source::Env(self.env));
        }
        if let Some((profile, value)) = sources.profile.and_then(|p| Some((p, p.get(self.key)?))) {
            return found(value.to_owned(), Source::Profile(profile.name().to_owned()));
        }
        if let Some((name, value)) = self.machine_env.and_then(|name| Some((name, variable(name)?))) {
            return found(value, Source::Env(name));
        }
        self.default.and_then(|value| found(value.to_owned(), Source::Default))
    }

    /// How the setting is called at the place that said it.
    fn named_at(&self, source: &Source) -> &'static str {
        if self.flag.is_empty() || matches!(source, Source::Profile(_)) { self.key } else { self.flag }
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
    /// `--jwt-audience`
    pub jwt_audience: Option<String>,
    /// `--spiffe-token`
    pub spiffe_token: Option<String>,
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

/// What a client is told by flags, environment and profile.
pub fn client_config(sources: &Sources<'_>) -> Result<ClientConfig, SettingError> {
    let text = |setting: Setting| setting.find(sources);
    let file = |setting: Setting| text(setting).map(|f| PathBuf::from(f.value));
    let defaults = ClientConfig::default();

    refuse_skip_verify(sources)?;
    let (server_addr, server_addr_source) =
        text(SERVER_ADDR).map_or((defaults.server_addr, Source::Default), |f| (f.value, f.source));
    let (auth_mode, auth_mode_source) = auth_mode(sources)?;
    let expected_server = match text(EXPECTED) {
        None => ExpectedServer::default(),
        Some(found) => found.value.parse().map_err(|e| bad(EXPECTED, &found, e))?,
    };
    let timeout = timeout(sources)?;
    Ok(ClientConfig {
        server_addr,
        server_addr_source,
        auth_mode,
        auth_mode_source,
        spiffe_socket: text(SOCKET).map(|f| f.value),
        jwt_audience: text(AUDIENCE).map(|f| f.value),
        spiffe_token: file(SPIFFE_TOKEN),
        tls: TlsFiles { ca: file(CA_FILE), cert: file(CERT_FILE), key: file(KEY_FILE) },
        server_name: text(SERVER_NAME).map(|f| f.value),
        expected_server,
        connect_timeout: crate::config::DEFAULT_CONNECT_TIMEOUT.min(timeout),
        call_timeout: Some(timeout),
        identity_timeout: timeout,
        ..defaults
    })
}

/// The bound on each answer alone.
pub fn timeout(sources: &Sources<'_>) -> Result<Duration, SettingError> {
    match TIMEOUT.find(sources) {
        None => Ok(crate::config::DEFAULT_CALL_TIMEOUT),
        Some(found) => duration(&found.value).map_err(|e| bad(TIMEOUT, &found, e)),
    }
}

fn auth_mode(sources: &Sources<'_>) -> Result<(AuthMode, Source), SettingError> {
    let Some(found) = AUTH_MODE.find(sources) else {
        let hint = OIDC_HINTS.iter().find_map(|setting| Some((setting, setting.find(sources)?.source)));
        return match hint {
            None => Ok((AuthMode::Insecure, Source::Default)),
            Some((setting, source)) => Err(config_error(
                format!(
                    "{} is set ({source}), which asks for OIDC, and OIDC is not available in this build",
                    setting.named_at(&source)
                ),
                "set --auth-mode (insecure, x509, jwt, jwt-tls, tls, token), or unset it",
            )),
        };
    };
    let mode = found.value.parse().map_err(|e| bad(AUTH_MODE, &found, e))?;
    Ok((mode, found.source))
}

fn refuse_skip_verify(sources: &Sources<'_>) -> Result<(), SettingError> {
    match SKIP_VERIFY.find(sources) {
        Some(Found { value, source }) if !["0", "false", "FALSE", "False", "f", "F"].contains(&&*value) => {
            Err(config_error(
                format!("{} is set ({source}); this client always checks the server", SKIP_VERIFY.key),
                "unset it, and name the authority with --tls-ca-file",
            ))
        }
        _ => Ok(()),
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
        message: format!("{} ({}): {cause}", setting.named_at(&found.source), found.source),
        next: "correct it, or leave it away".to_owned(),
        is_usage: matches!(found.source, Source::Flag(_)),
    }
}

fn config_error(message: String, next: &str) -> SettingError {
    SettingError { message, next: next.to_owned(), is_usage: false }
}
