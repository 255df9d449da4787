//! What a client is told: address, auth mode, trust, patience. Values come with the place they were read from,
//! so that an error can say which flag or variable to change.

use crate::address::DEFAULT_SERVER_ADDRESS;
use dir_core::policy::IdPattern;
use dir_core::{SpiffeId, TrustDomain};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long a connection may take to come up (DNS, TCP and TLS together).
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for the first SVID.
pub const DEFAULT_IDENTITY_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest message that is accepted from a server, in bytes: a record of the server's limit with room for framing.
pub const DEFAULT_MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A command-line flag, such as `--server-addr`.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A profile of this name.
    Profile(String),
    /// The server, which was asked because nobody said anything.
    Server,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) => write!(f, "from {name}"),
            Source::Env(name) => write!(f, "from ${name}"),
            Source::Profile(name) => write!(f, "from profile {name}"),
            Source::Server => f.write_str("learnt from the server"),
            Source::Default => f.write_str("the default"),
        }
    }
}

/// How a client proves who it is, and checks who the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMode {
    /// Plaintext, nobody is authenticated.
    #[default]
    Insecure,
    /// mTLS with an X.509-SVID from the Workload API.
    X509,
    /// TLS whose server is checked by SPIFFE bundle, and a JWT-SVID with every call.
    Jwt,
    /// TLS as on the web (public roots, or those of a file), and a JWT-SVID with every call: for servers behind a proxy
    /// that ends TLS.
    JwtTls,
    /// mTLS with a certificate, a key and authorities from PEM files; the server is checked by name.
    Tls,
    /// mTLS with certificate, key and authorities from one JSON file, as SPIRE's helpers write it; the server is checked
    /// by name.
    Token,
}

impl AuthMode {
    /// Whether credentials come from a Workload API.
    pub const fn needs_workload_api(self) -> bool {
        matches!(self, AuthMode::X509 | AuthMode::Jwt | AuthMode::JwtTls)
    }

    /// Whether every call carries a token.
    pub(crate) const fn shows_token(self) -> bool {
        matches!(self, AuthMode::Jwt | AuthMode::JwtTls)
    }
}

/// Why a text is not an auth mode of this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthModeError {
    /// No client of this API knows the mode.
    #[error("unsupported auth mode: {0}")]
    Unsupported(String),
    /// Other clients have it, this build does not.
    #[error(
        "auth mode {0} is not available in this build (available: insecure, none, x509, jwt, jwt-tls, tls, token)"
    )]
    Unavailable(String),
}

impl FromStr for AuthMode {
    type Err = AuthModeError;

    fn from_str(text: &str) -> Result<Self, AuthModeError> {
        match text {
            "" | "insecure" | "none" => Ok(AuthMode::Insecure),
            "x509" => Ok(AuthMode::X509),
            "jwt" => Ok(AuthMode::Jwt),
            "jwt-tls" => Ok(AuthMode::JwtTls),
            "tls" => Ok(AuthMode::Tls),
            "token" => Ok(AuthMode::Token),
            "oidc" => Err(AuthModeError::Unavailable(text.to_owned())),
            _ => Err(AuthModeError::Unsupported(text.to_owned())),
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthMode::Insecure => "insecure",
            AuthMode::X509 => "x509",
            AuthMode::Jwt => "jwt",
            AuthMode::JwtTls => "jwt-tls",
            AuthMode::Tls => "tls",
            AuthMode::Token => "token",
        })
    }
}

/// Which servers a client with an SVID talks to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ExpectedServer {
    /// Any workload of the client's own trust domain.
    #[default]
    OwnTrustDomain,
    /// Any workload of this trust domain.
    TrustDomain(TrustDomain),
    /// Exactly this workload.
    Id(SpiffeId),
    /// Any workload whose whole ID this pattern means.
    Pattern(IdPattern),
}

/// Why a text names no server to expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no server: {cause}; write spiffe://example.org/ns/dir/sa/api, a pattern (`*` is one whole segment or \
     label, `/**` the rest of a path), or a trust domain"
)]
pub struct ExpectedServerError {
    text: String,
    cause: String,
}

impl FromStr for ExpectedServer {
    type Err = ExpectedServerError;

    /// `spiffe://example.org/ns/dir/sa/api` is that workload; `spiffe://example.org/ns/*/sa/api` and
    /// `spiffe://example.org/ns/dir/**` are patterns; `spiffe://example.org/**`, `spiffe://example.org` and
    /// `example.org` are any workload of the trust domain; nothing is the own trust domain.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |cause: &dyn fmt::Display| ExpectedServerError {
            text: text.to_owned(),
            cause: cause.to_string(),
        };
        if text.is_empty() {
            return Ok(ExpectedServer::OwnTrustDomain);
        }
        let has_scheme = text.get(..9).is_some_and(|p| p.eq_ignore_ascii_case("spiffe://"));
        if text.contains('*') {
            let whole = if has_scheme { text.to_owned() } else { format!("spiffe://{text}") };
            let has_path = whole[9..].contains('/');
            let whole = if has_path { whole } else { format!("{whole}/**") };
            let pattern: IdPattern = whole.parse().map_err(|e: String| bad(&e))?;
            return Ok(match pattern.trust_domain() {
                Some(domain) if pattern.is_about_every_path() => ExpectedServer::TrustDomain(domain.clone()),
                _ => ExpectedServer::Pattern(pattern),
            });
        }
        if has_scheme {
            let id: SpiffeId = text.parse().map_err(|e| bad(&e))?;
            return Ok(if id.is_root() {
                ExpectedServer::TrustDomain(id.trust_domain().clone())
            } else {
                ExpectedServer::Id(id)
            });
        }
        text.parse().map(ExpectedServer::TrustDomain).map_err(|e| bad(&e))
    }
}

/// PEM files for [`AuthMode::Tls`]; all three are needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Authorities that the server's certificate must chain to.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain, leaf first.
    pub cert: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}

/// Everything a client is told.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server, in any form of [`crate::Address`].
    pub server_addr: String,
    /// Who said so.
    pub server_addr_source: Source,
    /// How to authenticate.
    pub auth_mode: AuthMode,
    /// Who said so.
    pub auth_mode_source: Source,
    /// The Workload API (`unix:///…`), for the modes with an SVID.
    pub spiffe_socket: Option<String>,
    /// Whom a JWT-SVID is meant for, as the server has it in `authn.audiences`.
    pub jwt_audience: Option<String>,
    /// The file for [`AuthMode::Token`].
    pub spiffe_token: Option<PathBuf>,
    /// Files for [`AuthMode::Tls`]; the authorities also for [`AuthMode::JwtTls`], where they replace the public ones.
    pub tls: TlsFiles,
    /// Name to ask for (SNI), and where servers are checked by name to check, instead of the host of the address.
    pub server_name: Option<String>,
    /// Whom an SVID-carrying client expects at the other end.
    pub expected_server: ExpectedServer,
    /// Bound on bringing a connection up.
    pub connect_timeout: Duration,
    /// Bound on each answer; `None` waits for ever.
    pub call_timeout: Option<Duration>,
    /// Bound on the wait for the first SVID.
    pub identity_timeout: Duration,
    /// Largest message accepted from the server, in bytes.
    pub max_message: usize,
    /// Sent as `user-agent`.
    pub user_agent: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            server_addr: DEFAULT_SERVER_ADDRESS.to_owned(),
            server_addr_source: Source::Default,
            auth_mode: AuthMode::default(),
            auth_mode_source: Source::Default,
            spiffe_socket: None,
            jwt_audience: None,
            spiffe_token: None,
            tls: TlsFiles::default(),
            server_name: None,
            expected_server: ExpectedServer::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            call_timeout: Some(DEFAULT_CALL_TIMEOUT),
            identity_timeout: DEFAULT_IDENTITY_TIMEOUT,
            max_message: DEFAULT_MAX_MESSAGE,
            user_agent: concat!("dir-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_modes() {
        for text in ["", "insecure", "none"] {
            assert_eq!(text.parse(), Ok(AuthMode::Insecure), "{text:?}");
        }
        assert_eq!("x509".parse(), Ok(AuthMode::X509));
        for mode in [AuthMode::X509, AuthMode::Jwt, AuthMode::JwtTls, AuthMode::Tls, AuthMode::Token] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("oidc".parse::<AuthMode>(), Err(AuthModeError::Unavailable("oidc".into())));
        for text in ["X509", "mtls", " "] {
            let error = text.parse::<AuthMode>().unwrap_err();
            assert_eq!(error.to_string(), format!("unsupported auth mode: {text}"));
        }
    }

    #[test]
    fn expected_servers() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!("".parse(), Ok(ExpectedServer::OwnTrustDomain));
        assert_eq!("example.org".parse(), Ok(ExpectedServer::TrustDomain(domain.clone())));
        assert_eq!("spiffe://example.org".parse(), Ok(ExpectedServer::TrustDomain(domain)));
        let id = "spiffe://example.org/api";
        assert_eq!(id.parse(), Ok(ExpectedServer::Id(id.parse().unwrap())));
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!("spiffe://example.org/**".parse(), Ok(ExpectedServer::TrustDomain(domain)));
        for text in
            ["spiffe://example.org/ns/*/sa/api", "spiffe://example.org/ns/**", "spiffe://*.example.org/api"]
        {
            assert_eq!(text.parse(), Ok(ExpectedServer::Pattern(text.parse().unwrap())));
        }
        let labels = Ok(ExpectedServer::Pattern("spiffe://*.example.org/**".parse().unwrap()));
        assert_eq!("*.example.org".parse(), labels);
        assert_eq!("spiffe://*.example.org".parse(), labels);
        for text in [
            "spiffe://example.org/",
            "exa mple",
            "*",
            "spiffe://*",
            "spiffe://*/**",
            "spiffe://example.org/a*",
            "a/b",
        ] {
            let error = text.parse::<ExpectedServer>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} names no server: ")), "{error}");
        }
    }
}
