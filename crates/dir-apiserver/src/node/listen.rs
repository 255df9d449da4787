//! Binding ports, with errors that name port, setting and way out.

use crate::config::Listen;
use crate::exit::{Failure, Status};
use std::io;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Binds the first address of `listen` that can be bound.
pub(super) fn bind(key: &str, listen: &Listen) -> Result<TcpListener, Failure> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name does not resolve");
    for address in listen.candidates() {
        match try_bind(address) {
            Ok(listener) => return Ok(listener),
            // Without IPv6 on this machine, "every interface" is every IPv4 interface.
            Err(error) => last = error,
        }
    }
    let way_out = match last.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens on port {}: stop it, or set {key} to a free port", listen.port())
        }
        io::ErrorKind::PermissionDenied => format!("set {key} to a port of 1024 or above"),
        _ => format!("set {key} to an address of this machine"),
    };
    Err(Failure::new(Status::Config, format!("cannot listen on {listen} ({key}): {last}; {way_out}")))
}

fn try_bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
