//! What is put on a fresh connection before gRPC speaks.

use crate::address::{Address, Scheme};
use crate::config::{AuthMode, ClientConfig};
use crate::dial::{BoxIo, RawIo};
use crate::error::{ClientError, Kind};
use crate::spiffe::Spiffe;
use dir_core::Clock;
use dir_core::identity::IdentityReport;
use dir_identity::{Leaf, Refusal};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Plaintext, or one kind of TLS.
pub(crate) enum Security {
    Plain,
    Files(Arc<rustls::ClientConfig>, ServerName<'static>),
    /// With the name to ask for.
    Spiffe(Box<Spiffe>, String),
}

impl Security {
    /// The security that the auth mode asks for, if the scheme of the address agrees. Waits for an SVID where one is
    /// needed.
    pub(crate) async fn obtain(
        config: &ClientConfig,
        address: &Address,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        check_scheme(config, address)?;
        match config.auth_mode {
            AuthMode::Insecure => Ok(Security::Plain),
            AuthMode::Tls => {
                let name = parsed(&server_name(config, address, false))?;
                Ok(Security::Files(Arc::new(crate::tls::from_files(&config.tls)?), name))
            }
            AuthMode::Token => {
                let name = parsed(&server_name(config, address, false))?;
                let files = crate::tls::from_token_file(config.spiffe_token.as_deref())?;
                Ok(Security::Files(Arc::new(files), name))
            }
            AuthMode::JwtTls => {
                let name = parsed(&server_name(config, address, false))?;
                Ok(Security::Files(Arc::new(crate::tls::web(config.tls.ca.as_deref())?), name))
            }
            AuthMode::X509 | AuthMode::Jwt => {
                let name = server_name(config, address, true);
                parsed(&name)?;
                Ok(Security::Spiffe(Box::new(Spiffe::obtain(config, clock).await?), name))
            }
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        !matches!(self, Security::Plain)
    }

    /// What this process knows of its own identity, where it has one.
    pub(crate) fn report(&self) -> Option<IdentityReport> {
        match self {
            Security::Spiffe(spiffe, _) => spiffe.report(),
            Security::Plain | Security::Files(..) => None,
        }
    }

    /// What an SVID-carrying client makes of a server's chain.
    pub(crate) fn judge_server(&self, chain: &[CertificateDer<'_>]) -> Option<Result<Leaf, Refusal>> {
        match self {
            Security::Spiffe(spiffe, _) => Some(spiffe.judge_server(chain)),
            Security::Plain | Security::Files(..) => None,
        }
    }

    /// The identity, in the modes that have one.
    pub(crate) fn spiffe(&self) -> Option<&Spiffe> {
        match self {
            Security::Spiffe(spiffe, _) => Some(spiffe),
            Security::Plain | Security::Files(..) => None,
        }
    }

    /// Changes with every new SVID or bundle.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Security::Spiffe(spiffe, _) => spiffe.generation(),
            Security::Plain | Security::Files(..) => 0,
        }
    }

    pub(crate) async fn secure(&self, io: RawIo, what: &str) -> Result<BoxIo, ClientError> {
        match self {
            Security::Plain => Ok(io.boxed()),
            Security::Spiffe(spiffe, name) => spiffe.secure(io, name, what).await,
            Security::Files(config, name) => {
                match TlsConnector::from(Arc::clone(config)).connect(name.clone(), io.boxed()).await {
                    Ok(stream) => Ok(Box::new(stream)),
                    Err(error) => Err(handshake_failed(what, &error)),
                }
            }
        }
    }
}

fn check_scheme(config: &ClientConfig, address: &Address) -> Result<(), ClientError> {
    let tls = config.auth_mode != AuthMode::Insecure;
    let (cause, next) = match address.scheme {
        Scheme::Plain if tls => (
            format!("the address asks for plaintext, auth mode {} needs TLS", config.auth_mode),
            "write grpcs:// instead, or no scheme at all",
        ),
        Scheme::Tls if !tls => (
            "the address asks for TLS, but no auth mode with TLS is set".to_owned(),
            "set --auth-mode x509 or jwt (SPIFFE), jwt-tls, tls or token (files), or write grpc:// for plaintext",
        ),
        _ => return Ok(()),
    };
    let what = format!("connect to {address} ({})", config.server_addr_source);
    Err(ClientError::new(Kind::Config, what, cause, next))
}

/// The name that is asked for (SNI): the configured one, else the host of the address, else `localhost`. IP addresses
/// send no name; where servers are checked by identity and not by name, loopback addresses are called `localhost`.
fn server_name(config: &ClientConfig, address: &Address, by_identity: bool) -> String {
    let named = config.server_name.as_deref().filter(|n| !n.is_empty());
    let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match (named, address.host()) {
        (Some(name), _) => name,
        (None, None) => "localhost",
        (None, Some(host)) if by_identity && is_loopback(host) => "localhost",
        (None, Some(host)) => host,
    }
    .to_owned()
}

fn parsed(name: &str) -> Result<ServerName<'static>, ClientError> {
    ServerName::try_from(name.to_owned()).map_err(|e| {
        let next = "name a DNS name with --tls-server-name";
        ClientError::new(Kind::Config, format!("server name {name:?}"), e.to_string(), next)
    })
}

/// What an IO error during a handshake means.
pub(crate) fn handshake_failed(what: &str, error: &std::io::Error) -> ClientError {
    if let Some(tls) = crate::tls::within(error) {
        let (kind, cause, next) = crate::tls::explain(tls);
        return ClientError::new(kind, what, cause, next);
    }
    let cause = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            "the server closed the connection during the TLS handshake".to_owned()
        }
        _ => format!("the connection broke during the TLS handshake: {error}"),
    };
    let next =
        "try again; if it stays so, check the port, and whether the server behind it speaks TLS at all";
    ClientError::new(Kind::Disconnected, what, cause, next)
}
