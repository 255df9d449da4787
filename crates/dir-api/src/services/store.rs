//! `agntcy.dir.store.v1.StoreService`.
//!
//! One answer per message, in order, and none waits for a further message: `buffered` hands out what is done
//! before it asks the client for more. Several messages of one stream are worked on within a bound.

use super::rpc::{self, Incoming, decode, encode};
use crate::app::Inner;
use crate::audit::Touched;
use crate::body::RequestBody;
use crate::records::RecordCheck;
use crate::status;
use bytes::{BufMut, Bytes, BytesMut};
use dir_core::{Cid, Peer, Principal, Record};
use dir_engine::{Engine, EngineError, Op, Prepared};
use dir_proto::agntcy::dir::core::v1::{RecordMeta, RecordRef};
use dir_proto::wire::{self, WireError};
use futures::future::Either;
use futures::stream::{self, Stream, StreamExt};
use http::{HeaderValue, Request, Response};
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

/// Messages up to this size are checked on the task of their stream; larger ones on one of their own, so that
/// several cores work for one stream.
const CHECK_INLINE_MAX: usize = 64 * 1024;

/// A record as it is sent.
pub(crate) fn record_message(record: &Record) -> Result<Bytes, WireError> {
    wire::encode_record_from_canonical(record.bytes())
}

/// A message whose field 1 is the text of a CID: `RecordRef`, `SearchCIDsResponse`.
pub(crate) fn cid_message(cid: &Cid) -> Bytes {
    let text = cid.to_string();
    let mut out = BytesMut::with_capacity(text.len() + 2);
    out.put_u8(0x0a);
    // One byte of length: the text of a CID has 59 characters.
    out.put_u8(text.len().try_into().unwrap_or_default());
    out.put_slice(text.as_bytes());
    out.freeze()
}

pub(crate) async fn push(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, most) = (app.engine.clone(), app.config.stream_in_flight.max(1));
    let touched = Touched::by(&request);
    let who = request.extensions().get::<Arc<Peer>>().map(|peer| peer.principal.clone());
    let by = Pusher { id, touched, who: who.unwrap_or(Principal::Anonymous) };
    rpc::bidi(request, move |incoming| push_stream(engine, by, incoming, most)).await
}

/// Who pushes, and where it is told.
#[derive(Clone)]
struct Pusher {
    id: HeaderValue,
    touched: Touched,
    who: Principal,
}

/// Two stages, each in order: a record is stored only when every record before it has passed its checks, so that
/// nothing behind a refused one is kept.
fn push_stream(
    engine: Engine,
    by: Pusher,
    incoming: Incoming,
    most: usize,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    let checks = {
        let (engine, id) = (engine.clone(), by.id.clone());
        incoming.map(move |raw| check(engine.clone(), id.clone(), raw)).buffered(most)
    };
    until_error(checks)
        .map(move |checked| {
            let (engine, by) = (engine.clone(), by.clone());
            async move {
                let pushed = checked?.pushed_by(&by.who);
                let stored = engine.commit(pushed).await.map_err(|e| status::engine(&e, &by.id))?;
                by.touched.record(stored);
                Ok(cid_message(&stored))
            }
        })
        .buffered(most)
}

/// Ends after the first error, without asking for more.
fn until_error<T>(
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let mut stream = Some(Box::pin(stream));
    stream::poll_fn(move |cx| {
        let Some(inner) = stream.as_mut() else { return Poll::Ready(None) };
        let item = inner.poll_next_unpin(cx);
        if matches!(item, Poll::Ready(Some(Err(_)) | None)) {
            stream = None;
        }
        item
    })
}

/// Reads and checks one pushed message.
async fn check(engine: Engine, id: HeaderValue, raw: Result<Bytes, Status>) -> Result<Prepared, Status> {
    let raw = raw?;
    let size = raw.len();
    let work = async move {
        // Its size is judged before anything else is.
        engine.check_size(size).map_err(|e| status::engine(&e, &id))?;
        let doc = wire::decode_record(&raw).map_err(|e| status::pushed(&e))?;
        drop(raw);
        engine.prepare(doc, size).await.map_err(|e| status::engine(&e, &id))
    };
    if size <= CHECK_INLINE_MAX {
        return work.await;
    }
    AbortOnDropHandle::new(tokio::spawn(work)).await.unwrap_or_else(|_| Err(status::fault()))
}

pub(crate) async fn pull(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, most) = (app.engine.clone(), app.config.stream_in_flight.max(1));
    let (limit, outflow) = (app.config.max_send_msg_size, request.body().outflow());
    let (touched, check) = (Touched::by(&request), RecordCheck::by(&request));
    rpc::bidi(request, move |incoming| {
        incoming
            .map(move |raw| match named(Op::Pull, raw, &id, &touched) {
                Err(refused) => Either::Left(std::future::ready((Err(refused), None))),
                Ok(cid) => {
                    // A record that is checked first takes the long way.
                    let hit = if check.is_needed() { None } else { engine.pull_cached(&cid) };
                    if let Some(hit) = hit {
                        Either::Left(std::future::ready((Ok(hit), None)))
                    } else {
                        let (engine, id, check) = (engine.clone(), id.clone(), check.clone());
                        Either::Right(fetch(engine, id, check, cid, outflow.read()))
                    }
                }
            })
            .buffered(most)
            .map(move |(message, _read)| sendable("record", message, limit))
    })
    .await
}

/// Reads a record within what the connection may have read at once; that ends when the record is sent on its way.
async fn fetch(
    engine: Engine,
    id: HeaderValue,
    check: RecordCheck,
    cid: Cid,
    read: impl Future<Output = Option<OwnedSemaphorePermit>>,
) -> (Result<Bytes, Status>, Option<OwnedSemaphorePermit>) {
    if let Err(refused) = check.admit(&engine, &cid).await {
        return (Err(refused), None);
    }
    let read = read.await;
    (engine.pull(&cid, record_message).await.map_err(|e| status::engine(&e, &id)), read)
}

pub(crate) async fn lookup(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, most) = (app.engine.clone(), app.config.stream_in_flight.max(1));
    let (limit, touched) = (app.config.max_send_msg_size, Touched::by(&request));
    let check = RecordCheck::by(&request);
    rpc::bidi(request, move |incoming| {
        incoming
            .map(move |raw| {
                let (engine, id, touched) = (engine.clone(), id.clone(), touched.clone());
                let check = check.clone();
                async move {
                    let cid = named(Op::Lookup, raw, &id, &touched)?;
                    check.admit(&engine, &cid).await?;
                    let meta = engine.lookup(&cid).await.map_err(|e| status::engine(&e, &id))?;
                    Ok(encode(&RecordMeta {
                        cid: cid.to_string(),
                        annotations: meta.annotations.into_iter().collect(),
                        schema_version: meta.schema_version,
                        created_at: meta.created_at,
                    }))
                }
            })
            .buffered(most)
            .map(move |message| sendable("record metadata", message, limit))
    })
    .await
}

pub(crate) async fn delete(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, touched) = (app.engine.clone(), Touched::by(&request));
    let check = RecordCheck::by(&request);
    rpc::client_stream(request, move |mut incoming| async move {
        while let Some(raw) = incoming.message().await? {
            let cid = named(Op::Delete, Ok(raw), &id, &touched)?;
            check.admit(&engine, &cid).await?;
            engine.delete(&cid).await.map_err(|e| status::engine(&e, &id))?;
        }
        Ok(Bytes::new())
    })
    .await
}

/// The CID that a `RecordRef` names.
fn named(op: Op, raw: Result<Bytes, Status>, id: &HeaderValue, touched: &Touched) -> Result<Cid, Status> {
    let reference: RecordRef = decode(raw?)?;
    let cid = Engine::name(op, &reference.cid).map_err(|e: EngineError| status::engine(&e, id))?;
    touched.record(cid);
    Ok(cid)
}

fn sendable(what: &str, message: Result<Bytes, Status>, limit: usize) -> Result<Bytes, Status> {
    let message = message?;
    if message.len() > limit {
        return Err(status::send_too_large(what, message.len(), limit));
    }
    Ok(message)
}
