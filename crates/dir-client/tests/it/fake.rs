//! A gRPC server whose streams are scripted: it knows frames, not messages.

use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// What a script says to one message.
pub(crate) enum Say {
    /// Answer with this message.
    Answer(Bytes),
    /// End the stream with this status.
    End(Status),
    /// End the stream with OK, with messages unanswered.
    Leave,
    /// Never answer.
    Hang,
}

/// A script: number of the stream, number of the message in it, the message.
pub(crate) type Script = Arc<dyn Fn(usize, usize, &Bytes) -> Say + Send + Sync>;

/// Every message seen, in order: number of the stream and the message.
pub(crate) type Seen = Arc<Mutex<Vec<(usize, Bytes)>>>;

/// The `authorization` header of every call, in order.
pub(crate) type Shown = Arc<Mutex<Vec<Option<String>>>>;

#[derive(Clone)]
struct Service {
    shown: Shown,
    script: Script,
    seen: Seen,
    streams: Arc<Mutex<usize>>,
    half_closed: Arc<Mutex<usize>>,
    refusal: Arc<Mutex<Option<Status>>>,
}

impl NamedService for Service {
    const NAME: &'static str = "agntcy.dir.store.v1.StoreService";
}

/// The same script under the name of the watch.
#[derive(Clone)]
struct Watching(Service);

impl NamedService for Watching {
    const NAME: &'static str = "directory.watch.v1.WatchService";
}

impl tower::Service<http::Request<tonic::body::Body>> for Watching {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        self.0.call(request)
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

struct Talk(Service);

impl tonic::server::StreamingService<Bytes> for Talk {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let service = self.0.clone();
        let stream = {
            let mut streams = service.streams.lock().unwrap();
            *streams += 1;
            *streams - 1
        };
        Box::pin(async move {
            let half_closed = Arc::clone(&service.half_closed);
            let end = futures::stream::poll_fn(move |_cx| {
                *half_closed.lock().unwrap() += 1;
                Poll::Ready(None)
            });
            let messages = request.into_inner().chain(end).enumerate();
            let answers = messages.scan(false, move |over, (number, message)| {
                if *over {
                    return futures::future::ready(None).boxed();
                }
                let message = match message {
                    Ok(message) => message,
                    Err(status) => return futures::future::ready(Some(Err(status))).boxed(),
                };
                service.seen.lock().unwrap().push((stream, message.clone()));
                match (service.script)(stream, number, &message) {
                    Say::Answer(bytes) => futures::future::ready(Some(Ok(bytes))).boxed(),
                    Say::End(status) => {
                        *over = true;
                        futures::future::ready(Some(Err(status))).boxed()
                    }
                    Say::Leave => futures::future::ready(None).boxed(),
                    Say::Hang => futures::future::pending().boxed(),
                }
            });
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let header = request.headers().get("authorization");
        let header = header.map(|value| value.to_str().unwrap().to_owned());
        self.shown.lock().unwrap().push(header);
        if let Some(status) = self.refusal.lock().unwrap().clone() {
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let talk = Talk(self.clone());
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            Ok(grpc.streaming(talk, request).await)
        })
    }
}

/// An accepted connection as tonic takes it, with what has to live as long.
pub(crate) struct Conn<IO, H = ()> {
    pub(crate) io: IO,
    pub(crate) _held: H,
}

impl<IO, H> Connected for Conn<IO, H> {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl<IO: AsyncRead + Unpin, H: Unpin> AsyncRead for Conn<IO, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Conn<IO, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A running server.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) seen: Seen,
    pub(crate) shown: Shown,
    half_closed: Arc<Mutex<usize>>,
    refusal: Arc<Mutex<Option<Status>>>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(script: impl Fn(usize, usize, &Bytes) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::over(address, tokio_stream::wrappers::TcpListenerStream::new(listener), script)
    }

    /// Answers every call with this status alone, before it reads a message.
    pub(crate) async fn refusing(status: Status) -> Self {
        let fake = Self::start(|_, _, _| Say::Hang).await;
        *fake.refusal.lock().unwrap() = Some(status);
        fake
    }

    /// Serves connections that somebody else accepts.
    pub(crate) fn over<I>(
        address: String,
        incoming: impl Stream<Item = std::io::Result<I>> + Send + 'static,
        script: impl Fn(usize, usize, &Bytes) -> Say + Send + Sync + 'static,
    ) -> Self
    where
        I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        Self::with(tonic::transport::Server::builder(), address, incoming, script)
    }

    /// The same with settings of the server.
    pub(crate) fn with<I>(
        mut server: tonic::transport::Server,
        address: String,
        incoming: impl Stream<Item = std::io::Result<I>> + Send + 'static,
        script: impl Fn(usize, usize, &Bytes) -> Say + Send + Sync + 'static,
    ) -> Self
    where
        I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let seen = Seen::default();
        let (half_closed, refusal, shown) = (Arc::default(), Arc::default(), Shown::default());
        let service = Service {
            shown: Arc::clone(&shown),
            script: Arc::new(script),
            seen: Arc::clone(&seen),
            streams: Arc::default(),
            half_closed: Arc::clone(&half_closed),
            refusal: Arc::clone(&refusal),
        };
        let server =
            server.add_service(Watching(service.clone())).add_service(service).serve_with_incoming(incoming);
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self { address, seen, shown, half_closed, refusal, task }
    }

    /// How many streams the client ended as the protocol wants it, by a half-close.
    pub(crate) fn half_closed(&self) -> usize {
        *self.half_closed.lock().unwrap()
    }

    /// How many streams were opened.
    pub(crate) fn streams(&self) -> usize {
        self.seen.lock().unwrap().iter().map(|(stream, _)| stream + 1).max().unwrap_or(0)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer of a well-behaved server to a pushed record.
pub(crate) fn stored(message: &Bytes) -> Say {
    let doc = dir_proto::wire::decode_record(message).unwrap().unwrap();
    let cid = dir_core::Cid::of(&doc.canonical().unwrap());
    let answer = dir_proto::agntcy::dir::core::v1::RecordRef { cid: cid.to_string() };
    Say::Answer(answer.encode_to_vec().into())
}
