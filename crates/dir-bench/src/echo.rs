//! The yardstick: a bare tonic echo behind the product's own acceptor.
//!
//! Nothing between tonic and the handler: no layers, no store, no index. Three shapes: unary, a bidirectional
//! stream of one message, and a server stream of fifty.

use crate::identity;
use dir_identity::Accepted;
use futures::{Stream, StreamExt};
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Messages of a server stream answer.
pub(crate) const MANY: usize = 50;

/// The echoed message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Payload {
    /// Opaque bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: bytes::Bytes,
}

#[derive(Clone, Copy)]
struct Echo;

type Reply<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

impl UnaryService<Payload> for Echo {
    type Response = Payload;
    type Future = Reply<Payload>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl StreamingService<Payload> for Echo {
    type Response = Payload;
    type ResponseStream = Messages;
    type Future = Reply<Messages>;

    fn call(&mut self, request: Request<Streaming<Payload>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner().boxed() as Messages)) })
    }
}

impl ServerStreamingService<Payload> for Echo {
    type Response = Payload;
    type ResponseStream = Messages;
    type Future = Reply<Messages>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        let message = request.into_inner();
        let stream = futures::stream::iter((0..MANY).map(move |_| Ok(message.clone())));
        Box::pin(async move { Ok(Response::new(stream.boxed() as Messages)) })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "directory.bench.v1.Echo";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(match request.uri().path() {
                "/directory.bench.v1.Echo/Unary" => grpc.unary(Echo, request).await,
                "/directory.bench.v1.Echo/Bidi" => grpc.streaming(Echo, request).await,
                "/directory.bench.v1.Echo/Many" => grpc.server_streaming(Echo, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// What tonic wants of an accepted connection.
struct Io(Box<tokio_rustls::server::TlsStream<dir_identity::proxy::Unread<tokio::net::TcpStream>>>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves the echo on `listen` until the process is killed.
pub(crate) async fn serve(listen: SocketAddr, socket: String) -> anyhow::Result<()> {
    let identity = identity::obtain(socket).await?;
    let listener = TcpListener::bind(listen).await?;
    let incoming = identity::accept(listener, identity);
    let incoming = incoming.map(|Accepted { io, .. }| Ok::<_, std::io::Error>(Io(Box::new(io))));
    tonic::transport::Server::builder()
        .initial_connection_window_size(4 * 1024 * 1024)
        .initial_stream_window_size(1024 * 1024)
        .add_service(Echo)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
