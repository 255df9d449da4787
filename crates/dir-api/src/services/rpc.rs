//! The shapes of a call, over message bytes.

use crate::body::RequestBody;
use crate::codec::RawCodec;
use crate::status;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http::{Request, Response};
use http_body::Body as HttpBody;
use prost::Message;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tower::service_fn;

/// Messages of a client.
pub(crate) type Incoming = Streaming<Bytes>;

/// The size of messages is bounded before they reach the codec.
fn grpc() -> Grpc<RawCodec> {
    Grpc::new(RawCodec).max_decoding_message_size(usize::MAX)
}

/// Reads one message.
pub(crate) fn decode<M: Message + Default>(raw: Bytes) -> Result<M, Status> {
    M::decode(raw).map_err(|error| status::unmarshal(&error))
}

/// Writes one message.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

/// A panic is the last item of a stream: answers before it are not lost.
fn guarded(
    stream: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    AssertUnwindSafe(stream).catch_unwind().map(|item| item.unwrap_or_else(|_| Err(status::fault())))
}

/// One request, one answer.
pub(crate) async fn unary<M, F>(request: Request<RequestBody>, answer: impl FnOnce(M) -> F) -> Response<Body>
where
    M: Message + Default,
    F: Future<Output = Result<Bytes, Status>>,
{
    let mut answer = Some(answer);
    let service = service_fn(move |request: tonic::Request<Bytes>| {
        let answer = answer.take();
        async move {
            let message = decode(request.into_inner())?;
            let answer = answer.ok_or_else(status::fault)?;
            Ok(tonic::Response::new(answer(message).await?))
        }
    });
    grpc().unary(service, request).await
}

/// One request, a stream of answers.
pub(crate) async fn server_stream<M, S>(
    request: Request<RequestBody>,
    answer: impl FnOnce(M) -> Result<S, Status>,
) -> Response<Body>
where
    M: Message + Default,
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
{
    let mut answer = Some(answer);
    let service = service_fn(move |request: tonic::Request<Bytes>| {
        let answered = decode(request.into_inner())
            .and_then(|message| answer.take().ok_or_else(status::fault)?(message));
        async move { answered.map(|stream| tonic::Response::new(guarded(stream))) }
    });
    grpc().server_streaming(service, request).await
}

/// One request, answers that come framed.
pub(crate) async fn server_frames<M, B>(
    request: Request<RequestBody>,
    answer: impl FnOnce(M) -> B,
) -> Response<Body>
where
    M: Message + Default,
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut frames = None;
    // The request is read and the head of the answer is made as for every stream; only what follows is framed already.
    let response = server_stream(request, |message| {
        frames = Some(answer(message));
        Ok(stream::pending())
    })
    .await;
    match frames {
        Some(frames) => response.map(|_| Body::new(frames)),
        None => response,
    }
}

/// A stream of requests, one answer.
pub(crate) async fn client_stream<F>(
    request: Request<RequestBody>,
    answer: impl FnOnce(Incoming) -> F,
) -> Response<Body>
where
    F: Future<Output = Result<Bytes, Status>>,
{
    let mut answer = Some(answer);
    let service = service_fn(move |request: tonic::Request<Incoming>| {
        let answer = answer.take();
        async move {
            let answer = answer.ok_or_else(status::fault)?;
            Ok(tonic::Response::new(answer(request.into_inner()).await?))
        }
    });
    grpc().client_streaming(service, request).await
}

/// Streams both ways.
pub(crate) async fn bidi<S>(
    request: Request<RequestBody>,
    answer: impl FnOnce(Incoming) -> S + Send,
) -> Response<Body>
where
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
{
    let mut answer = Some(answer);
    let service = service_fn(move |request: tonic::Request<Incoming>| {
        let answered = answer.take().ok_or_else(status::fault);
        let answered = answered.map(|answer| tonic::Response::new(guarded(answer(request.into_inner()))));
        std::future::ready(answered)
    });
    grpc().streaming(service, request).await
}
