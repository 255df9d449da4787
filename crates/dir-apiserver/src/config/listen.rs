//! Addresses to listen on: `HOST:PORT`, `[IPv6]:PORT`, or `:PORT` for every interface.

use super::leaf::{Leaf, Raw, scalar};
use serde_json::Value;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    host: String,
    port: u16,
}

impl Listen {
    /// The port; 0 lets the system choose.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it. A name counts when all its addresses do.
    pub fn is_loopback(&self) -> bool {
        if self.host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let addresses = self.candidates();
        !addresses.is_empty() && addresses.iter().all(|a| a.ip().is_loopback())
    }

    /// What to bind, best first; empty when the name does not resolve.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        if self.host.is_empty() {
            return [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
                .map(|ip| SocketAddr::new(ip, self.port))
                .to_vec();
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut found: Vec<_> = found.map(Iterator::collect).unwrap_or_default();
        // `localhost` means 127.0.0.1 to most of what dials it.
        found.sort_by_key(SocketAddr::is_ipv6);
        found
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Leaf for Listen {
    fn kind() -> String {
        "address".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = scalar(raw, "an address")?;
        let wrong = || format!("{text:?} is not HOST:PORT, [IPv6]:PORT or :PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if bracketed.is_none() && host.contains([':', '[', ']', '/', ' ']) {
            return Err(wrong());
        }
        Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<Listen, String> {
        Listen::parse(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn forms() {
        assert!(listen("127.0.0.1:8888").unwrap().is_loopback());
        assert!(listen("[::1]:0").unwrap().is_loopback());
        assert!(listen("localhost:8888").unwrap().is_loopback());
        assert!(!listen("0.0.0.0:8888").unwrap().is_loopback());
        assert!(!listen(":9090").unwrap().is_loopback());
        assert_eq!(listen(":9090").unwrap().candidates().len(), 2);
        assert_eq!(listen("[::1]:7").unwrap().to_string(), "[::1]:7");
        for text in ["", "8888", "a:b", "::1:80", "h:70000", "http://h:1", "a b:1"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }
}
