//! Where a server is: one pure function from what users write to what is dialled.
//!
//! | form | transport | port without one |
//! |---|---|---|
//! | `host:port`, `host`, `[::1]:port` | decided by the auth mode | 8888 |
//! | `grpc://…`, `http://…` | plaintext | 80 |
//! | `grpcs://…`, `https://…` | TLS | 443 |
//! | `unix:///path`, `unix:/path` | decided by the auth mode | – |
//!
//! An unspecified host (`0.0.0.0`, `[::]`) is an address to listen on; dialling it means this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The address used when nobody names one.
pub const DEFAULT_SERVER_ADDRESS: &str = "0.0.0.0:8888";
/// The port of a bare host name.
pub const DEFAULT_PORT: u16 = 8888;
/// The port of `grpc` and `http`.
pub const PLAIN_PORT: u16 = 80;
/// The port of `grpcs` and `https`.
pub const TLS_PORT: u16 = 443;

/// What a scheme says about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// No scheme: the auth mode decides.
    Unsaid,
    /// `grpc` or `http`.
    Plain,
    /// `grpcs` or `https`.
    Tls,
}

/// What is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or IP address (IPv6 without brackets) and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// A parsed server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What the scheme asks for.
    pub scheme: Scheme,
    /// What is dialled.
    pub endpoint: Endpoint,
}

/// Why a text is not a server address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error("the server address is empty")]
    Empty,
    /// A scheme that is none of ours.
    #[error("unknown scheme {0:?}: use grpc, grpcs, http, https or unix")]
    Scheme(String),
    /// No host before the port.
    #[error("the host is missing")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port (1 to 65535)")]
    Port(String),
    /// A path, query, fragment or user in the URL.
    #[error("a server address has no {0}")]
    Extra(&'static str),
    /// An IPv6 address without brackets, or brackets around something else.
    #[error("an IPv6 address is written in brackets: [::1]:8888")]
    Brackets,
    /// A unix socket path that is relative or empty.
    #[error("a unix socket is named by an absolute path: unix:///run/directory.sock")]
    UnixPath,
    /// White space or a control character.
    #[error("a server address has no white space")]
    Space,
}

impl Address {
    /// Reads an address in any of the accepted forms.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Space);
        }
        if let Some(rest) = strip_prefix_ignore_case(text, "unix:") {
            return parse_unix(rest);
        }
        let (scheme, rest, default_port) = match text.split_once("://") {
            None => (Scheme::Unsaid, text, DEFAULT_PORT),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "grpc" | "http" => (Scheme::Plain, rest, PLAIN_PORT),
                "grpcs" | "https" => (Scheme::Tls, rest, TLS_PORT),
                _ => return Err(AddressError::Scheme(scheme.to_owned())),
            },
        };
        let rest = if scheme == Scheme::Unsaid { rest } else { rest.strip_suffix('/').unwrap_or(rest) };
        for (sign, what) in [('@', "user"), ('?', "query"), ('#', "fragment"), ('/', "path")] {
            if rest.contains(sign) {
                return Err(AddressError::Extra(what));
            }
        }
        let (host, port) = split_host_port(rest)?;
        let port = match port {
            None => default_port,
            Some(port) => parse_port(port)?,
        };
        Ok(Self { scheme, endpoint: Endpoint::Tcp { host: reachable(host), port } })
    }

    /// The host, if there is one.
    pub fn host(&self) -> Option<&str> {
        match &self.endpoint {
            Endpoint::Tcp { host, .. } => Some(host),
            Endpoint::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn parse_unix(rest: &str) -> Result<Address, AddressError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !path.starts_with('/') || path.len() == 1 {
        return Err(AddressError::UnixPath);
    }
    Ok(Address { scheme: Scheme::Unsaid, endpoint: Endpoint::Unix(PathBuf::from(path)) })
}

/// Host without brackets, and the text after the last colon.
fn split_host_port(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(AddressError::Brackets)?;
        host.parse::<Ipv6Addr>().map_err(|_not_v6| AddressError::Brackets)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(AddressError::Brackets),
        };
    }
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((_, port)) if port.contains(':') => return Err(AddressError::Brackets),
        Some((host, port)) => (host, Some(port)),
    };
    if host.is_empty() {
        return Err(AddressError::Host);
    }
    if host.contains(['[', ']']) {
        return Err(AddressError::Brackets);
    }
    Ok((host, port))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(AddressError::Port(text.to_owned())),
    }
}

fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(scheme: Scheme, host: &str, port: u16) -> Address {
        Address { scheme, endpoint: Endpoint::Tcp { host: host.into(), port } }
    }

    fn unix(path: &str) -> Address {
        Address { scheme: Scheme::Unsaid, endpoint: Endpoint::Unix(path.into()) }
    }

    #[test]
    fn every_accepted_form() {
        use Scheme::{Plain, Tls, Unsaid};
        for (text, expected) in [
            ("localhost:8888", tcp(Unsaid, "localhost", 8888)),
            ("api.example.org", tcp(Unsaid, "api.example.org", 8888)),
            ("127.0.0.1:1", tcp(Unsaid, "127.0.0.1", 1)),
            ("10.0.0.1:65535", tcp(Unsaid, "10.0.0.1", 65535)),
            ("0.0.0.0:8888", tcp(Unsaid, "127.0.0.1", 8888)),
            ("[::]:8888", tcp(Unsaid, "::1", 8888)),
            ("[::1]:8888", tcp(Unsaid, "::1", 8888)),
            ("[2001:db8::1]", tcp(Unsaid, "2001:db8::1", 8888)),
            ("  localhost:8888\n", tcp(Unsaid, "localhost", 8888)),
            ("grpc://h", tcp(Plain, "h", 80)),
            ("grpc://h:8888", tcp(Plain, "h", 8888)),
            ("grpcs://api.example.org", tcp(Tls, "api.example.org", 443)),
            ("grpcs://api.example.org:8443", tcp(Tls, "api.example.org", 8443)),
            ("GRPCS://h/", tcp(Tls, "h", 443)),
            ("http://h", tcp(Plain, "h", 80)),
            ("https://h", tcp(Tls, "h", 443)),
            ("https://[::1]", tcp(Tls, "::1", 443)),
            ("https://[::1]:9", tcp(Tls, "::1", 9)),
            ("unix:///run/dir.sock", unix("/run/dir.sock")),
            ("unix:/run/dir.sock", unix("/run/dir.sock")),
            ("UNIX:///run/dir.sock", unix("/run/dir.sock")),
        ] {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_refused_form() {
        for (text, expected) in [
            ("", AddressError::Empty),
            ("   ", AddressError::Empty),
            ("a b:1", AddressError::Space),
            ("tcp://h:1", AddressError::Scheme("tcp".into())),
            ("dns://h", AddressError::Scheme("dns".into())),
            (":8888", AddressError::Host),
            ("grpc://", AddressError::Host),
            ("grpc://:1", AddressError::Host),
            ("h:", AddressError::Port(String::new())),
            ("h:0", AddressError::Port("0".into())),
            ("h:65536", AddressError::Port("65536".into())),
            ("h:+1", AddressError::Port("+1".into())),
            ("h:http", AddressError::Port("http".into())),
            ("::1", AddressError::Brackets),
            ("::1:8888", AddressError::Brackets),
            ("[::1", AddressError::Brackets),
            ("[::1]8888", AddressError::Brackets),
            ("[localhost]:1", AddressError::Brackets),
            ("https://h/api", AddressError::Extra("path")),
            ("h:1/", AddressError::Extra("path")),
            ("https://h?x", AddressError::Extra("query")),
            ("https://h#x", AddressError::Extra("fragment")),
            ("https://u@h", AddressError::Extra("user")),
            ("unix:run/dir.sock", AddressError::UnixPath),
            ("unix://run/dir.sock", AddressError::UnixPath),
            ("unix:///", AddressError::UnixPath),
        ] {
            assert_eq!(Address::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for text in ["localhost:8888", "[::1]:9", "unix:///run/dir.sock"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }
}
