//! Every status that leaves the server is made here.

use crate::message::{self, GRPC_MESSAGE};
use crate::retry;
use dir_core::bucket::Wait;
use dir_core::{Class, Classified};
use dir_engine::EngineError;
use dir_proto::convert::ConvertError;
use dir_proto::wire::WireError;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Header and trailer with the outcome of a call.
pub(crate) const GRPC_STATUS: &str = "grpc-status";
/// How texts of the generated codec begin.
const GENERATED_CODEC: &str = "failed to decode Protobuf message: ";
/// Names of generated code that are not those of the API: what they are there.
const GENERATED_NAMES: [(&str, &str); 2] = [("SearchCiDsRequest", "SearchCIDsRequest"), (".r#type", ".type")];
/// Longest path that is repeated where a text is sent twice: as the text, and in the details.
const PATH_MAX: usize = 512;

/// The code of an error class.
pub(crate) const fn code(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::FailedPrecondition => Code::FailedPrecondition,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::Denied => Code::PermissionDenied,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Unavailable => Code::Unavailable,
        Class::Timeout => Code::DeadlineExceeded,
        Class::Cancelled => Code::Cancelled,
        Class::Unimplemented => Code::Unimplemented,
        Class::Corrupt => Code::DataLoss,
        Class::Internal => Code::Internal,
    }
}

/// The status of a use case that failed. What must not reach the client goes to the log, under the request id.
pub(crate) fn engine(error: &EngineError, request_id: &HeaderValue) -> Status {
    if let Some(detail) = error.detail() {
        let request_id = request_id.to_str().unwrap_or_default();
        match error.class() {
            Class::Invalid | Class::NotFound => {}
            Class::Internal | Class::Corrupt => tracing::error!(request_id, %error, detail, "call failed"),
            _ => tracing::warn!(request_id, %error, detail, "call failed"),
        }
    }
    Status::new(code(error.class()), error.to_string())
}

/// The same of a job. What its store does not offer is no method that the server lacks.
pub(crate) fn job(error: &EngineError, request_id: &HeaderValue) -> Status {
    let status = engine(error, request_id);
    if status.code() == Code::Unimplemented {
        return Status::failed_precondition(status.message());
    }
    status
}

/// The status of a query that has no meaning.
pub(crate) fn convert(error: ConvertError) -> Status {
    Status::new(code(error.class()), error.to_string())
}

/// The status of a pushed message that is no document: broken bytes are the transport's matter, a document
/// without canonical form is a record that is not valid.
pub(crate) fn pushed(error: &WireError) -> Status {
    match error {
        WireError::Malformed(_) | WireError::Utf8 => unmarshal(error),
        _ => Status::new(code(error.class()), format!("record validation failed: [{error}]")),
    }
}

/// Bytes that do not parse.
pub(crate) fn unmarshal(error: &dyn std::fmt::Display) -> Status {
    let text = error.to_string();
    let cause = text.strip_prefix(GENERATED_CODEC).unwrap_or(&text);
    let cause = GENERATED_NAMES.iter().fold(cause.to_owned(), |cause, (ours, api)| cause.replace(ours, api));
    Status::internal(format!("grpc: failed to unmarshal the received message: {cause}"))
}

/// A message above the receive limit.
pub(crate) fn received_too_large(size: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({size} vs. {limit})"))
}

/// More of unfinished messages than is held for a connection, or for all of them.
pub(crate) fn too_many_unfinished(whose: &str) -> Status {
    Status::resource_exhausted(format!(
        "too many messages of this {whose} have begun and not ended; send fewer large messages at once"
    ))
}

/// A message has begun, and the rest of it does not come.
pub(crate) fn rest_missing(after: Duration) -> Status {
    Status::resource_exhausted(format!("the rest of a message did not come within {}s", after.as_secs()))
}

/// An answer of many things above the send limit; `todo` says how to ask for less.
pub(crate) fn answer_too_large(what: &str, size: usize, limit: usize, todo: &str) -> Status {
    Status::resource_exhausted(format!("failed to send {what}: larger than max ({size} vs. {limit}); {todo}"))
}

/// A message of a stream above the send limit; `what` is `record` or `record metadata`.
pub(crate) fn send_too_large(what: &str, size: usize, limit: usize) -> Status {
    Status::internal(format!(
        "failed to send {what}: rpc error: code = ResourceExhausted desc = trying to send message larger than max ({size} vs. {limit})"
    ))
}

/// A call for which a bucket has no token. When it may come again is said twice: as `google.rpc.RetryInfo` in the
/// details and in milliseconds as `retry-after-ms`; a bucket that never has one says nothing.
pub(crate) fn rate_limited(path: &str, wait: Wait) -> Status {
    let path = message::shortened(path, PATH_MAX);
    let text = format!(
        "{path} is rejected by grpc_ratelimit middleware, please retry later. \
         rpc error: code = ResourceExhausted desc = rate limit exceeded"
    );
    let Wait::For(wait) = wait else { return Status::resource_exhausted(text) };
    // Rounded up: who waits this long finds a token.
    let ms = wait.as_nanos().div_ceil(1_000_000);
    let details = retry::details(&text, u64::try_from(ms).unwrap_or(u64::MAX));
    let mut metadata = MetadataMap::new();
    metadata.insert("retry-after-ms", MetadataValue::from(u64::try_from(ms).unwrap_or(u64::MAX)));
    Status::with_details_and_metadata(Code::ResourceExhausted, text, details, metadata)
}

/// A stream beyond those that a rule of the policy gives its caller.
pub(crate) fn too_many_streams(path: &str, most: u32) -> Status {
    Status::resource_exhausted(format!(
        "{path} is rejected by grpc_ratelimit middleware, please retry later. \
         rpc error: code = ResourceExhausted desc = rate limit exceeded: {most} streams are open"
    ))
}

/// A call that cannot be audited.
pub(crate) fn audit_full() -> Status {
    Status::unavailable("the audit log cannot take more lines; try again later")
}

/// A request that makes no sense.
pub(crate) fn bad_request(text: String) -> Status {
    Status::invalid_argument(text)
}

/// A trust domain whose bundle this server does not fetch.
pub(crate) fn no_partner(domain: &dir_core::TrustDomain) -> Status {
    Status::not_found(format!("{domain} is no partner of this server (federation.trust_domains)"))
}

/// A panic, or a task that vanished.
pub(crate) fn fault() -> Status {
    Status::internal("internal server error")
}

/// Nobody is authenticated.
pub(crate) fn not_authenticated() -> Status {
    Status::unauthenticated("not authenticated")
}

/// A call without a token.
pub(crate) fn token_missing() -> Status {
    Status::unauthenticated("failed to extract token: missing authorization header")
}

/// A header that holds no bearer token.
pub(crate) fn token_malformed() -> Status {
    Status::unauthenticated("failed to extract token: invalid authorization header format")
}

/// A token that proves nothing. Which of its faults it was is nobody's business but ours.
pub(crate) fn token_refused() -> Status {
    Status::unauthenticated("invalid or expired token")
}

/// The policy does not allow the call.
pub(crate) fn not_allowed(path: &str) -> Status {
    Status::permission_denied(format!("not allowed to access {path}"))
}

/// There is no policy to judge by: nothing is let through.
pub(crate) fn authorization_unavailable() -> Status {
    Status::internal("authorization unavailable")
}

/// The caller's deadline has passed.
pub(crate) fn deadline() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// A method of the API that this server does not offer.
pub(crate) fn unimplemented(path: &str) -> Status {
    match path {
        "/agntcy.dir.sign.v1.SignService/Sign" => {
            Status::unimplemented("server-side signing not implemented - use client SDK")
        }
        _ => Status::unimplemented(format!("{path} is not implemented by this server")),
    }
}

/// A path that no service has.
pub(crate) fn unknown(path: &str) -> Status {
    let (service, method) = path.strip_prefix('/').and_then(|p| p.rsplit_once('/')).unwrap_or((path, ""));
    Status::unimplemented(format!("unknown method {method} for service {service}"))
}

/// The code in headers or trailers; absent means that they do not end a call.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The text in headers or trailers.
pub(crate) fn message_of(headers: &HeaderMap) -> String {
    Status::from_header_map(headers).map(|s| s.message().to_owned()).unwrap_or_default()
}

/// Holds the text in headers or trailers to what every client takes. Tonic escapes more than has to be: a text of many
/// blanks passes the limit only by that, and is then spelled shorter instead of cut.
pub(crate) fn bound(headers: &mut HeaderMap) {
    if headers.get(GRPC_MESSAGE).is_some_and(|sent| sent.len() > message::TEXT_MAX) {
        let text = message_of(headers);
        headers.insert(GRPC_MESSAGE, message::header(text.as_bytes()));
    }
}

/// Gives texts of the generated codec the form that clients know.
pub(crate) fn rename_codec_text(headers: &mut HeaderMap) {
    let message = message_of(headers);
    if message.starts_with(GENERATED_CODEC) {
        headers.remove(GRPC_STATUS);
        headers.remove(GRPC_MESSAGE);
        headers.extend(trailers(&unmarshal(&message)));
    }
}

/// A status as headers or trailers.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(4);
    if status.add_header(&mut map).is_err() {
        // Only metadata that is no header can fail; the code alone always is one.
        map.insert(GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    map
}

/// Every code by its number, spelled as the metrics spell it.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
