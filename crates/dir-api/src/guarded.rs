//! The bytes of a connection on their way to HTTP/2, under the eyes of [`crate::flood`].

use crate::conn::Shared;
use crate::cork::{Cork, Gathered};
use crate::flood::{Budget, Frames, Guard};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream whose frames are counted. A peer that sends too many has an error where its bytes were.
pub(crate) struct Guarded<IO> {
    io: IO,
    received: Frames,
    sent: Frames,
    guard: Guard,
    flooded: Arc<AtomicBool>,
    shared: Arc<Shared>,
    cork: Arc<Cork>,
    gathered: Gathered,
}

impl<IO> Guarded<IO> {
    /// `flooded` tells afterwards whether the peer was cut off for its frames.
    pub(crate) fn new(
        io: IO,
        budget: Budget,
        flooded: Arc<AtomicBool>,
        shared: Arc<Shared>,
        cork: Arc<Cork>,
    ) -> Self {
        let (received, sent) = (Frames::of_client(), Frames::of_server());
        let gathered = Gathered::new(cork.clone());
        Self { io, received, sent, guard: Guard::new(budget), flooded, shared, cork, gathered }
    }

    /// Tells whether the socket takes bytes.
    fn tried<T>(&self, tried: Poll<T>) -> Poll<T> {
        // What is gathered has not been tried.
        if tried.is_pending() || !self.cork.gathers() {
            self.shared.outflow.set_blocked(tried.is_pending());
        }
        tried
    }

    fn note_sent<'a>(&mut self, bytes: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        for part in bytes {
            let now = part.len().min(written);
            written -= now;
            self.sent.feed(&part[..now], |kind, _, _| self.guard.sent(kind));
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let (guard, shared, mut good) = (&mut this.guard, &this.shared, true);
        this.received.feed(&buf.filled()[before..], |kind, flags, _| {
            good &= guard.received(kind, flags, Instant::now, || shared.is_quiet());
        });
        if good {
            return Poll::Ready(Ok(()));
        }
        this.flooded.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::other("too many pings or control frames")))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let tried = this.gathered.poll_write(&mut this.io, cx, bufs);
        let written = ready!(this.tried(tried))?;
        this.note_sent(bufs.iter().map(|part| &**part), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let tried = this.gathered.poll_flush(&mut this.io, cx);
        this.tried(tried)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.gathered.poll_empty(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
