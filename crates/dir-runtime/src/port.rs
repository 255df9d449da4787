//! Ports for programs that have to be told one before they are started.

use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux serves whoever asks for any port (32768 to 60999): a connection or a listener on port
/// 0 of somebody else does not take the port between the choice and its use.
const PORTS: Range<u16> = 12_000..32_000;

/// A TCP port of 127.0.0.1 on which nobody listens. A process is never given the same one twice, unless it asks twenty
/// thousand times.
pub fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Processes begin at different places. Consecutive process IDs are far apart.
    let first = std::process::id().wrapping_mul(7_919) % u32::from(span);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..span {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((first + step) % u32::from(span)).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_and_nobody_gets_it_twice() {
        let ports: Vec<_> = (0..20).map(|_| free_port().unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        let _taken: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert!(!ports.contains(&free_port().unwrap()));
    }
}
