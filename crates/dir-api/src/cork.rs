//! Gathers what HTTP/2 writes until everything that is due has been done: each write becomes a TLS record and a system
//! call, and HTTP/2 makes several for one answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes that are gathered at most, beside one write that is larger itself and goes straight on: two TLS records.
const GATHER_MAX: usize = 32 * 1024;
/// First size of the buffer. It lives from the first write to the flush: idle connections have none.
const FIRST: usize = 4096;

/// Whether writes are gathered. It begins without: what comes before the first call is for nobody to wait for.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    gathers: AtomicBool,
    holds: AtomicBool,
}

impl Cork {
    /// From here on a flush does nothing, or from here on it does what it says.
    pub(crate) fn set(&self, gathers: bool) {
        self.gathers.store(gathers, Ordering::Relaxed);
    }

    pub(crate) fn gathers(&self) -> bool {
        self.gathers.load(Ordering::Relaxed)
    }

    /// Whether something waits for a flush.
    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

/// What was gathered for a writer.
#[derive(Debug)]
pub(crate) struct Gathered {
    cork: Arc<Cork>,
    bytes: Vec<u8>,
    /// How much of it is written.
    done: usize,
}

impl Gathered {
    pub(crate) fn new(cork: Arc<Cork>) -> Self {
        Self { cork, bytes: Vec::new(), done: 0 }
    }

    /// Takes all of the parts, or writes them straight on when they are large.
    pub(crate) fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // What goes straight on may wait in the writer below.
        self.cork.holds.store(true, Ordering::Relaxed);
        if self.bytes.len() + len > GATHER_MAX || !self.cork.gathers() {
            ready!(self.poll_empty(io, cx))?;
            if len > GATHER_MAX || !self.cork.gathers() {
                return Pin::new(io).poll_write_vectored(cx, parts);
            }
        }
        if self.bytes.is_empty() {
            self.bytes.reserve(len.max(FIRST));
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        Poll::Ready(Ok(len))
    }

    /// Ready when everything gathered is written.
    pub(crate) fn poll_empty<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.done < self.bytes.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.done..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.done += written,
            }
        }
        (self.bytes, self.done) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// While it gathers, a flush comes later.
    pub(crate) fn poll_flush<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cork.gathers() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_empty(io, cx))?;
        ready!(Pin::new(io).poll_flush(cx))?;
        self.cork.holds.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A writer that tells what each write brought, and how often it was flushed.
    #[derive(Default)]
    struct Seen {
        writes: Vec<Vec<u8>>,
        flushes: usize,
        full: bool,
    }

    impl AsyncWrite for Seen {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.full {
                return Poll::Pending;
            }
            self.writes.push(buf.to_vec());
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    struct Test {
        cork: Arc<Cork>,
        gathered: Gathered,
        io: Seen,
    }

    impl Test {
        fn new(gathers: bool) -> Self {
            let cork = Arc::<Cork>::default();
            cork.set(gathers);
            Self { gathered: Gathered::new(cork.clone()), cork, io: Seen::default() }
        }

        fn write(&mut self, parts: &[&[u8]]) -> Option<usize> {
            let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut cx = Context::from_waker(Waker::noop());
            match self.gathered.poll_write(&mut self.io, &mut cx, &parts) {
                Poll::Ready(written) => Some(written.unwrap()),
                Poll::Pending => None,
            }
        }

        fn flush(&mut self) -> bool {
            let mut cx = Context::from_waker(Waker::noop());
            self.gathered.poll_flush(&mut self.io, &mut cx).map(Result::unwrap).is_ready()
        }
    }

    #[test]
    fn writes_go_together_at_the_flush() {
        let mut test = Test::new(true);
        assert_eq!(test.write(&[b"a", b"bc"]), Some(3));
        assert!(test.flush() && test.cork.holds());
        assert_eq!(test.write(&[b"d"]), Some(1));
        assert!(test.io.writes.is_empty() && test.io.flushes == 0);
        test.cork.set(false);
        assert!(test.flush() && !test.cork.holds());
        assert_eq!((test.io.writes, test.io.flushes), (vec![b"abcd".to_vec()], 1));
        assert_eq!(test.gathered.bytes.capacity(), 0, "a connection that is idle has no buffer");
    }

    #[test]
    fn what_does_not_fit_goes_first_and_what_is_larger_goes_straight_on() {
        let mut test = Test::new(true);
        let (edge, over) = (vec![1; GATHER_MAX], vec![2; GATHER_MAX + 1]);
        assert_eq!(test.write(&[&edge]), Some(GATHER_MAX));
        assert!(test.io.writes.is_empty(), "as much as is gathered at most");
        assert_eq!(test.write(&[b"x"]), Some(1));
        assert_eq!(test.io.writes.concat(), edge);
        assert_eq!(test.write(&[&over]), Some(GATHER_MAX + 1));
        assert_eq!(test.io.writes, [edge, b"x".to_vec(), over]);
        assert!(test.cork.holds(), "the writer below may hold some of it");
    }

    #[test]
    fn a_full_socket_stops_what_does_not_fit_and_loses_nothing() {
        let mut test = Test::new(true);
        test.io.full = true;
        assert_eq!(test.write(&[&vec![1; GATHER_MAX]]), Some(GATHER_MAX));
        assert_eq!(test.write(&[b"x"]), None);
        test.cork.set(false);
        assert!(!test.flush() && test.cork.holds());
        test.io.full = false;
        assert!(test.flush() && !test.cork.holds());
        assert_eq!(test.io.writes, [vec![1; GATHER_MAX]]);
    }

    #[test]
    fn before_the_first_call_nothing_is_gathered() {
        let mut test = Test::new(false);
        assert_eq!(test.write(&[b"settings"]), Some(8));
        assert_eq!(test.io.writes, [b"settings".to_vec()]);
        assert!(test.flush() && test.io.flushes == 1);
    }
}
