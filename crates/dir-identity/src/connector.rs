//! Dialling a server whose identity must be proved.

use crate::error::IdentityError;
use crate::identity::Identity;
use crate::refuse::{Presented, Refusal, RefuseReason};
use crate::snapshot::ALPN_H2;
use crate::verify::with_verdict;
use arc_swap::ArcSwapOption;
use dir_core::policy::IdPattern;
use dir_core::{Class, Classified, SpiffeId, TrustDomain};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Which servers are good enough, once their chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCheck {
    /// Any workload of these trust domains; an empty list means our own.
    TrustDomains(Vec<TrustDomain>),
    /// This workload and no other.
    Exact(SpiffeId),
    /// Workloads whose whole ID this pattern means.
    Matching(IdPattern),
    /// Any workload of any trust domain whose bundle is held.
    AnyKnown,
}

impl Default for ServerCheck {
    fn default() -> Self {
        Self::TrustDomains(Vec::new())
    }
}

impl ServerCheck {
    pub(crate) fn allows(&self, id: &SpiffeId, own: &TrustDomain) -> Result<(), Refusal> {
        let (allowed, expected) = match self {
            Self::AnyKnown => (true, String::new()),
            Self::Exact(want) => (want == id, want.to_string()),
            Self::Matching(pattern) => (pattern.matches(id), pattern.to_string()),
            Self::TrustDomains(list) if list.is_empty() => {
                (id.trust_domain() == own, format!("spiffe://{own}/…"))
            }
            Self::TrustDomains(list) => {
                let names: Vec<_> = list.iter().map(|d| format!("spiffe://{d}/…")).collect();
                (list.contains(id.trust_domain()), names.join(" or "))
            }
        };
        if allowed {
            return Ok(());
        }
        let text = format!("the server is {id}, expected {expected}");
        Err(Refusal::new(RefuseReason::UnexpectedId, text))
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our own SVID has expired.
    #[error("our own X509-SVID is not valid; is the SPIFFE agent running?")]
    OwnSvidInvalid,
    /// The name is neither a host name nor an address.
    #[error("\"{0}\" is no server name")]
    ServerName(String),
    /// Something else than a SPIFFE workload answered.
    #[error(
        "the server presented a certificate without SPIFFE ID ({presented}); a proxy in front of it seems to \
         terminate TLS: passthrough is needed for {server_name}"
    )]
    NotSpiffe {
        /// What was presented.
        presented: Box<Presented>,
        /// The name that was asked for.
        server_name: String,
    },
    /// The server's certificate does not hold.
    #[error("the server's certificate is refused: {0}")]
    Refused(Refusal),
    /// HTTP/2 was not agreed on.
    #[error(
        "the server at {server_name} does not speak HTTP/2 over TLS (ALPN h2); a proxy in front of it may be answering"
    )]
    Alpn {
        /// The name that was asked for.
        server_name: String,
    },
    /// The server refused us with an alert.
    #[error("the server refused the handshake: {0}")]
    Rejected(String),
    /// The connection broke or TLS failed.
    #[error("TLS handshake failed: {0}")]
    Io(#[source] std::io::Error),
    /// No TLS configuration could be built.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Classified for ConnectError {
    fn class(&self) -> Class {
        match self {
            Self::ServerName(_) => Class::Invalid,
            Self::NotSpiffe { .. } | Self::Refused(_) | Self::Rejected(_) => Class::Unauthenticated,
            Self::OwnSvidInvalid | Self::Alpn { .. } | Self::Io(_) => Class::Unavailable,
            Self::Identity(e) => e.class(),
        }
    }
}

/// Makes TLS connections with the current snapshot. Cheap to clone.
///
/// With TLS 1.3 a server that refuses *us* is noticed at the first read, not here. A handshake that meets a rotation
/// may fail once; the caller tries again.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    identity: Identity,
    check: ServerCheck,
    /// Whether we show our certificate to a server that asks.
    shown: bool,
    /// The configuration made of the snapshot with this number.
    cache: ArcSwapOption<(u64, Arc<ClientConfig>)>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("check", &self.0.check).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector for servers that the check allows.
    pub fn new(identity: Identity, check: ServerCheck) -> Self {
        Self(Arc::new(Inner { identity, check, shown: true, cache: ArcSwapOption::empty() }))
    }

    /// The same without a certificate of ours: for servers to which callers prove themselves by a token.
    pub fn without_certificate(identity: Identity, check: ServerCheck) -> Self {
        Self(Arc::new(Inner { identity, check, shown: false, cache: ArcSwapOption::empty() }))
    }

    /// Shakes hands over a TCP connection. Sends SNI (unless the name is an address) and ALPN `h2`, with TCP_NODELAY.
    pub async fn connect(
        &self,
        io: TcpStream,
        server_name: &str,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_name| ConnectError::ServerName(server_name.to_owned()))?;
        let config = self.config()?;
        io.set_nodelay(true).map_err(ConnectError::Io)?;
        let (result, verdict) = with_verdict(TlsConnector::from(config).connect(name, io)).await;
        let stream = match (result, verdict) {
            (Ok(stream), _) => stream,
            (Err(_), Some(Err(refusal))) => return Err(refused(refusal, server_name)),
            (Err(error), _) => return Err(failed(error, server_name)),
        };
        if stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) {
            Ok(stream)
        } else {
            Err(ConnectError::Alpn { server_name: server_name.to_owned() })
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let snapshot = self.0.identity.snapshot();
        if self.0.shown && !snapshot.is_valid(self.0.identity.shared().clock.now()) {
            return Err(ConnectError::OwnSvidInvalid);
        }
        if let Some(cached) = self.0.cache.load().as_deref()
            && cached.0 == snapshot.generation()
        {
            return Ok(cached.1.clone());
        }
        let check = self.0.check.clone();
        let config = if self.0.shown {
            snapshot.client_config_for(check)?
        } else {
            snapshot.anonymous_client_config(check)?
        };
        self.0.cache.store(Some(Arc::new((snapshot.generation(), config.clone()))));
        Ok(config)
    }
}

fn refused(refusal: Refusal, server_name: &str) -> ConnectError {
    match (&refusal.reason, &refusal.presented) {
        (RefuseReason::NoUriSan, Some(presented)) => {
            ConnectError::NotSpiffe { presented: presented.clone(), server_name: server_name.to_owned() }
        }
        _ => ConnectError::Refused(refusal),
    }
}

fn failed(error: std::io::Error, server_name: &str) -> ConnectError {
    use rustls::{AlertDescription, Error};
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(
            Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol),
        ) => ConnectError::Alpn { server_name: server_name.to_owned() },
        Some(Error::AlertReceived(alert)) => ConnectError::Rejected(format!("{alert:?}")),
        _ => ConnectError::Io(error),
    }
}
