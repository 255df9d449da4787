//! mTLS with an SVID: waiting for it, and what its failures mean.

use crate::config::{AuthMode, ClientConfig, ExpectedServer};
use crate::dial::{BoxIo, RawIo};
use crate::error::{ClientError, Kind};
use dir_core::identity::{IdentityReport, IdentityStatus};
use dir_core::{Clock, Timestamp, TokenVerifier};
use dir_identity::{
    ConnectError, Connector, Identity, IdentityError, JwtConfig, JwtVerifier, Leaf, Refusal, RefuseReason,
    Role, ServerCheck, StartupWait, WorkloadConfig,
};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;

/// First and longest pause between two attempts to get an SVID; shorter than a server's, since somebody waits.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An identity, kept up to date in the background, and the connector that uses it.
pub(crate) struct Spiffe {
    identity: Identity,
    connector: Connector,
    check: ServerCheck,
    mode: AuthMode,
    expected: ExpectedServer,
}

impl Spiffe {
    /// Waits for the first SVID, within the bound.
    pub(crate) async fn obtain(config: &ClientConfig, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let socket = socket(config)?;
        let workload = WorkloadConfig {
            socket: socket.to_owned(),
            startup_wait: StartupWait {
                initial: FIRST_PAUSE,
                max: LONGEST_PAUSE,
                total: config.identity_timeout,
            },
            role: Role::Client,
            ..WorkloadConfig::default()
        };
        let obtained = Identity::obtain(workload, clock, &prometheus::Registry::new()).await;
        let identity = obtained.map_err(|e| not_obtained(socket, config.identity_timeout, &e))?;
        let check = match &config.expected_server {
            ExpectedServer::OwnTrustDomain => ServerCheck::TrustDomains(Vec::new()),
            ExpectedServer::TrustDomain(domain) => ServerCheck::TrustDomains(vec![domain.clone()]),
            ExpectedServer::Id(id) => ServerCheck::Exact(id.clone()),
            ExpectedServer::Pattern(pattern) => ServerCheck::Matching(pattern.clone()),
        };
        let connector = if config.auth_mode == AuthMode::X509 {
            Connector::new(identity.clone(), check.clone())
        } else {
            // A token proves us.
            Connector::without_certificate(identity.clone(), check.clone())
        };
        let (mode, expected) = (config.auth_mode, config.expected_server.clone());
        Ok(Self { identity, connector, check, mode, expected })
    }

    /// What this process knows of its own identity.
    pub(crate) fn report(&self) -> Option<IdentityReport> {
        self.identity.report()
    }

    /// Judges a chain as a handshake would.
    pub(crate) fn judge_server(&self, chain: &[CertificateDer<'_>]) -> Result<Leaf, Refusal> {
        self.identity.judge_server(chain, &self.check)
    }

    /// Whether a token holds by the JWT bundles that the Workload API hands out here, for this audience.
    pub(crate) async fn judge_token(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let config = JwtConfig { audiences: vec![audience.to_owned()], ..JwtConfig::default() };
        let verifier = JwtVerifier::obtain(&self.identity, config, &prometheus::Registry::new()).await;
        let verifier = verifier.map_err(|e| e.to_string())?;
        verifier
            .verify(token, now)
            .map(drop)
            .map_err(|refusal| format!("{}: {}", refusal.reason, refusal.detail))
    }

    /// Number of the present snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.identity.snapshot().generation()
    }

    /// A handshake with the credentials of this moment.
    pub(crate) async fn secure(
        &self,
        io: RawIo,
        server_name: &str,
        what: &str,
    ) -> Result<BoxIo, ClientError> {
        let RawIo::Tcp(stream) = io else {
            let next = "name the server's TCP address, or use --auth-mode insecure on its unix socket";
            let cause = format!("auth mode {} goes over TCP", self.mode);
            return Err(ClientError::new(Kind::Config, what, cause, next));
        };
        match self.connector.connect(stream, server_name).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(self.explain(what, &error)),
        }
    }

    fn explain(&self, what: &str, error: &ConnectError) -> ClientError {
        let text = error.to_string();
        let failed = |kind, next: &str| ClientError::new(kind, what, text.clone(), next);
        match error {
            ConnectError::OwnSvidInvalid | ConnectError::Identity(_) => failed(Kind::NoSvid, ""),
            ConnectError::ServerName(_) => failed(Kind::Config, "name a DNS name with --tls-server-name"),
            ConnectError::NotSpiffe { .. } => failed(Kind::NoUriSan, ""),
            ConnectError::Alpn { .. } => failed(
                Kind::Protocol,
                "a proxy probably answers instead of the server: check its SSL passthrough and that it routes this \
                 name",
            ),
            ConnectError::Rejected(_) => failed(Kind::TlsRefused, ""),
            ConnectError::Refused(refusal) => {
                let (kind, next) = self.refused(refusal);
                failed(kind, next)
            }
            ConnectError::Io(error) => crate::security::handshake_failed(what, error),
        }
    }

    fn refused(&self, refusal: &Refusal) -> (Kind, &'static str) {
        match refusal.reason {
            RefuseReason::UnknownTrustDomain => (
                Kind::WrongTrustDomain,
                "the Workload API hands out no bundle for it: federate with that trust domain, or check the address",
            ),
            RefuseReason::UnexpectedId
                if matches!(self.expected, ExpectedServer::Id(_) | ExpectedServer::Pattern(_)) =>
            {
                (Kind::WrongIdentity, "")
            }
            RefuseReason::UnexpectedId => (Kind::WrongTrustDomain, ""),
            RefuseReason::NoUriSan | RefuseReason::MultipleUriSan => (Kind::NoUriSan, ""),
            RefuseReason::Expired | RefuseReason::NotYetValid => (
                Kind::TlsUntrusted,
                "compare the clocks of client and server, and check that the server's SVID is being renewed",
            ),
            _ => (Kind::TlsUntrusted, ""),
        }
    }
}

/// The Workload API of a mode that needs it.
pub(crate) fn socket(config: &ClientConfig) -> Result<&str, ClientError> {
    config.spiffe_socket.as_deref().filter(|s| !s.is_empty()).ok_or_else(|| {
        let next = "name it with --spiffe-socket-path, DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH or \
                    SPIFFE_ENDPOINT_SOCKET";
        let what = format!("auth mode {}", config.auth_mode);
        ClientError::new(Kind::Config, what, "no Workload API socket is named", next)
    })
}

fn not_obtained(socket: &str, bound: Duration, error: &IdentityError) -> ClientError {
    let what = format!("get an SVID from {socket}");
    match error {
        IdentityError::Endpoint(e) => ClientError::new(Kind::Config, what, e.to_string(), ""),
        IdentityError::NoSvid { reason, .. } => {
            let cause = format!("none within {}: {reason}", crate::seconds(bound));
            ClientError::new(Kind::NoSvid, what, cause, "")
        }
        IdentityError::NoJwtBundles { .. } | IdentityError::Tls(_) => {
            ClientError::new(Kind::Internal, what, error.to_string(), "")
        }
    }
}
