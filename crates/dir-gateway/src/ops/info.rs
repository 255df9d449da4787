//! What a client has to know of a server before it has an identity to ask with.

use serde::Serialize;

/// The body of `/info`: the same facts as `directory.info.v1.ServerInfoService/GetServerInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Version of the server binary.
    pub version: String,
    /// Versions of the public API that are served.
    pub api_versions: Vec<&'static str>,
    /// gRPC services that are offered.
    pub services: Vec<String>,
    /// Ways to authenticate, preferred first: `none`, `x509_svid`, `jwt_svid`.
    pub auth_modes: Vec<&'static str>,
    /// Audiences of which a JWT-SVID must name one.
    pub jwt_audiences: Vec<String>,
    /// The server's trust domain; absent without identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// What is switched on.
    pub capabilities: Vec<&'static str>,
    /// Limits of connections and calls.
    pub limits: Limits,
    /// The server's clock, RFC 3339.
    pub now: String,
}

/// Limits; 0 is "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Largest message the server accepts, in bytes.
    pub max_receive_bytes: u64,
    /// Largest message the server sends, in bytes.
    pub max_send_bytes: u64,
    /// Streams a connection may have open at once.
    pub max_concurrent_streams: u32,
}

/// Where the answer comes from. Must answer from memory, at once.
pub trait InfoSource: Send + Sync {
    /// The facts; `None` while the services are not up yet.
    fn info(&self) -> Option<Info>;
}
