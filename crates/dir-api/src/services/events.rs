//! `agntcy.dir.events.v1.EventService`.
//!
//! What listeners with one filter take together is framed once, and sent to each as the same bytes.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::audit::Touched;
use crate::body::RequestBody;
use crate::conn::Why;
use crate::frames::HEAD;
use crate::status;
use bytes::{BufMut, Bytes, BytesMut};
use dir_core::EventKind;
use dir_engine::{EventFilter, Listener, Notice, Told};
use dir_proto::agntcy::dir::events::v1 as pb;
use dir_proto::convert;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

/// Live events. The subscription is there before the answer's headers are.
pub(crate) async fn listen(
    app: &Inner,
    stopping: CancellationToken,
    request: Request<RequestBody>,
) -> Response<Body> {
    let (events, touched) = (app.engine.events(), Touched::by(&request));
    rpc::server_frames(request, |message: pb::ListenRequest| {
        touched.records(&message.cid_filters);
        let wanted = filter(&message.event_types, &message.cid_filters, message.label_filters);
        Live { listener: events.listen_to(wanted), stopping: Box::pin(stopping.cancelled_owned()) }
    })
    .await
}

/// The body of an answer: events until the server stops.
struct Live {
    listener: Listener,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Live {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let stopped = || Poll::Ready(Some(Ok(Frame::trailers(status::trailers(&Why::Draining.status())))));
        if self.stopping.as_mut().poll(cx).is_ready() {
            return stopped();
        }
        match self.listener.poll_batch(cx) {
            Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(Frame::data(batch.message(framed))))),
            Poll::Ready(None) => stopped(),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Messages as they follow each other on the wire.
fn framed(events: &[Arc<Told>]) -> Bytes {
    let messages: Vec<Bytes> = events.iter().map(|told| told.message(encoded)).collect();
    let mut out = BytesMut::with_capacity(messages.iter().map(|message| HEAD + message.len()).sum());
    for message in messages {
        // Not compressed; no message is as long as four bytes of length can say.
        out.put_u8(0);
        out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        out.put_slice(&message);
    }
    out.freeze()
}

/// The filter of a request. An empty kind does not restrict; a number or a text that no event can have is kept as
/// a restriction that nothing meets.
pub(crate) fn filter(types: &[i32], cids: &[String], labels: Vec<String>) -> EventFilter {
    EventFilter {
        kinds: (!types.is_empty())
            .then(|| types.iter().filter_map(|&number| EventKind::from_number(number)).collect()),
        cids: (!cids.is_empty()).then(|| cids.iter().filter_map(|text| text.parse().ok()).collect()),
        labels: (!labels.is_empty()).then_some(labels),
    }
}

fn encoded(notice: &Notice) -> Bytes {
    encode(&pb::ListenResponse {
        event: Some(pb::Event {
            id: uuid::Uuid::new_v4().to_string(),
            r#type: notice.kind as i32,
            timestamp: Some(convert::timestamp(notice.at)),
            resource_id: notice.cid.to_string(),
            labels: notice.labels.to_vec(),
            metadata: BTreeMap::new(),
        }),
    })
}
