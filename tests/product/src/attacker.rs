//! An attacker with a good SVID: mTLS like everybody, and then frames of his own making.

use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_runtime::SystemClock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an attacker waits to be cut off.
const PATIENCE: Duration = Duration::from_secs(60);

/// Types of HTTP/2 frames.
pub mod kind {
    #![allow(missing_docs)] // names of RFC 9113
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// A POST with a path of the static table.
pub const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a gRPC call.
pub fn grpc(path: &str) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| {
        [name, &[u8::try_from(value.len()).unwrap_or_default()], value.as_bytes()].concat()
    };
    [&[0x83, 0x87][..], &literal(&[0x04], path), &literal(&[0x0f, 0x10], "application/grpc")].concat()
}

/// Settings that let the server send `window` bytes on each stream, and `count` calls of Pull for one record.
pub fn pulls(cid: &str, count: u32, window: u32) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or_default();
    let reference = [&[0x0a, length(cid.as_bytes())], cid.as_bytes()].concat();
    let message = [&[0, 0, 0, 0, length(&reference)][..], &reference].concat();
    let headers = grpc("/agntcy.dir.store.v1.StoreService/Pull");
    let mut bytes = frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
    for n in 0..count {
        bytes.extend(frame(kind::HEADERS, 0x4, 2 * n + 1, &headers));
        bytes.extend(frame(kind::DATA, 0x1, 2 * n + 1, &message));
    }
    bytes
}

/// Makes attackers.
pub struct Gang {
    connector: Connector,
    port: u16,
}

impl Gang {
    /// With the SVID of this Workload API, against a port of 127.0.0.1.
    pub async fn gather(socket: String, port: u16) -> anyhow::Result<Self> {
        let config = WorkloadConfig { socket, ..WorkloadConfig::default() };
        let identity = Identity::obtain(config, Arc::new(SystemClock), &prometheus::Registry::new()).await?;
        Ok(Self { connector: Connector::new(identity, ServerCheck::default()), port })
    }

    /// After the handshake, before a first byte.
    pub async fn silent(&self) -> anyhow::Result<Attacker> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        Ok(Attacker(self.connector.connect(tcp, "api.localtest.me").await?))
    }

    /// After preface and empty settings.
    pub async fn member(&self) -> anyhow::Result<Attacker> {
        let mut attacker = self.silent().await?;
        attacker.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        attacker.send(&frame(kind::SETTINGS, 0, 0, &[])).await;
        Ok(attacker)
    }
}

/// One connection of the attacker.
pub struct Attacker(tokio_rustls::client::TlsStream<TcpStream>);

impl Attacker {
    /// Sends as much of it as the server takes; one that closes meanwhile is no failure.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(timeout(PATIENCE, self.0.write_all(bytes)).await);
        drop(timeout(PATIENCE, self.0.flush()).await);
    }

    /// Reads until the server has closed.
    pub async fn closed(&mut self) -> anyhow::Result<()> {
        let mut sink = vec![0; 64 << 10];
        while timeout(PATIENCE, self.0.read(&mut sink)).await?.is_ok_and(|read| read > 0) {}
        Ok(())
    }
}
