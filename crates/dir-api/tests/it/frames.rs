//! Below the clients: raw messages on any path, and raw HTTP/2 frames.

use crate::node::{Node, soon};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A client codec that passes bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// What a call gave.
pub(crate) struct Outcome {
    pub(crate) messages: Vec<Bytes>,
    pub(crate) status: Status,
    pub(crate) headers: MetadataMap,
    pub(crate) trailers: MetadataMap,
}

/// Calls any path with these messages as a stream, and reads the answer to its end.
pub(crate) async fn call(node: &Node, path: &str, messages: Vec<Bytes>) -> Outcome {
    call_with(node.channel().await, path, Request::new(messages)).await
}

pub(crate) async fn call_with(channel: Channel, path: &str, request: Request<Vec<Bytes>>) -> Outcome {
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20);
    soon(grpc.ready()).await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    let mut outcome = Outcome {
        messages: Vec::new(),
        status: Status::ok(""),
        headers: MetadataMap::new(),
        trailers: MetadataMap::new(),
    };
    let answer = soon(grpc.streaming(request.map(futures::stream::iter), path, Raw)).await;
    let mut body = match answer {
        Ok(answer) => {
            outcome.headers = answer.metadata().clone();
            answer.into_inner()
        }
        Err(status) => {
            outcome.trailers = status.metadata().clone();
            outcome.status = status;
            return outcome;
        }
    };
    loop {
        match soon(body.message()).await {
            Ok(Some(message)) => outcome.messages.push(message),
            Ok(None) => {
                outcome.trailers = body.trailers().await.unwrap().unwrap_or_default();
                return outcome;
            }
            Err(status) => {
                outcome.trailers = status.metadata().clone();
                outcome.status = status;
                return outcome;
            }
        }
    }
}

pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// One HTTP/2 frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// A peer that speaks frames.
pub(crate) struct Peer(TcpStream);

impl Peer {
    /// Connects and says nothing.
    pub(crate) async fn silent(addr: SocketAddr) -> Self {
        Self(soon(TcpStream::connect(addr)).await.unwrap())
    }

    /// Connects and sends preface and empty settings.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let mut peer = Self::silent(addr).await;
        peer.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        peer.0.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        peer
    }

    /// Sends bytes; a server that closes meanwhile is no failure.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = soon(self.0.write_all(bytes)).await;
    }

    /// The next frame; `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind: head[3], payload })
    }

    /// The next frame of this kind; `None` when the server has closed before one came.
    pub(crate) async fn wait_for(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    /// The server has nothing more to say.
    pub(crate) async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}
