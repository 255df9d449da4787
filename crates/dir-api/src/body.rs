//! Bodies of calls: requests with their message limit, responses with their ending.

use crate::audit::Counts;
use crate::conn::Shared;
use crate::frames::{Scan, TooLong};
use crate::guard::Guard;
use crate::inflow::Unfinished;
use crate::layers::Call;
use crate::outflow::{Held, Outflow, Teller};
use crate::status;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body. A message above the limit is refused by its head, before its bytes are kept.
pub(crate) struct RequestBody {
    inner: hyper::body::Incoming,
    scan: Scan,
    /// What follows the messages that came before one that is too large.
    refused: Option<Status>,
    conn: Arc<Shared>,
    method: usize,
    /// What it holds of a message that has not ended.
    unfinished: Unfinished,
    /// For the audit log.
    counts: Option<Arc<Counts>>,
}

impl RequestBody {
    pub(crate) fn new(inner: hyper::body::Incoming, conn: Arc<Shared>, call: &Call) -> Self {
        let counts = call.trail.counts().cloned();
        let unfinished = Unfinished::new(conn.inflow.clone());
        Self { inner, scan: Scan::default(), refused: None, conn, method: call.number(), unfinished, counts }
    }

    /// Where the answers go.
    pub(crate) fn outflow(&self) -> Arc<Outflow> {
        self.conn.outflow.clone()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(status) = this.refused.take() {
            return Poll::Ready(Some(Err(status.into())));
        }
        let metrics = &this.conn.app().metrics.inflow;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(frame)) => frame?,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let status = ready!(this.unfinished.poll_stalled(cx, metrics));
                return Poll::Ready(Some(Err(status.into())));
            }
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let app = this.conn.app();
        let limit = app.config.max_recv_msg_size;
        let received = &app.methods.get(this.method).metrics.received;
        let scanned = this.scan.feed(&data, limit);
        if let Some(counts) = &this.counts {
            counts.received(data.len(), *scanned.as_ref().unwrap_or_else(|long| &long.ended));
        }
        match scanned {
            Ok(messages) => {
                if messages > 0 {
                    received.inc_by(messages);
                }
                if let Err(status) = this.unfinished.set(data.len(), this.scan.unfinished(), metrics) {
                    return Poll::Ready(Some(Err(status.into())));
                }
            }
            Err(TooLong { size, before, ended }) => {
                let status = status::received_too_large(size, limit);
                if before == 0 {
                    return Poll::Ready(Some(Err(status.into())));
                }
                received.inc_by(ended);
                this.refused = Some(status);
                return Poll::Ready(Some(Ok(Frame::data(data.slice(..before)))));
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body: ends with trailers whatever happens to the handler, and tells the call how it ended.
pub(crate) struct ResponseBody {
    inner: Body,
    scan: Scan,
    /// Until the call is over.
    open: Option<Open>,
}

struct Open {
    call: Call,
    guard: Guard,
    outflow: Arc<Outflow>,
    /// Its messages tell of events.
    teller: Option<Teller>,
}

impl ResponseBody {
    /// Nothing but headers.
    pub(crate) fn none() -> Self {
        Self { inner: Body::empty(), scan: Scan::default(), open: None }
    }

    /// The response of a handler, or the status that came in its place.
    pub(crate) fn of(answer: Result<Response<Body>, Status>, call: Call, guard: Guard) -> Response<Self> {
        let (mut parts, inner) = answer.unwrap_or_else(Status::into_http).into_parts();
        if let Some(code) = status::code_of(&parts.headers) {
            call.finish(code, &mut parts.headers);
            return Response::from_parts(parts, Self::none());
        }
        let outflow = call.conn().outflow.clone();
        let teller = call.method().route.tells().then(|| outflow.teller());
        let open = Some(Open { call, guard, outflow, teller });
        Response::from_parts(parts, Self { inner, scan: Scan::default(), open })
    }

    /// Ends the call with these trailers and lets go of the handler.
    fn end(&mut self, mut trailers: HeaderMap) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        self.inner = Body::empty();
        let Some(open) = self.open.take() else { return Poll::Ready(None) };
        let code = status::code_of(&trailers).unwrap_or(tonic::Code::Unknown);
        open.call.finish(code, &mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        self.end(status::trailers(status))
    }
}

impl HttpBody for ResponseBody {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        let this = &mut *self;
        let Some(open) = this.open.as_mut() else { return Poll::Ready(None) };
        if let Some(status) = open.guard.over() {
            return this.end_with(&status);
        }
        // A peer that does not take what there is gets no more of it.
        if open.outflow.poll_room(cx).is_pending() {
            let status = ready!(open.guard.poll_unpin(cx));
            return this.end_with(&status);
        }
        let inner = &mut this.inner;
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        let Ok(polled) = polled else { return this.end_with(&status::fault()) };
        match polled {
            Poll::Ready(Some(Ok(frame))) => match frame.into_trailers() {
                Ok(trailers) => this.end(trailers),
                Err(frame) => {
                    let data = frame.into_data().unwrap_or_default();
                    // Our own messages have no limit here.
                    let messages = this.scan.feed(&data, usize::MAX).unwrap_or_default();
                    open.call.method().metrics.sent.inc_by(messages);
                    if let Some(counts) = open.call.trail.counts() {
                        counts.sent(data.len(), messages);
                    }
                    Poll::Ready(Some(Ok(Frame::data(open.outflow.hold(data, open.teller.is_some())))))
                }
            },
            Poll::Ready(Some(Err(status))) => this.end_with(&status),
            Poll::Ready(None) => this.end_with(&status::fault()),
            Poll::Pending => {
                let status = ready!(open.guard.poll_unpin(cx));
                this.end_with(&status)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }
}
