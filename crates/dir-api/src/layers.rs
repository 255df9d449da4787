//! The way of a call through the layers: one order, in one place, for every service.

use crate::access;
use crate::audit::{self, Trail};
use crate::authz::Asking;
use crate::body::{RequestBody, ResponseBody};
use crate::conn::Shared;
use crate::grant_limits::Place;
use crate::guard::Guard;
use crate::message::{self, GRPC_MESSAGE};
use crate::methods::Method;
use crate::records::RecordCheck;
use crate::status::{self, CODES};
use crate::token::{self, Caller};
use crate::{delegated, routes, timeout};
use dir_core::identity::RoleClaims;
use dir_core::{Peer, Principal, Timestamp};
use futures::FutureExt;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;
use tonic::{Code, Status};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_MAX: usize = 128;

/// Serves one call.
pub(crate) async fn serve(
    conn: Arc<Shared>,
    method: usize,
    request: Request<hyper::body::Incoming>,
) -> Response<ResponseBody> {
    // What is no gRPC call is answered in HTTP, and is none for anything below.
    if let Some(refusal) = not_grpc(&request) {
        return refusal;
    }
    let (mut parts, body) = request.into_parts();

    // 1. Panic guard: `catch_unwind` around the handler below, and around each poll of its body.
    // 2. Principal: decided by the handshake, or by the token of this call. It comes first because the log names it.
    let at = conn.app().clock.now();
    let (caller, unproved) = token::caller(&conn, method, &mut parts.headers, at);
    // 3. Request id: the client's, when it is one, else ours. 4. Metrics and 5. access log: from here on the call
    //    is counted and logged, however it ends.
    let mut call = Call::begin(conn.clone(), (method, at), &caller, &parts.headers);
    let request_id = call.id.clone();
    let identified = identify(&mut call, &caller, unproved, &mut parts);
    let mut guard = Guard::new(conn.clone(), caller, method, call.delegated.clone(), at);
    // 6. Rate limits, then 7. authorization.
    let admitted = admit(&mut call, &mut guard, identified, parts.uri.path());
    // 8. Audit: the first line of a stream. The last one is written where the call ends.
    audit::opened(&call, admitted.as_ref().err().map(Status::code));
    if let Err(refused) = admitted {
        return ResponseBody::of(Err(refused), call, guard);
    }

    // 9. Deadline of the caller.
    match parts.headers.get(GRPC_TIMEOUT).map(|value| timeout::parse(value.as_bytes())) {
        Some(Err(error)) => return malformed_timeout(call, error),
        Some(Ok(after)) => guard.deadline(after),
        None => {}
    }

    // 10. Message limits, then 11. the handler.
    if let Some(touched) = call.trail.touched() {
        parts.extensions.insert(touched);
    }
    if let Some(check) = RecordCheck::of(&conn, &call) {
        parts.extensions.insert(check);
    }
    let request = Request::from_parts(parts, RequestBody::new(body, conn.clone(), &call));
    let handler = routes::handle(&conn, call.method().route, request_id, request);
    let answer = {
        let mut handler = std::pin::pin!(AssertUnwindSafe(handler).catch_unwind());
        std::future::poll_fn(|cx| match handler.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(_panic)) => Poll::Ready(Err(status::fault())),
            Poll::Pending => guard.poll_unpin(cx).map(Err),
        })
        .await
    };
    ResponseBody::of(answer, call, guard)
}

/// Whether the caller is still who it was, and for whom it calls. What comes out is read by everything below from the
/// extensions.
fn identify(
    call: &mut Call,
    caller: &Caller,
    unproved: Option<token::Failure>,
    parts: &mut Parts,
) -> Result<(), Status> {
    let mut identified = still_trusted(&call.conn, call.at);
    if let Some(failure) = unproved {
        call.note_unproved(&failure);
        identified = identified.and(Err(failure.status));
    }
    // Gateways may speak for others.
    match delegated::take(&call.conn, &caller.peer, &mut parts.headers) {
        Ok(who) => call.delegated = who,
        Err(refused) => identified = identified.and(Err(refused)),
    }
    parts.extensions.insert(delegated::peer(&caller.peer, call.delegated()));
    if call.delegated.is_some() {
        parts.extensions.insert(delegated::Gateway(caller.peer.principal.clone()));
    }
    if let Some(claims) = &call.claims {
        parts.extensions.insert(claims.clone());
    }
    identified
}

/// Whether a call goes on: there is room in the audit log, limits let it pass, the policy allows it.
fn admit(
    call: &mut Call,
    guard: &mut Guard,
    identified: Result<(), Status>,
    path: &str,
) -> Result<(), Status> {
    let mut admitted = identified;
    let conn = call.conn.clone();
    // Whatever is decided below leaves an audit line; a call for which there is no room is refused, if so configured.
    if let Some(Err(full)) = conn.app().config.audit.as_ref().map(audit::Audit::admit) {
        call.trail = Trail::default();
        admitted = admitted.and(Err(full));
    }
    // Limits of everybody, of the principal, of the principal on this method.
    if let (Ok(()), Some(limiter)) = (&admitted, &conn.app().limiter) {
        let peer = &call.peer().principal;
        admitted = limiter.admit(peer, call.principal(), call.method, path, call.begun);
    }
    // The policy in force.
    if let (Ok(()), Some(authorization)) = (&admitted, &conn.app().authorization) {
        admitted = authorization.admit(call, path).map(|(permit, places)| {
            guard.permitted(permit);
            call.places = places;
        });
    }
    slow_down(call, path, admitted)
}

/// Whoever fails to authenticate again and again from one address is told to wait.
fn slow_down(call: &Call, path: &str, admitted: Result<(), Status>) -> Result<(), Status> {
    match (&admitted, &call.conn.app().limiter, call.conn.ending()) {
        (Err(refused), Some(limiter), None) if refused.code() == Code::Unauthenticated => {
            limiter.failed(call.address(), path, call.begun).and(admitted)
        }
        _ => admitted,
    }
}

/// Identity is checked per call: a connection may have outlived it.
fn still_trusted(conn: &Shared, now: Timestamp) -> Result<(), Status> {
    if let Some(status) = conn.ending() {
        return Err(status);
    }
    match conn.peer.not_after {
        Some(end) if now >= end => Err(Status::unauthenticated("identity expired")),
        _ => Ok(()),
    }
}

/// One call, from its first header to its last trailer. Dropped before its end: the client went away.
pub(crate) struct Call {
    conn: Arc<Shared>,
    peer: Arc<Peer>,
    /// What the caller's token claims.
    claims: Option<RoleClaims>,
    method: usize,
    /// For whom the peer speaks, if it is a trusted gateway and says so.
    delegated: Option<Principal>,
    pub(crate) id: HeaderValue,
    pub(crate) begun: Instant,
    pub(crate) at: Timestamp,
    pub(crate) trail: Trail,
    /// Its places among the open streams that rules limit.
    places: Vec<Place>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) correlation: Option<HeaderValue>,
    finished: bool,
}

impl Call {
    fn begin(
        conn: Arc<Shared>,
        (method, at): (usize, Timestamp),
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Self {
        let number = conn.begin();
        let app = conn.app();
        let call = Self {
            method,
            peer: caller.peer.clone(),
            claims: caller.proof.as_ref().and_then(|p| p.identity.claims.clone()),
            delegated: None,
            id: request_id(headers).unwrap_or_else(|| {
                let made = format!("{}-{:x}-{number:x}", app.instance, conn.peer.conn_id);
                HeaderValue::from_maybe_shared(bytes::Bytes::from(made))
                    .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
            }),
            begun: Instant::now(),
            at,
            trail: Trail::new(app.config.audit.is_some()),
            places: Vec::new(),
            user_agent: headers.get(USER_AGENT).cloned(),
            correlation: headers.get(CORRELATION_ID).cloned(),
            finished: false,
            conn,
        };
        call.method().metrics.started.inc();
        access::started(&call);
        call
    }

    pub(crate) fn method(&self) -> &Method {
        self.conn.app().methods.get(self.method)
    }

    pub(crate) fn conn(&self) -> &Shared {
        &self.conn
    }

    /// The number of its method.
    pub(crate) fn number(&self) -> usize {
        self.method
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// For whom the peer speaks.
    pub(crate) fn delegated(&self) -> Option<&Principal> {
        self.delegated.as_ref()
    }

    /// Who asks to be let in.
    pub(crate) fn asking(&self) -> Asking<'_> {
        let (claims, delegated) = (self.claims.as_ref(), self.delegated());
        Asking { own: &self.peer.principal, claims, delegated }
    }

    /// Who calls, or for whom it is called.
    pub(crate) fn principal(&self) -> &Principal {
        self.delegated.as_ref().unwrap_or(&self.peer().principal)
    }

    /// The address it comes from, as far as it is known.
    fn address(&self) -> IpAddr {
        self.peer().real_addr.unwrap_or(self.peer().addr).ip()
    }

    pub(crate) fn peer_arc(&self) -> Arc<Peer> {
        self.peer.clone()
    }

    /// Nobody is authenticated: why stays here.
    fn note_unproved(&self, failure: &token::Failure) {
        tracing::warn!(
            request_id = self.id.to_str().unwrap_or_default(),
            peer = %self.peer.addr,
            method = self.method().path.as_str(),
            reason = failure.reason,
            detail = failure.detail.as_str(),
            "not authenticated"
        );
    }

    /// The call is over; `last` are the headers or trailers that say so.
    pub(crate) fn finish(mut self, code: Code, last: &mut HeaderMap) {
        if code == Code::Internal {
            status::rename_codec_text(last);
        }
        status::bound(last);
        self.record(code, || status::message_of(last));
        last.insert(REQUEST_ID, self.id.clone());
    }

    fn record(&mut self, code: Code, message: impl FnOnce() -> String) {
        self.finished = true;
        let metrics = &self.method().metrics;
        let number = usize::try_from(code as i32).unwrap_or(2);
        metrics.handled[number].inc();
        metrics.seconds.observe(self.begun.elapsed().as_secs_f64());
        access::finished(self, code, CODES[number], message);
        audit::finished(self, code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            let hung_up = self.method().route.ends_by_hanging_up() && self.conn.ending().is_none();
            let code = if hung_up { Code::Ok } else { Code::Cancelled };
            self.record(code, || "the client went away".to_owned());
        }
        self.conn.over();
    }
}

/// A request id that a client may choose: visible ASCII, not too long.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(REQUEST_ID)?;
    let bytes = value.as_bytes();
    let good = (1..=REQUEST_ID_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    good.then(|| value.clone())
}

/// The answer to a request that is no gRPC call, as other gRPC servers give it.
fn not_grpc<B>(request: &Request<B>) -> Option<Response<ResponseBody>> {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let (status, code, text) = match content_type.strip_prefix(b"application/grpc") {
        Some([] | [b'+' | b';', ..]) if *request.method() == HttpMethod::POST => return None,
        Some([] | [b'+' | b';', ..]) => {
            let method = request.method().as_str().as_bytes();
            let text =
                [b"Received a HEADERS frame with :method \"", method, b"\" which should be POST"].concat();
            (StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text)
        }
        _ => {
            let text = [b"invalid gRPC request content-type \"", content_type, b"\""].concat();
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text)
        }
    };
    Some(plain(status, code, &text))
}

/// A response of headers alone, with an HTTP status of its own.
fn plain(status: StatusCode, code: Code, text: &[u8]) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::none());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(status::GRPC_STATUS, HeaderValue::from(code as i32));
    headers.insert(GRPC_MESSAGE, message::header(text));
    response
}

fn malformed_timeout(call: Call, error: timeout::Malformed) -> Response<ResponseBody> {
    let text = format!("malformed grpc-timeout: {error}");
    let mut response = plain(StatusCode::BAD_REQUEST, Code::Internal, text.as_bytes());
    call.finish(Code::Internal, response.headers_mut());
    response
}
