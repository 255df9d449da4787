//! What an endpoint says without TLS.

use super::look::connect;
use super::{Endpoint, Met};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The connection preface of HTTP/2 and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// Type of a SETTINGS frame, and where the type stands in a frame (RFC 9113, sections 4.1 and 6.5).
const SETTINGS: u8 = 4;
const TYPE_AT: usize = 3;
/// Most bytes of an answer that are read.
const ANSWER_MAX: usize = 512;

/// Greets as HTTP/2 does: a gRPC server answers with its settings, a web server with HTTP/1. `None` without an answer.
pub(super) async fn look(endpoint: &Endpoint) -> Option<Met> {
    let mut stream = connect(endpoint).await.ok()?;
    let answer = ask(&mut stream, PREFACE, endpoint).await?;
    if answer.starts_with(b"HTTP/1") {
        return Some(Met::PlainHttp1(status(&answer)));
    }
    Some(if answer.get(TYPE_AT) == Some(&SETTINGS) { Met::PlainHttp2 } else { Met::NotTls })
}

/// The status of the answer to `GET /` for the host.
pub(super) async fn http_status<IO>(stream: &mut IO, endpoint: &Endpoint) -> Option<u16>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let host = &endpoint.server_name;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dirctl\r\nConnection: close\r\n\r\n");
    status(&ask(stream, request.as_bytes(), endpoint).await?)
}

/// The first bytes of an answer; `None` when there is none in time.
async fn ask<IO>(stream: &mut IO, request: &[u8], endpoint: &Endpoint) -> Option<Vec<u8>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let asked = async {
        stream.write_all(request).await.ok()?;
        stream.flush().await.ok()?;
        let mut answer = Vec::new();
        // Enough to tell a frame or a status line apart.
        while answer.len() < 12 {
            let mut bytes = [0_u8; ANSWER_MAX];
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&bytes[..count]),
            }
        }
        Some(answer).filter(|answer| !answer.is_empty())
    };
    tokio::time::timeout(endpoint.timeout, asked).await.ok().flatten()
}

/// `HTTP/1.1 404 Not Found` is 404.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|b| *b == b'\r').next()?;
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok().filter(|s| (100..600).contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 404 Not Found\r\nServer: x"), Some(404));
        assert_eq!(status(b"HTTP/1.0 200\r\n"), Some(200));
        for text in [&b"HTTP/1.1"[..], b"HTTP/1.1 x", b"HTTP/1.1 99 a", b"HTTP/2 200", b"", b"\xff"] {
            assert_eq!(status(text), None, "{text:?}");
        }
    }
}
