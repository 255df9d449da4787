//! `agntcy.dir.search.v1.SearchService`.

use super::listing;
use super::rpc::{self, encode};
use super::store::{cid_message, record_message};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::records::RecordCheck;
use crate::status;
use bytes::{BufMut, Bytes, BytesMut};
use dir_core::query::Query;
use dir_engine::Engine;
use dir_proto::agntcy::dir::search::v1 as pb;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use http::{HeaderValue, Request, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::Status;
use tonic::body::Body;

pub(crate) async fn cids(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let engine = app.engine.clone();
    let check = RecordCheck::by(&request);
    rpc::server_stream(request, move |message: pb::SearchCiDsRequest| {
        let mut view = check.view()?;
        let query = view.of(Query::try_from(message).map_err(status::convert)?);
        let pages = engine.search(query.clone()).map_err(move |e| status::engine(&e, &id));
        let found = pages
            .map_ok(|cids| stream::iter(cids.into_iter().map(|cid| Ok(cid_message(&cid)))))
            .try_flatten()
            .map(move |found| view.still().and(found));
        Ok(explaining(found, engine, query, false))
    })
    .await
}

/// An answer whose end says why there is nothing before it.
fn explaining(
    found: impl Stream<Item = Result<Bytes, Status>>,
    engine: Engine,
    query: Query,
    reads: bool,
) -> impl Stream<Item = Result<Bytes, Status>> {
    let empty = Arc::new(AtomicBool::new(true));
    let seen = empty.clone();
    let found = found.inspect(move |_| seen.store(false, Ordering::Relaxed));
    let end = stream::once(async move {
        if empty.load(Ordering::Relaxed) { listing::explained(&engine, &query, reads).await } else { None }
    });
    found.chain(end.filter_map(|end| std::future::ready(end.map(Err))))
}

pub(crate) async fn records(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let engine = &app.engine;
    let (limit, outflow) = (app.config.max_send_msg_size, request.body().outflow());
    let check = RecordCheck::by(&request);
    rpc::server_stream(request, |message: pb::SearchRecordsRequest| {
        let mut view = check.view()?;
        let query = view.of(Query::try_from(message).map_err(status::convert)?);
        let found = engine.search_records(query.clone(), record_message, move || outflow.read());
        let (engine, asked) = (engine.clone(), engine.clone());
        let found = found.filter_map(move |record| {
            let sent = match record.map(|record| record_field(&record)) {
                // A record may have the full size of a message; with the field around it, it has more. One such
                // record must not end every search that finds it.
                Ok(message) if message.len() > limit => {
                    engine.result_left_out();
                    tracing::warn!(
                        size = message.len(),
                        limit,
                        "search result left out: above the send limit"
                    );
                    None
                }
                other => Some(other.map_err(|e| status::engine(&e, &id))),
            };
            std::future::ready(sent.map(|found| view.still().and(found)))
        });
        Ok(explaining(found, asked, query, true))
    })
    .await
}

pub(crate) async fn count(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, check) = (&app.engine, RecordCheck::by(&request));
    rpc::unary(request, |message: pb::CountRecordsRequest| async move {
        let query = check.view()?.of(Query::try_from(message).map_err(status::convert)?);
        let total = engine.count(&query).await.map_err(|e| status::engine(&e, &id))?;
        Ok(encode(&pb::CountRecordsResponse { total_count: u32::try_from(total).unwrap_or(u32::MAX) }))
    })
    .await
}

/// `SearchRecordsResponse` around a record message: field 1, length, bytes.
fn record_field(record: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(record.len() + 6);
    out.put_u8(0x0a);
    prost::encoding::encode_varint(record.len() as u64, &mut out);
    out.put_slice(record);
    out.freeze()
}
