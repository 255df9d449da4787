//! A connection that notices what gRPC cannot say: that the other end speaks TLS, or HTTP/1, or refused our
//! certificate after the handshake (in TLS 1.3 a client learns that only when it first reads).

use crate::dial::BoxIo;
use crate::error::{ClientError, Kind};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A plaintext connection that was closed before anything was read.
pub(crate) const CLOSED_IN_PLAIN: &str = "the server closed the connection without a word";

/// A web server, or another HTTP/1 listener of the same machine.
pub(crate) fn http1(what: &str) -> ClientError {
    let next = "check the port: this is not the gRPC port of a server";
    ClientError::new(Kind::Protocol, what, "the other end speaks HTTP/1 and not gRPC", next)
}

/// The last thing a connection noticed. Shared by all connections of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Option<ClientError>>>);

impl Faults {
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn set(&self, fault: ClientError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn get(&self) -> Option<ClientError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The wrapper.
pub(crate) struct Watched {
    io: BoxIo,
    plain: bool,
    /// Nothing was read yet.
    fresh: bool,
    /// A write failed, and what the other end said before is still to be read.
    write_error: Option<io::Error>,
    faults: Faults,
    what: String,
}

/// First bytes of a TLS alert record (RFC 8446, section 5.1: type 21, legacy version 3.x).
const TLS_ALERT: [u8; 2] = [21, 3];

impl Watched {
    pub(crate) fn new(io: BoxIo, plain: bool, faults: Faults, what: String) -> Self {
        Self { io, plain, fresh: true, write_error: None, faults, what }
    }

    fn fault(&self, kind: Kind, cause: String, next: &str) -> io::Error {
        let fault = ClientError::new(kind, self.what.clone(), cause, next);
        self.faults.set(fault.clone());
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    fn first_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        if self.plain && bytes.starts_with(&TLS_ALERT) {
            let next = "use an auth mode with TLS: --auth-mode x509 (SPIFFE) or tls (PEM files)";
            return Err(self.fault(
                Kind::Protocol,
                "the server speaks TLS, this client does not".into(),
                next,
            ));
        }
        if bytes.starts_with(b"HTTP/1") {
            let fault = http1(&self.what);
            self.faults.set(fault.clone());
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        // The server speaks: what earlier connections noticed is over. Not earlier, or a connection that is made
        // again in the background would hide why the one before failed.
        self.faults.clear();
        Ok(())
    }
}

impl Watched {
    /// What the end of a connection means on which nothing was ever read.
    fn closed_unread(&self) {
        let (cause, next) = if self.plain {
            (CLOSED_IN_PLAIN, "it may expect TLS: --auth-mode x509 or tls")
        } else {
            (
                "the server closed the connection right after the TLS handshake",
                "it may have refused this client's certificate: look into the server's log",
            )
        };
        self.faults.set(ClientError::new(Kind::Disconnected, self.what.clone(), cause, next));
    }

    /// A write failed. When nothing was read yet, the reason may lie unread: an alert, then the end. The failure is
    /// told once that is read; a connection that cannot be written to is over, so the read ends too.
    fn write_failed<T>(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<T>> {
        if !self.fresh {
            return Poll::Ready(Err(error));
        }
        let mut space = [0_u8; 64];
        let mut buf = ReadBuf::new(&mut space);
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut buf) else {
            self.write_error = Some(error);
            return Poll::Pending;
        };
        self.fresh = false;
        Poll::Ready(Err(self.noticed(true, read, buf.filled()).err().unwrap_or(error)))
    }

    /// Looks at what a read brought.
    fn noticed(&self, fresh: bool, read: io::Result<()>, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = read {
            if let Some(tls) = crate::tls::within(&error) {
                return Err(self.tls_fault(tls));
            }
            if fresh {
                self.closed_unread();
            }
            return Err(error);
        }
        match (fresh, bytes) {
            (true, []) => self.closed_unread(),
            (true, _) => self.first_bytes(bytes)?,
            (false, _) => {}
        }
        Ok(())
    }

    fn tls_fault(&self, tls: &rustls::Error) -> io::Error {
        let (kind, cause, next) = crate::tls::explain(tls);
        self.fault(kind, cause, next)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let fresh = std::mem::replace(&mut self.fresh, false);
        Poll::Ready(self.noticed(fresh, read, &buf.filled()[before..]))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.write_error.take() {
            return self.write_failed(cx, error);
        }
        match std::task::ready!(Pin::new(&mut self.io).poll_write(cx, buf)) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(error) => self.write_failed(cx, error),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.write_error.take() {
            return self.write_failed(cx, error);
        }
        match std::task::ready!(Pin::new(&mut self.io).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.write_failed(cx, error),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.write_error.take() {
            return self.write_failed(cx, error);
        }
        match std::task::ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs)) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(error) => self.write_failed(cx, error),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
