//! Which auth mode a server takes, learnt from the server itself when nobody set one.

use crate::address::{Address, Endpoint, Scheme};
use crate::client::Client;
use crate::config::{AuthMode, ClientConfig, Source};
use crate::error::{ClientError, Kind};
use crate::probe::{self, Met};
use dir_core::Clock;
use dir_proto::directory::info::v1::AuthMode as Offered;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// What a client without a mode could prove itself by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Means {
    workload_api: bool,
    audience: bool,
    /// The mode of certificate files, where there are some.
    files: Option<AuthMode>,
}

impl Means {
    fn of(config: &ClientConfig) -> Self {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        let tls = &config.tls;
        let files = if tls.ca.is_some() && tls.cert.is_some() && tls.key.is_some() {
            Some(AuthMode::Tls)
        } else {
            config.spiffe_token.as_ref().map(|_file| AuthMode::Token)
        };
        Self { workload_api: said(&config.spiffe_socket), audience: said(&config.jwt_audience), files }
    }

    fn any(self) -> bool {
        self.workload_api || self.files.is_some()
    }

    /// For a server that shows a certificate with or without a SPIFFE ID, before it was asked anything.
    fn for_certificate(self, is_svid: bool) -> AuthMode {
        match self {
            Means { workload_api: true, .. } if is_svid => AuthMode::X509,
            Means { files: Some(mode), .. } => mode,
            Means { audience: true, .. } => AuthMode::JwtTls,
            // It cannot work, and says best why: somebody else than the server answers.
            _ => AuthMode::X509,
        }
    }

    /// The first of the modes that a server prefers for which there are the means.
    fn first_of(self, offered: impl Iterator<Item = Offered>) -> Option<AuthMode> {
        let mut usable = offered.filter_map(|mode| match mode {
            Offered::X509Svid if self.workload_api => Some(AuthMode::X509),
            Offered::JwtSvid if self.workload_api && self.audience => Some(AuthMode::Jwt),
            _ => None,
        });
        usable.next()
    }
}

impl ClientConfig {
    /// The same with the auth mode that the server takes, where nobody set one and there are credentials for more than
    /// plaintext: a Workload API, a token file, certificate files. A server in plaintext stays what it was without a
    /// mode: nobody is authenticated. Nothing but handshakes and `GetServerInfo` is sent.
    pub async fn with_mode_of_server(self, clock: &Arc<dyn Clock>) -> Result<Self, ClientError> {
        let means = Means::of(&self);
        if self.auth_mode_source != Source::Default || self.auth_mode != AuthMode::Insecure || !means.any() {
            return Ok(self);
        }
        // Anything wrong with the address is said by whoever uses it.
        let Ok(address) = Address::parse(&self.server_addr) else { return Ok(self) };
        let Endpoint::Tcp { host, port } = &address.endpoint else { return Ok(self) };
        if address.scheme == Scheme::Plain {
            return Ok(self);
        }
        let Some(is_svid) = self.certificate_of(host, *port).await else {
            // Not reachable, or plaintext: as without credentials. A scheme that asks for TLS stays a contradiction.
            return Ok(self);
        };
        let auth_mode = match means.for_certificate(is_svid) {
            AuthMode::X509 if is_svid => self.asked(means, clock).await?,
            by_certificate => by_certificate,
        };
        Ok(Self { auth_mode, auth_mode_source: Source::Server, ..self })
    }

    /// Whether the certificate of whoever answers is an SVID; `None` without TLS.
    async fn certificate_of(&self, host: &str, port: u16) -> Option<bool> {
        let address = reachable(host, port, self).await?;
        let named = self.server_name.as_deref().filter(|n| !n.is_empty());
        let server_name = named.unwrap_or(host).to_owned();
        let endpoint = probe::Endpoint { address, server_name, sni: true, timeout: self.connect_timeout };
        match probe::look(&endpoint).await {
            Met::Tls(sighting) => {
                let leaf = sighting.chain.first().and_then(|der| probe::inspect(der));
                Some(leaf.is_some_and(|leaf| leaf.spiffe_id.is_some()))
            }
            _ => None,
        }
    }

    /// Asks a server with an SVID what it takes. One in mode jwt asks for no certificate, and for a token before it
    /// answers anything.
    async fn asked(&self, means: Means, clock: &Arc<dyn Clock>) -> Result<AuthMode, ClientError> {
        let config = Self { auth_mode: AuthMode::X509, ..self.clone() };
        let client = Client::new(config, clock.clone()).await?;
        let (what, audiences) = match client.server_info().await {
            Ok(info) => {
                if let Some(mode) = means.first_of(info.auth_modes()) {
                    return Ok(mode);
                }
                if !info.auth_modes().any(|mode| mode == Offered::JwtSvid) {
                    return Ok(AuthMode::X509);
                }
                (format!("connect to {}", client.target()), info.jwt_audiences.join(" or "))
            }
            Err(error) if !wants_token(&error) => return Ok(AuthMode::X509),
            Err(_) if means.audience => return Ok(AuthMode::Jwt),
            Err(error) => (error.what().to_owned(), String::new()),
        };
        // Never taken from the server: a token for whom it likes would be one to use elsewhere.
        let told = if audiences.is_empty() { audiences } else { format!(" (it says {audiences})") };
        let next = format!(
            "name the audience that the server expects{told} with --jwt-audience or DIRECTORY_CLIENT_JWT_AUDIENCE"
        );
        let cause = "the server takes JWT-SVIDs, and no audience is named";
        Err(ClientError::new(Kind::Config, what, cause, next))
    }
}

/// Whether a server says that it takes tokens, and saw none.
pub(crate) fn wants_token(error: &ClientError) -> bool {
    error.kind() == Kind::Unauthenticated && error.cause().starts_with("failed to extract token")
}

/// An address of the host that takes connections.
async fn reachable(host: &str, port: u16, config: &ClientConfig) -> Option<SocketAddr> {
    let look = async {
        for address in tokio::net::lookup_host((host, port)).await.ok()? {
            if TcpStream::connect(address).await.is_ok() {
                return Some(address);
            }
        }
        None
    };
    tokio::time::timeout(config.connect_timeout, look).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Means = Means { workload_api: false, audience: false, files: None };

    #[test]
    fn the_first_mode_that_can_be_satisfied() {
        let api = Means { workload_api: true, ..NOTHING };
        let both = Means { audience: true, ..api };
        for (means, offered, mode) in [
            (api, &[Offered::X509Svid, Offered::JwtSvid][..], Some(AuthMode::X509)),
            (both, &[Offered::JwtSvid, Offered::X509Svid], Some(AuthMode::Jwt)),
            (api, &[Offered::JwtSvid, Offered::X509Svid], Some(AuthMode::X509)),
            (api, &[Offered::JwtSvid], None),
            (both, &[Offered::Oidc, Offered::Token, Offered::Unspecified], None),
            (both, &[], None),
        ] {
            assert_eq!(means.first_of(offered.iter().copied()), mode, "{means:?} {offered:?}");
        }
        assert!(!NOTHING.any() && !Means { audience: true, ..NOTHING }.any(), "an audience proves nobody");
    }

    #[test]
    fn a_certificate_says_what_cannot_be() {
        let api = Means { workload_api: true, ..NOTHING };
        let files = Means { files: Some(AuthMode::Tls), ..NOTHING };
        for (means, is_svid, mode) in [
            (api, true, AuthMode::X509),
            (Means { files: Some(AuthMode::Tls), ..api }, true, AuthMode::X509),
            (Means { files: Some(AuthMode::Tls), ..api }, false, AuthMode::Tls),
            (files, true, AuthMode::Tls),
            (Means { files: Some(AuthMode::Token), ..NOTHING }, true, AuthMode::Token),
            (Means { audience: true, ..api }, false, AuthMode::JwtTls),
            (api, false, AuthMode::X509),
        ] {
            assert_eq!(means.for_certificate(is_svid), mode, "{means:?} {is_svid}");
        }
    }
}
