//! Where the Workload API is and how patient the start is.

use crate::error::EndpointError;
use spiffe::transport::Endpoint;
use std::time::Duration;

/// Back-off and bound of the wait for the first SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupWait {
    /// First pause between two attempts.
    pub initial: Duration,
    /// Longest pause; each pause is twice the one before.
    pub max: Duration,
    /// The whole wait; zero waits for ever.
    pub total: Duration,
}

impl Default for StartupWait {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(10),
            total: Duration::from_secs(60),
        }
    }
}

/// Whose identity it is: that decides how the wait for it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A server: operators read its log, and alert on the lines.
    #[default]
    Server,
    /// A client: its caller gets the reason with the error, and hears of a long wait.
    Client,
}

/// How to obtain an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadConfig {
    /// `unix:///abs`, `unix:/abs`, `/abs`, `tcp://IP:port` or `tcp:IP:port`.
    pub socket: String,
    /// Patience at the start.
    pub startup_wait: StartupWait,
    /// Which SVID to take when there are several: the one with this hint.
    pub svid_hint: Option<String>,
    /// Host names that clients dial; an SVID with one of them among its DNS names is preferred, and their absence
    /// is warned about.
    pub public_hostnames: Vec<String>,
    /// Who waits.
    pub role: Role,
}

/// Reads a socket address in any of the accepted forms.
pub(crate) fn parse_endpoint(socket: &str) -> Result<Endpoint, EndpointError> {
    let text = socket.trim();
    if text.is_empty() {
        return Err(EndpointError::new(socket, "it is empty"));
    }
    let uri = if text.starts_with('/') { format!("unix://{text}") } else { text.to_owned() };
    Endpoint::parse(&uri).map_err(|e| EndpointError::new(socket, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        for form in ["/run/a.sock", "unix:/run/a.sock", "unix:///run/a.sock"] {
            let endpoint = parse_endpoint(form).unwrap();
            assert!(matches!(endpoint, Endpoint::Unix(p) if p.as_os_str() == "/run/a.sock"), "{form}");
        }
        for form in ["tcp://127.0.0.1:80", "tcp:127.0.0.1:80"] {
            let endpoint = parse_endpoint(form).unwrap();
            assert!(matches!(endpoint, Endpoint::Tcp { port: 80, .. }), "{form}");
        }
    }

    #[test]
    fn refused_forms() {
        for form in [
            "",
            "unix://host/path",
            "relative/path",
            "tcp://localhost:80",
            "tcp://1.2.3.4",
            "http://a",
            "unix:",
        ] {
            assert!(parse_endpoint(form).is_err(), "{form}");
        }
    }
}
