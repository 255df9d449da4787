//! Looking at an endpoint from outside, step by step, to name what is wrong with it: who answers, who ends TLS, with
//! which certificate. Nothing here is trusted, and nothing of a caller is ever sent.

mod look;
mod plain;
mod verdict;

pub use dir_identity::{RefuseReason, Seen, inspect};
pub use verdict::{Cause, Facts, Trust, Verdict, verdict};

use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::time::Duration;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The address that is dialled.
    pub address: SocketAddr,
    /// The name that is asked for.
    pub server_name: String,
    /// Whether the name is sent (SNI).
    pub sni: bool,
    /// Bound on each step.
    pub timeout: Duration,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// Nobody listens.
    Refused,
    /// There is no way there.
    Unreachable(String),
    /// No answer in time.
    Timeout,
    /// A TLS server.
    Tls(Sighting),
    /// A TLS server that broke the handshake off with this alert, and never showed a certificate.
    Alert(String),
    /// A server that closed the connection without a word.
    Closed,
    /// A gRPC server in plaintext.
    PlainHttp2,
    /// A web server or HTTP proxy in plaintext, with the status of its answer.
    PlainHttp1(Option<u16>),
    /// Something else in plaintext.
    NotTls,
}

/// A TLS server as it was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// What was agreed on with ALPN.
    pub alpn: Option<String>,
    /// The server refused ALPN `h2`; what is seen here was seen without ALPN.
    pub refused_h2: bool,
    /// The certificates it sent, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The status of its answer to `GET /` for this host, where the certificate is no SVID and it speaks HTTP/1.
    pub http_status: Option<u16>,
}

/// Whether a web server answers in plaintext at an address of this host.
pub(crate) async fn speaks_http1(host: &str, port: u16, timeout: Duration) -> bool {
    let asked = async {
        let address = tokio::net::lookup_host((host, port)).await.ok()?.next()?;
        let endpoint = Endpoint { address, server_name: host.to_owned(), sni: false, timeout };
        let mut stream = tokio::net::TcpStream::connect((host, port)).await.ok()?;
        plain::http_status(&mut stream, &endpoint).await
    };
    tokio::time::timeout(timeout, asked).await.ok().flatten().is_some()
}

/// Looks at an endpoint.
pub async fn look(endpoint: &Endpoint) -> Met {
    look::look(endpoint).await
}
