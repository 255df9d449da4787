//! Lets clients built on gRPC's C core in: they send the percent-encoded socket path as `:authority`.
//!
//! RFC 3986 has no percent-encoding in an authority that is a host and port alone, and the HTTP/2 library
//! resets such a stream with PROTOCOL_ERROR. The real agent does not care, so neither do we: in the header
//! literal named `:authority` each `%` becomes `_`. Lengths stay the same, and a header table fed with it
//! stays consistent with the client's. Clients that Huffman-code or index the name do not send such values.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// The literal name with its length byte, as HPACK writes it without Huffman coding (RFC 7541, 5.2).
const NAME: &[u8] = b"\x0a:authority";

/// How far into such a literal the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of the name have been seen.
    Name(usize),
    /// So many bytes of the value are still to come.
    Value(u8),
}

/// A connection to the socket.
#[derive(Debug)]
pub(crate) struct Tolerant {
    io: UnixStream,
    at: At,
}

impl Tolerant {
    pub(crate) fn new(io: UnixStream) -> Self {
        Self { io, at: At::Name(0) }
    }
}

/// Rewrites `bytes`, which go on where the last ones ended.
fn rewrite(at: &mut At, bytes: &mut [u8]) {
    for byte in bytes {
        *at = match *at {
            // A length of 127 or more, or a Huffman-coded value, has another first byte: left alone.
            At::Name(n) if n == NAME.len() => {
                if *byte < 127 {
                    At::Value(*byte)
                } else {
                    At::Name(0)
                }
            }
            At::Name(n) if *byte == NAME[n] => At::Name(n + 1),
            At::Name(_) => At::Name(usize::from(*byte == NAME[0])),
            At::Value(left) => {
                if *byte == b'%' {
                    *byte = b'_';
                }
                if left > 1 { At::Value(left - 1) } else { At::Name(0) }
            }
        };
        if *at == At::Value(0) {
            *at = At::Name(0);
        }
    }
}

impl AsyncRead for Tolerant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let mut at = self.at;
        rewrite(&mut at, &mut buf.filled_mut()[before..]);
        self.at = at;
        polled
    }
}

impl AsyncWrite for Tolerant {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Connected for Tolerant {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(parts: &[&[u8]]) -> Vec<u8> {
        let mut at = At::Name(0);
        let mut all = Vec::new();
        for part in parts {
            let mut bytes = part.to_vec();
            rewrite(&mut at, &mut bytes);
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn only_the_authority_value_changes_wherever_the_reads_end() {
        let sent: &[u8] = b"@\x05:path\x02/%@\n:authority\x0ctmp%2Fa.sock@\x02te\x03%%%";
        let wanted: &[u8] = b"@\x05:path\x02/%@\n:authority\x0ctmp_2Fa.sock@\x02te\x03%%%";
        assert_eq!(rewritten(&[sent]), wanted);
        for cut in 0..sent.len() {
            let (a, b) = sent.split_at(cut);
            assert_eq!(rewritten(&[a, b]), wanted, "cut at {cut}");
        }
    }

    #[test]
    fn an_empty_or_coded_value_is_left_alone() {
        assert_eq!(rewritten(&[b"\n:authority\x00%%"]), b"\n:authority\x00%%");
        assert_eq!(rewritten(&[b"\n:authority\x85%%%%%"]), b"\n:authority\x85%%%%%");
        assert_eq!(rewritten(&[b"\n\n:authority\x01%%"]), b"\n\n:authority\x01_%");
    }
}
