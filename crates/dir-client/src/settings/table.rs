//! Every setting of a client: its name in a profile, its flag, its variable, its default.

use super::Flags;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in a profile: the variable's name without prefix, in lower case.
    pub key: &'static str,
    /// Its flag; empty where it has none.
    pub flag: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// A variable of the machine rather than of this product: asked when nobody else said anything.
    pub machine_env: Option<&'static str>,
    /// What holds when nobody says anything.
    pub default: Option<&'static str>,
    /// Whether the value is never shown.
    pub secret: bool,
    pub(super) of: fn(&Flags) -> Option<&String>,
}

impl Setting {
    /// What the command line says of it.
    pub fn flag_value<'a>(&self, flags: &'a Flags) -> Option<&'a str> {
        (self.of)(flags).map(String::as_str)
    }
}

const fn setting(
    key: &'static str,
    flag: &'static str,
    env: &'static str,
    of: fn(&Flags) -> Option<&String>,
) -> Setting {
    Setting { key, flag, env, machine_env: None, default: None, secret: false, of }
}

/// A setting of other clients of this API: known, so that their files can be read.
const fn foreign(key: &'static str, env: &'static str) -> Setting {
    setting(key, "", env, |_| None)
}

const fn with_default(setting: Setting, default: &'static str) -> Setting {
    Setting { default: Some(default), ..setting }
}

pub(super) const SERVER_ADDR: Setting = with_default(
    setting("server_address", "--server-addr", "DIRECTORY_CLIENT_SERVER_ADDRESS", |f| f.server_addr.as_ref()),
    crate::address::DEFAULT_SERVER_ADDRESS,
);
pub(super) const AUTH_MODE: Setting =
    setting("auth_mode", "--auth-mode", "DIRECTORY_CLIENT_AUTH_MODE", |f| f.auth_mode.as_ref());
pub(super) const SOCKET: Setting = Setting {
    // The SPIFFE standard's own variable (SPIFFE Workload Endpoint, section 4).
    machine_env: Some("SPIFFE_ENDPOINT_SOCKET"),
    ..setting("spiffe_socket_path", "--spiffe-socket-path", "DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", |f| {
        f.spiffe_socket_path.as_ref()
    })
};
pub(super) const AUDIENCE: Setting =
    setting("jwt_audience", "--jwt-audience", "DIRECTORY_CLIENT_JWT_AUDIENCE", |f| f.jwt_audience.as_ref());
/// A path; hidden all the same, because other clients may find a token here.
pub(super) const SPIFFE_TOKEN: Setting = Setting {
    secret: true,
    ..setting("spiffe_token", "--spiffe-token", "DIRECTORY_CLIENT_SPIFFE_TOKEN", |f| f.spiffe_token.as_ref())
};
pub(super) const EXPECTED: Setting =
    setting("expected_server_id", "--expected-server-id", "DIRECTORY_CLIENT_EXPECTED_SERVER_ID", |f| {
        f.expected_server_id.as_ref()
    });
pub(super) const SERVER_NAME: Setting =
    setting("tls_server_name", "--tls-server-name", "DIRECTORY_CLIENT_TLS_SERVER_NAME", |f| {
        f.tls_server_name.as_ref()
    });
pub(super) const CA_FILE: Setting =
    setting("tls_ca_file", "--tls-ca-file", "DIRECTORY_CLIENT_TLS_CA_FILE", |f| f.tls_ca_file.as_ref());
pub(super) const CERT_FILE: Setting =
    setting("tls_cert_file", "--tls-cert-file", "DIRECTORY_CLIENT_TLS_CERT_FILE", |f| {
        f.tls_cert_file.as_ref()
    });
pub(super) const KEY_FILE: Setting =
    setting("tls_key_file", "--tls-key-file", "DIRECTORY_CLIENT_TLS_KEY_FILE", |f| f.tls_key_file.as_ref());
pub(super) const TIMEOUT: Setting =
    with_default(setting("timeout", "--timeout", "DIRECTORY_CLIENT_TIMEOUT", |f| f.timeout.as_ref()), "30s");
/// Switched on, the reference client does not check the server at all.
pub(super) const SKIP_VERIFY: Setting = foreign("tls_skip_verify", "DIRECTORY_CLIENT_TLS_SKIP_VERIFY");
pub(super) const AUTH_TOKEN: Setting =
    Setting { secret: true, ..foreign("auth_token", "DIRECTORY_CLIENT_AUTH_TOKEN") };
pub(super) const OIDC_ISSUER: Setting = foreign("oidc_issuer", "DIRECTORY_CLIENT_OIDC_ISSUER");
pub(super) const OIDC_CLIENT_ID: Setting = foreign("oidc_client_id", "DIRECTORY_CLIENT_OIDC_CLIENT_ID");

/// Every setting, in the order in which they are shown.
pub const SETTINGS: [Setting; 18] = [
    SERVER_ADDR,
    AUTH_MODE,
    SOCKET,
    AUDIENCE,
    SPIFFE_TOKEN,
    EXPECTED,
    SERVER_NAME,
    CA_FILE,
    CERT_FILE,
    KEY_FILE,
    TIMEOUT,
    SKIP_VERIFY,
    AUTH_TOKEN,
    OIDC_ISSUER,
    OIDC_CLIENT_ID,
    Setting { secret: true, ..foreign("oidc_client_secret", "DIRECTORY_CLIENT_OIDC_CLIENT_SECRET") },
    foreign("oidc_scopes", "DIRECTORY_CLIENT_OIDC_SCOPES"),
    foreign("oidc_audience", "DIRECTORY_CLIENT_OIDC_AUDIENCE"),
];
