//! What can go wrong on the way to an identity.

use dir_core::{Class, Classified};
use std::fmt;

/// A Workload API address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid Workload API socket \"{socket}\": {reason}; use unix:///absolute/path, /absolute/path or tcp://IP:port"
)]
pub struct EndpointError {
    socket: String,
    reason: String,
}

impl EndpointError {
    pub(crate) fn new(socket: &str, reason: impl Into<String>) -> Self {
        Self { socket: socket.to_owned(), reason: reason.into() }
    }
}

/// Why there is no valid SVID at this moment. The text is what operators read every ten seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// Nothing was tried yet.
    Starting,
    /// The socket file is not there.
    SocketAbsent,
    /// The file is there, nobody listens.
    SocketRefused,
    /// The socket may not be opened by this user.
    SocketPermission,
    /// The agent knows no entry for this workload.
    NoIdentityIssued,
    /// The agent could not find out who we are.
    AttestationFailed,
    /// The call was taken and nothing was sent.
    Silent,
    /// The SVID is not valid yet, by so many seconds.
    NotYetValid(i64),
    /// The SVID expired so many seconds ago.
    Expired(i64),
    /// The SVID has no URI SAN.
    NoUriSan,
    /// The SVID or its bundle is unusable in another way.
    Unusable(String),
    /// The agent does not speak this API, or not to us.
    NotServed(String),
    /// Anything else of the connection.
    Connection(String),
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("no answer yet"),
            Self::SocketAbsent => {
                f.write_str("socket absent: the SPIFFE agent or its CSI driver has not created it yet")
            }
            Self::SocketRefused => {
                f.write_str("nobody listens on the socket: the SPIFFE agent is not running")
            }
            Self::SocketPermission => write!(
                f,
                "permission denied on the socket for uid {}: check the modes of the socket and of every folder above",
                nix::unistd::getuid()
            ),
            Self::NoIdentityIssued => write!(
                f,
                "no identity issued: no registration entry matches this workload's selectors (unix:uid:{}, \
                 unix:gid:{}, pid {}); in Kubernetes compare the ClusterSPIFFEID's selectors and className",
                nix::unistd::getuid(),
                nix::unistd::getgid(),
                std::process::id()
            ),
            Self::AttestationFailed => {
                f.write_str("workload attestation failed: the agent could not inspect this process")
            }
            Self::Silent => f.write_str("the agent took the call and sent nothing"),
            Self::NotYetValid(s) => {
                write!(f, "SVID not yet valid, it will be in {s} seconds: compare the clocks")
            }
            Self::Expired(s) => write!(
                f,
                "SVID expired by {s} seconds: compare the clocks, or the agent is cut off from its server"
            ),
            Self::NoUriSan => f.write_str("SVID without URI SAN: certificate contains no URI SAN"),
            Self::Unusable(why) => write!(f, "SVID unusable: {why}"),
            Self::NotServed(why) => write!(f, "the socket does not serve the Workload API to us: {why}"),
            Self::Connection(why) => write!(f, "Workload API: {why}"),
        }
    }
}

/// Why no identity could be obtained.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The configured socket is not an address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No valid SVID within the limit. Processes end with exit code 6.
    #[error(
        "failed to get valid X509-SVID for server (SPIRE entry may not be synced yet): failed to get valid \
         X509-SVID after {attempts} retries: {reason}"
    )]
    NoSvid {
        /// What was wrong last.
        reason: WaitReason,
        /// How many attempts there were.
        attempts: u64,
    },
    /// No JWT bundles within the limit. Processes end with exit code 6.
    #[error("failed to get JWT bundles: {reason}")]
    NoJwtBundles {
        /// What was wrong last.
        reason: WaitReason,
    },
    /// The TLS configuration cannot be built; a fault of ours.
    #[error("TLS configuration: {0}")]
    Tls(String),
}

impl Classified for IdentityError {
    fn class(&self) -> Class {
        match self {
            Self::Endpoint(_) => Class::Invalid,
            Self::NoSvid { .. } | Self::NoJwtBundles { .. } => Class::Unavailable,
            Self::Tls(_) => Class::Internal,
        }
    }
}
