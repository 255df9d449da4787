//! Connections that end under a client: by age (GOAWAY), and cut in the middle of a stream.

use crate::fake::{Conn, Fake, stored};
use dir_client::{Client, ClientConfig, Document};
use dir_runtime::SystemClock;
use futures::{StreamExt, stream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;

async fn client(address: &str) -> Client {
    let config = ClientConfig { server_addr: address.to_owned(), ..ClientConfig::default() };
    Client::new(config, Arc::new(SystemClock)).await.unwrap()
}

fn document(number: usize) -> Document {
    Document::from_json(format!("{{\"name\":\"{number}\"}}").as_bytes()).unwrap()
}

#[tokio::test]
async fn calls_survive_connections_that_age() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let incoming = TcpListenerStream::new(listener).map(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        stream.map(|io| Conn { io, _held: () })
    });
    let server = tonic::transport::Server::builder().max_connection_age(Duration::from_millis(20));
    let fake = Fake::with(server, address, incoming, |_, _, message| stored(message));
    let client = client(&fake.address).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut calls = 0;
    while connections.load(Ordering::Relaxed) < 6 {
        assert!(Instant::now() < deadline, "connections come and go");
        client.push_one(document(calls)).await.unwrap();
        calls += 1;
    }
    assert!(calls >= 6, "{calls}");
}

/// A connection that can be cut from outside.
struct Cuttable {
    io: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Cuttable {
    fn check(&self) -> std::io::Result<()> {
        if self.cut.load(Ordering::SeqCst) { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_stream_survives_a_cut_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cut = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&cut);
    let incoming = TcpListenerStream::new(listener).enumerate().map(move |(number, stream)| {
        // Only the first connection is ever cut.
        let cut = if number == 0 { Arc::clone(&first) } else { Arc::default() };
        stream.map(|io| Conn { io: Cuttable { io, cut }, _held: () })
    });
    let fake = Fake::over(address, incoming, move |stream, number, message| {
        if (stream, number) == (0, 100) {
            cut.store(true, Ordering::SeqCst);
        }
        stored(message)
    });
    let client = client(&fake.address).await;
    let mut push = client.push(stream::iter((0..300).map(|number| (number, document(number)))));
    let mut answers = 0;
    while let Some((number, answer)) = push.next().await {
        assert_eq!(number, answers);
        assert_eq!(answer.unwrap(), document(number).cid());
        answers += 1;
    }
    assert_eq!(answers, 300);
    assert_eq!(fake.streams(), 2);
}
