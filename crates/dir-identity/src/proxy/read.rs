//! Reading the header off a connection, and giving back what was read beyond it.

use super::header::{Parsed, parse};
use super::network::Network;
use crate::refuse::{Refusal, RefuseReason};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes looked at for a header; beyond its addresses, version 2 is skipped.
const LOOK: usize = 256;

/// Whether PROXY headers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// Never.
    #[default]
    Off,
    /// On connections of trusted proxies that begin with one.
    Optional,
    /// A connection without one is closed, and so is one of anybody else than a trusted proxy.
    Required,
}

/// Which PROXY headers are believed.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Whether they are read.
    pub mode: ProxyMode,
    /// Whose. Clients behind these share an address, with or without a header: no cap by address counts them.
    pub trusted: Vec<Network>,
    /// Longest wait for a header; default 5 s.
    pub timeout: Duration,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { mode: ProxyMode::Off, trusted: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

impl ProxyConfig {
    /// Whether the peer is a trusted proxy.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(ip))
    }

    /// Reads the header, where one is to be read: the bytes that follow it, and the client that it names.
    pub(crate) async fn read<IO: AsyncRead + Unpin>(
        &self,
        io: IO,
        trusted: bool,
    ) -> Result<(Unread<IO>, Option<SocketAddr>), Refusal> {
        let refuse = |text: &str| Err(Refusal::new(RefuseReason::ProxyHeader, text));
        match (self.mode, trusted) {
            (ProxyMode::Off, _) | (ProxyMode::Optional, false) => return Ok((Unread::new(io), None)),
            (ProxyMode::Required, false) => {
                return refuse(
                    "listen.proxy_protocol is required, and the peer is not in listen.trusted_proxies",
                );
            }
            (ProxyMode::Optional | ProxyMode::Required, true) => {}
        }
        match tokio::time::timeout(self.timeout, header(io)).await {
            Err(_) => Err(Refusal::new(RefuseReason::Timeout, "the PROXY header took too long")),
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => refuse(&error.to_string()),
            Ok(Err(error)) => Err(Refusal::new(RefuseReason::Disconnected, error.to_string())),
            Ok(Ok((_, None))) if self.mode == ProxyMode::Required => {
                refuse("listen.proxy_protocol is required, and the connection began without a PROXY header")
            }
            Ok(Ok((io, found))) => Ok((io, found.flatten())),
        }
    }
}

/// The connection behind its header, and the header: what it says of the client.
type Found<IO> = (Unread<IO>, Option<Option<SocketAddr>>);

async fn header<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<Found<IO>> {
    let mut seen = [0; LOOK];
    let mut have = 0;
    loop {
        let read = io.read(&mut seen[have..]).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        have += read;
        match parse(&seen[..have]).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))? {
            // A verdict needs fewer bytes than there is room for: the next read has room.
            Parsed::Incomplete => {}
            Parsed::Absent => return Ok((Unread::before(io, &seen[..have]), None)),
            Parsed::Header { len, source } => {
                skip(&mut io, len.saturating_sub(have)).await?;
                let beyond = seen[..have].get(len..).unwrap_or_default();
                return Ok((Unread::before(io, beyond), Some(source)));
            }
        }
    }
}

async fn skip<IO: AsyncRead + Unpin>(io: &mut IO, mut bytes: usize) -> io::Result<()> {
    let mut sink = [0; LOOK];
    while bytes > 0 {
        let room = bytes.min(LOOK);
        let read = io.read(&mut sink[..room]).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes -= read;
    }
    Ok(())
}

/// A stream some of whose bytes have been read already.
#[derive(Debug)]
pub struct Unread<IO> {
    io: IO,
    /// Until they are taken; hardly ever there at all.
    before: Option<Box<[u8]>>,
    taken: usize,
}

impl<IO> Unread<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self { io, before: None, taken: 0 }
    }

    fn before(io: IO, bytes: &[u8]) -> Self {
        Self { io, before: (!bytes.is_empty()).then(|| bytes.into()), taken: 0 }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Unread<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(before) = &this.before else { return Pin::new(&mut this.io).poll_read(cx, buf) };
        let rest = &before[this.taken..];
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        this.taken += now;
        if now == rest.len() {
            this.before = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Unread<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
