//! What a gRPC status means to the one who called.

use crate::error::{ClientError, Kind};
use crate::watch::Faults;
use std::error::Error;
use tonic::{Code, Status};

/// tonic's words for an answer that is HTTP but not gRPC.
const NOT_GRPC: &str = "mapped from HTTP status code";
/// The words by which a server says that it limits calls, as opposed to sizes.
const RATE_LIMIT: &str = "rate limit";

/// The words by which a server ends the calls of a connection whose certificate has come to its end.
const IDENTITY_EXPIRED: &str = "identity expired";

/// The words of servers and proxies about headers, of a call or of an answer, that are larger than one side takes.
const HEADERS_TOO_LARGE: [&str; 3] =
    ["metadata size", "header list size", "mapped from HTTP status code 431"];

/// Whether the connection broke under the call (as opposed to a server that answered, or one that was never reached),
/// or the server asked to come back, or the connection has outlived the certificate it was made with: the cases in
/// which the same call may work on another connection, which is made with the credentials of its own moment.
pub(crate) fn is_break(status: &Status, faults: &Faults) -> bool {
    let hopeless = faults.get().is_some_and(|fault| fault.kind() != Kind::Disconnected);
    // A handshake that was cut off is a break like any other: a server that stops does that.
    if hopeless || dial_error(status).is_some_and(|error| error.kind() != Kind::Disconnected) {
        return false;
    }
    if unreadable(status) {
        return false;
    }
    let asked_back = match status.code() {
        Code::Unavailable => !status.message().contains(NOT_GRPC),
        Code::Unauthenticated => status.message() == IDENTITY_EXPIRED,
        _ => false,
    };
    status.source().is_some() || asked_back
}

/// Whether the call never left this process.
pub(crate) fn is_unsent(status: &Status) -> bool {
    chain(status).any(|e| e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

/// The error that a failed call is reported as. `what` names the call and its target.
pub(crate) fn explain(what: &str, status: &Status, faults: &Faults) -> ClientError {
    if let Some(error) = dial_error(status) {
        return error.clone();
    }
    if status.source().is_some() {
        return faults.get().unwrap_or_else(|| {
            if unreadable(status) || perhaps_unreadable(status) {
                return too_much_said(what, status);
            }
            let cause = format!("the connection broke: {}", root_cause(status));
            ClientError::new(Kind::Disconnected, what, cause, "")
        });
    }
    let message = status.message();
    if message.contains(NOT_GRPC) && !is_about_headers(message) {
        return not_grpc(what, status);
    }
    let cause = if message.is_empty() { format!("{:?}", status.code()) } else { message.to_owned() };
    ClientError::new(kind_of(status.code(), message), what, cause, "")
}

/// Whether this side of HTTP/2 refused what the server answered. It answers the same again.
fn unreadable(status: &Status) -> bool {
    chain(status)
        .filter_map(|e| e.downcast_ref::<h2::Error>())
        .any(|e| e.is_library() && (e.is_reset() || e.is_go_away()))
}

/// Whether the server had answered in full when it ended the stream (RFC 9113, section 8.1), and yet there is no answer:
/// it was refused here, and that is forgotten over the server's word. It may be tried again, for want of certainty.
fn perhaps_unreadable(status: &Status) -> bool {
    let mut errors = chain(status).filter_map(|e| e.downcast_ref::<h2::Error>());
    errors.any(|e| e.is_reset() && e.reason() == Some(h2::Reason::NO_ERROR))
}

fn too_much_said(what: &str, status: &Status) -> ClientError {
    let cause = format!(
        "the answer is not taken: its headers are larger than {} KiB, or malformed ({})",
        crate::client::ANSWER_HEADERS / 1024,
        root_cause(status)
    );
    let next = "the same call is answered in the same way: the server may repeat a long value of it in an error's \
                text; shorten what is sent, or update the server";
    ClientError::new(Kind::Internal, what, cause, next)
}

fn is_about_headers(message: &str) -> bool {
    HEADERS_TOO_LARGE.iter().any(|words| message.contains(words))
}

fn kind_of(code: Code, message: &str) -> Kind {
    match code {
        Code::ResourceExhausted | Code::Internal | Code::Unknown if is_about_headers(message) => {
            Kind::TooLarge
        }
        Code::InvalidArgument => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Kind::Precondition,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::PermissionDenied => Kind::Denied,
        Code::ResourceExhausted if message.contains("larger than max") => Kind::TooLarge,
        Code::ResourceExhausted if message.contains(RATE_LIMIT) => Kind::RateLimited,
        Code::ResourceExhausted => Kind::Unavailable,
        Code::OutOfRange => Kind::TooLarge,
        Code::Unavailable => Kind::Unavailable,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::Cancelled => Kind::Cancelled,
        Code::Unimplemented => Kind::VersionSkew,
        Code::DataLoss => Kind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal => Kind::Internal,
    }
}

fn not_grpc(what: &str, status: &Status) -> ClientError {
    let kind = if status.code() == Code::Unavailable { Kind::Unavailable } else { Kind::Protocol };
    let cause = status.message().replace("grpc-status header missing, ", "the answer is HTTP, not gRPC: ");
    let next = "a proxy or another program answers at this address: check host and port, and that the proxy passes \
                gRPC through";
    ClientError::new(kind, what, cause, next)
}

/// The failure to bring a connection up, if that is why the call failed.
fn dial_error(status: &Status) -> Option<&ClientError> {
    chain(status).find_map(|e| e.downcast_ref::<ClientError>())
}

fn root_cause(status: &Status) -> String {
    chain(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut at = status.source();
    std::iter::from_fn(move || {
        let error = at?;
        at = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        let faults = Faults::default();
        for (code, text, kind) in [
            (Code::InvalidArgument, "record cid is required", Kind::Invalid),
            (Code::NotFound, "record not found", Kind::NotFound),
            (Code::Unauthenticated, "not authenticated", Kind::Unauthenticated),
            (Code::PermissionDenied, "not allowed to access /x", Kind::Denied),
            (Code::ResourceExhausted, "rate limit exceeded", Kind::RateLimited),
            (Code::ResourceExhausted, "grpc: received message larger than max (5 vs. 4)", Kind::TooLarge),
            (Code::ResourceExhausted, "too many streams", Kind::Unavailable),
            (Code::ResourceExhausted, "received metadata size exceeds hard limit", Kind::TooLarge),
            (Code::Internal, "header list size to send violates the maximum size", Kind::TooLarge),
            (Code::Unknown, "grpc-status header missing, mapped from HTTP status code 431", Kind::TooLarge),
            (Code::OutOfRange, "decoded message length too large", Kind::TooLarge),
            (Code::Unavailable, "draining", Kind::Unavailable),
            (Code::DeadlineExceeded, "late", Kind::Timeout),
            (Code::Unimplemented, "", Kind::VersionSkew),
            (Code::DataLoss, "digest", Kind::Corrupt),
            (Code::Unknown, "?", Kind::Internal),
        ] {
            let error = explain("push to x", &Status::new(code, text), &faults);
            assert_eq!(error.kind(), kind, "{code:?} {text}");
            assert!(error.to_string().starts_with("push to x: "), "{error}");
        }
    }

    #[test]
    fn only_breaks_are_worth_another_connection() {
        let faults = Faults::default();
        assert!(is_break(&Status::unavailable("draining"), &faults));
        assert!(!is_break(&Status::not_found("x"), &faults));
        assert!(is_break(&Status::unauthenticated("identity expired"), &faults));
        assert!(!is_break(&Status::unauthenticated("identity no longer trusted"), &faults));
        let broke = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(is_break(&broke, &faults));
        assert_eq!(explain("x", &broke, &faults).kind(), Kind::Disconnected);

        let refused = ClientError::new(Kind::Refused, "connect to y", "connection refused", "");
        let dial = Status::from_error(Box::new(refused.clone()));
        assert!(!is_break(&dial, &faults));
        assert_eq!(explain("x", &dial, &faults), refused);

        faults.set(ClientError::new(Kind::TlsRefused, "connect to y", "no", ""));
        assert!(!is_break(&broke, &faults));
        assert_eq!(explain("x", &broke, &faults).kind(), Kind::TlsRefused);
    }

    #[test]
    fn an_answer_of_a_proxy_is_named() {
        let faults = Faults::default();
        let status = Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404");
        assert_eq!(explain("x", &status, &faults).kind(), Kind::Protocol);
        let status = Status::unavailable("grpc-status header missing, mapped from HTTP status code 503");
        assert!(!is_break(&status, &faults));
        assert_eq!(explain("x", &status, &faults).kind(), Kind::Unavailable);
    }
}
