//! A connection that notices what gRPC cannot say: that the other end speaks TLS, or HTTP/1, or refused our
//! certificate after the handshake (in TLS 1.3 a client learns that only when it first reads).

use crate::dial::BoxIo;
use crate::error::{ClientError, Kind};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
    fresh: bool,
    faults: Faults,
    what: String,
}

/// First bytes of a TLS alert record (RFC 8446, section 5.1: type 21, legacy version 3.x).
const TLS_ALERT: [u8; 2] = [21, 3];

impl Watched {
    pub(crate) fn new(io: BoxIo, plain: bool, faults: Faults, what: String) -> Self {
        Self { io, plain, fresh: true, faults, what }
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
            let cause = "the other end speaks HTTP/1 and not gRPC".to_owned();
            return Err(self.fault(
                Kind::Protocol,
                cause,
                "check the port: this is not the gRPC port of a server",
            ));
        }
        Ok(())
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
        Poll::Ready(match read {
            Ok(()) if fresh && buf.filled().len() > before => self.first_bytes(&buf.filled()[before..]),
            Ok(()) => Ok(()),
            Err(error) => Err(match crate::tls::within(&error) {
                Some(tls) => {
                    let (kind, cause, next) = crate::tls::explain(tls);
                    self.fault(kind, cause, next)
                }
                None => error,
            }),
        })
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
}
