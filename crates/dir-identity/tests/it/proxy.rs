//! PROXY headers at the door: who is believed, what is refused, and whose place a connection takes.

use crate::support::*;
use dir_core::bucket::Rate;
use dir_core::{Peer, Principal};
use dir_identity::proxy::{ProxyConfig, ProxyMode};
use dir_identity::{AcceptorConfig, Origin, PlainConfig, RefuseReason, plain_loop};
use futures::StreamExt;
use parking_lot::Mutex;
use prometheus::Registry;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 51234 8888\r\n";

fn proxy(mode: ProxyMode, trusted: &[&str]) -> ProxyConfig {
    let trusted = trusted.iter().map(|t| t.parse().unwrap()).collect();
    ProxyConfig { mode, trusted, ..ProxyConfig::default() }
}

/// Version 2 with additions that must be skipped.
fn version_2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let addresses = [&source[..], &[10, 0, 0, 1], &51234_u16.to_be_bytes(), &8888_u16.to_be_bytes()].concat();
    let rest = [addresses, vec![0xea; 700]].concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11], &length, &rest].concat()
}

fn line(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 10.0.0.1 51234 8888\r\n").into_bytes()
}

struct Front {
    world: World,
    server: Server,
    origins: Arc<Mutex<Vec<(Origin, RefuseReason)>>>,
}

impl Front {
    async fn start(config: ProxyConfig) -> Self {
        Self::with(AcceptorConfig { proxy: config, ..AcceptorConfig::default() }).await
    }

    async fn with(mut config: AcceptorConfig) -> Self {
        let origins = Arc::<Mutex<Vec<_>>>::default();
        let seen = origins.clone();
        config.on_refused =
            Some(Arc::new(move |origin, refusal| seen.lock().push((*origin, refusal.reason))));
        let world = World::start().await;
        let server = world.server(config).await;
        Self { world, server, origins }
    }

    /// A TLS client that sends `before` first.
    async fn dial(&self, before: &[u8]) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut tcp = TcpStream::connect(self.server.addr).await?;
        tcp.write_all(before).await?;
        let material = self.world.client_api.material();
        let svid = &material.svids[0];
        let client = Crooked::with(svid.chain.clone(), svid.key.clone());
        let connector = TlsConnector::from(Arc::new(client.config()));
        let mut io = connector.connect(ServerName::try_from(HOST).unwrap(), tcp).await?;
        ping(&mut io).await?;
        Ok(io)
    }

    async fn real_addr(&self, before: &[u8]) -> Option<SocketAddr> {
        let seen = self.server.peers.lock().len();
        drop(self.dial(before).await.unwrap());
        let peers = self.server.peers.lock();
        assert_eq!(peers.len(), seen + 1);
        assert!(peers[seen].addr.ip().is_loopback());
        peers[seen].real_addr
    }

    async fn refused(&self, before: &[u8], reason: RefuseReason) {
        let count = self.server.refused(reason);
        assert!(self.dial(before).await.is_err(), "{reason}: was let in");
        until(reason.as_str(), || self.server.refused(reason) > count + 0.5).await;
    }
}

fn client() -> SocketAddr {
    "192.0.2.7:51234".parse().unwrap()
}

#[tokio::test]
async fn i4_required_takes_both_versions_and_nothing_else() {
    let front = Front::start(proxy(ProxyMode::Required, &["127.0.0.0/8"])).await;
    assert_eq!(front.real_addr(LINE).await, Some(client()));
    assert_eq!(front.real_addr(&version_2(0x21, [192, 0, 2, 7])).await, Some(client()));
    assert_eq!(front.real_addr(&version_2(0x20, [192, 0, 2, 7])).await, None, "LOCAL is the proxy itself");
    assert_eq!(front.real_addr(b"PROXY UNKNOWN\r\n").await, None);
    for bad in [&b""[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x2f\x11\0\0"] {
        front.refused(bad, RefuseReason::ProxyHeader).await;
    }
    // The log of a refusal behind the header names the client.
    let (origin, _) = front.origins.lock()[0];
    assert_eq!(origin.real_addr, None);
    let mut tcp = TcpStream::connect(front.server.addr).await.unwrap();
    tcp.write_all(&[LINE, b"no TLS at all, whatever follows the header"].concat()).await.unwrap();
    until("the refusal", || front.server.refused(RefuseReason::Protocol) > 0.5).await;
    assert_eq!(front.origins.lock().last().unwrap().0.real_addr, Some(client()));
}

#[tokio::test]
async fn i4_a_header_in_pieces_is_the_same_header() {
    let front = Front::start(proxy(ProxyMode::Required, &["127.0.0.1"])).await;
    for header in [LINE.to_vec(), version_2(0x21, [192, 0, 2, 7])] {
        let mut tcp = TcpStream::connect(front.server.addr).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for byte in header {
            tcp.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        // A ClientHello follows; here it is enough that one is waited for.
        tcp.write_all(b"\x15\x03\x01\x00\x02\x02\x00").await.unwrap();
        let refusals = front.origins.lock().len();
        until("the alert is read as TLS", || front.origins.lock().len() > refusals).await;
        assert_eq!(front.origins.lock()[refusals].0.real_addr, Some(client()));
    }
}

#[tokio::test]
async fn i4_optional_looks_at_trusted_peers_alone() {
    let front = Front::start(proxy(ProxyMode::Optional, &["127.0.0.1/32"])).await;
    assert_eq!(front.real_addr(LINE).await, Some(client()));
    assert_eq!(front.real_addr(b"").await, None);
    front.refused(b"PROXY TCP4 nonsense\r\n", RefuseReason::ProxyHeader).await;

    let front = Front::start(proxy(ProxyMode::Optional, &["10.0.0.0/8", "::1"])).await;
    assert_eq!(front.real_addr(b"").await, None);
    front.refused(LINE, RefuseReason::Protocol).await;
    front.refused(&version_2(0x21, [192, 0, 2, 7]), RefuseReason::Protocol).await;
    assert!(front.origins.lock().iter().all(|(origin, _)| origin.real_addr.is_none()), "never interpreted");
}

#[tokio::test]
async fn i4_required_closes_whoever_is_not_trusted() {
    let front = Front::start(proxy(ProxyMode::Required, &["10.0.0.0/8"])).await;
    front.refused(LINE, RefuseReason::ProxyHeader).await;
    front.refused(b"", RefuseReason::ProxyHeader).await;
    assert_eq!(front.origins.lock()[0].0.real_addr, None);
}

#[tokio::test]
async fn i4_off_reads_no_header() {
    let front = Front::start(proxy(ProxyMode::Off, &["127.0.0.1"])).await;
    assert_eq!(front.real_addr(b"").await, None);
    front.refused(LINE, RefuseReason::Protocol).await;
}

#[tokio::test]
async fn i4_a_header_that_does_not_come_is_waited_for_once() {
    let timeout = Duration::from_millis(100);
    for mode in [ProxyMode::Optional, ProxyMode::Required] {
        let front = Front::start(ProxyConfig { timeout, ..proxy(mode, &["127.0.0.1"]) }).await;
        let mut silent = TcpStream::connect(front.server.addr).await.unwrap();
        let mut slow = TcpStream::connect(front.server.addr).await.unwrap();
        slow.write_all(b"PROXY TCP4 192.0").await.unwrap();
        for io in [&mut silent, &mut slow] {
            let read = soon("closed", io.read(&mut [0])).await;
            assert!(matches!(read, Ok(0) | Err(_)));
        }
        until("both", || front.server.refused(RefuseReason::Timeout) > 1.5).await;
    }
}

#[tokio::test]
async fn g_a_trusted_proxy_is_not_capped_as_one_address() {
    for mode in [ProxyMode::Off, ProxyMode::Optional] {
        let config =
            AcceptorConfig { max_per_ip: 2, proxy: proxy(mode, &["127.0.0.1"]), ..AcceptorConfig::default() };
        let front = Front::with(config).await;
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(front.dial(b"").await.unwrap());
        }
        assert!(front.server.refused(RefuseReason::LimitPerIp) < 0.5);
    }
    // Without trust it is one.
    let front = Front::with(AcceptorConfig { max_per_ip: 2, ..AcceptorConfig::default() }).await;
    let _open = (front.dial(b"").await.unwrap(), front.dial(b"").await.unwrap());
    front.refused(b"", RefuseReason::LimitPerIp).await;
}

#[tokio::test]
async fn g_the_cap_per_address_counts_the_real_one() {
    let config = AcceptorConfig {
        max_per_ip: 2,
        proxy: proxy(ProxyMode::Required, &["127.0.0.1"]),
        ..AcceptorConfig::default()
    };
    let front = Front::with(config).await;
    let noisy =
        (front.dial(LINE).await.unwrap(), front.dial(&version_2(0x21, [192, 0, 2, 7])).await.unwrap());
    front.refused(LINE, RefuseReason::LimitPerIp).await;
    let other = front.dial(&line("192.0.2.8")).await.unwrap();
    front.refused(LINE, RefuseReason::LimitPerIp).await;
    assert_eq!(front.origins.lock().last().unwrap().0.real_addr, Some(client()));
    drop((noisy, other));
    until("the places come back", || sample(&front.server.registry, "connections", "state", "open") < 0.5)
        .await;
    let _again = (front.dial(LINE).await.unwrap(), front.dial(LINE).await.unwrap());
}

#[tokio::test]
async fn g_new_connections_a_second_from_one_address() {
    let per_ip_rate = Some(Rate { rps: 0.001, burst: 2 });
    // Without trust in a proxy it is the address of the connection.
    let front = Front::with(AcceptorConfig { per_ip_rate, ..AcceptorConfig::default() }).await;
    drop((front.dial(b"").await.unwrap(), front.dial(b"").await.unwrap()));
    front.refused(b"", RefuseReason::RatePerIp).await;
    // Behind a trusted proxy it is that of the client, and nobody's where the proxy does not tell it.
    let trusted = |mode| proxy(mode, &["127.0.0.1"]);
    let config =
        AcceptorConfig { per_ip_rate, proxy: trusted(ProxyMode::Optional), ..AcceptorConfig::default() };
    let front = Front::with(config).await;
    drop((front.dial(LINE).await.unwrap(), front.dial(LINE).await.unwrap()));
    front.refused(LINE, RefuseReason::RatePerIp).await;
    for _ in 0..5 {
        drop(front.dial(b"").await.unwrap());
    }
    drop(front.dial(&line("192.0.2.8")).await.unwrap());
    assert!((front.server.refused(RefuseReason::RatePerIp) - 1.0).abs() < 0.5);
}

/// A plaintext listener whose peers are remembered with their connections.
struct Plain {
    addr: SocketAddr,
    registry: Registry,
    peers: Arc<Mutex<Vec<Arc<Peer>>>>,
}

impl Plain {
    async fn start(config: PlainConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, registry) = (listener.local_addr().unwrap(), Registry::new());
        let mut accepted = plain_loop(listener, config, clock(), &registry, CancellationToken::new());
        let peers = Arc::<Mutex<Vec<_>>>::default();
        let seen = peers.clone();
        tokio::spawn(async move {
            while let Some(mut connection) = accepted.next().await {
                seen.lock().push(connection.peer.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = connection.io.read(&mut buffer).await {
                        connection.io.write_all(&buffer[..read]).await.unwrap();
                    }
                    drop(connection.revoked);
                });
            }
        });
        Self { addr, registry, peers }
    }

    async fn dial(&self, before: &[u8]) -> std::io::Result<TcpStream> {
        let mut io = TcpStream::connect(self.addr).await?;
        io.write_all(&[before, b"PRI * HTTP/2.0"].concat()).await?;
        let mut answer = [0; 14];
        soon("an answer", io.read_exact(&mut answer)).await?;
        assert_eq!(&answer, b"PRI * HTTP/2.0");
        Ok(io)
    }

    fn refused(&self, reason: RefuseReason) -> f64 {
        sample(&self.registry, "handshake_failures_total", "reason", reason.as_str())
    }
}

#[tokio::test]
async fn g_plaintext_has_the_same_caps() {
    let config = PlainConfig { max_total: 2, ..PlainConfig::default() };
    let plain = Plain::start(config).await;
    let first = plain.dial(b"").await.unwrap();
    let _second = plain.dial(b"").await.unwrap();
    assert_eq!(plain.peers.lock()[0].principal, Principal::Anonymous);
    assert!(plain.dial(b"").await.is_err());
    assert!((plain.refused(RefuseReason::LimitTotal) - 1.0).abs() < 0.5);
    drop(first);
    until("the place comes back", || sample(&plain.registry, "connections", "state", "open") < 1.5).await;
    let _third = plain.dial(b"").await.unwrap();

    let plain = Plain::start(PlainConfig { max_per_ip: 1, ..PlainConfig::default() }).await;
    let _first = plain.dial(b"").await.unwrap();
    assert!(plain.dial(b"").await.is_err());
    assert!((plain.refused(RefuseReason::LimitPerIp) - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn i4_plaintext_reads_headers_too() {
    let config = PlainConfig {
        max_per_ip: 1,
        proxy: proxy(ProxyMode::Optional, &["127.0.0.1"]),
        ..PlainConfig::default()
    };
    let plain = Plain::start(config).await;
    // The preface of HTTP/2 begins like a PROXY line.
    let _open = (plain.dial(b"").await.unwrap(), plain.dial(LINE).await.unwrap());
    assert!(plain.dial(LINE).await.is_err());
    assert!((plain.refused(RefuseReason::LimitPerIp) - 1.0).abs() < 0.5);
    let real: Vec<_> = plain.peers.lock().iter().map(|p| p.real_addr).collect();
    assert_eq!(real, [None, Some(client())]);
}
