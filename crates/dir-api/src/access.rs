//! The access log: one line when a call starts, one when it is finished. Costs nothing while it is filtered out.

use crate::layers::Call;
use tonic::Code;
use tracing::Level;

/// Target of the lines, for filters.
const TARGET: &str = "dir_api::access";

/// The level of a finished call.
const fn level(code: Code) -> Level {
    match code {
        Code::Ok
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted => Level::INFO,
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange => Level::WARN,
        Code::Internal | Code::DataLoss | Code::Unknown | Code::Unimplemented | Code::Unavailable => {
            Level::ERROR
        }
    }
}

/// The fields that both lines have, in the order of the contract, then those of one line alone.
macro_rules! line {
    ($level:expr, $call:expr, $text:literal $(, $($own:tt)*)?) => {
        tracing::event!(
            target: TARGET,
            $level,
            protocol = "grpc",
            grpc.component = "server",
            grpc.service = $call.method().service.as_str(),
            grpc.method = $call.method().name.as_str(),
            grpc.method_type = $call.method().kind,
            peer.address = %$call.peer().addr,
            grpc.start_time = %$call.at,
            $($($own)*,)?
            spiffe_id = $call.peer().principal.spiffe_id().map(|id| id.as_str()),
            request_id = text(Some(&$call.id)),
            correlation_id = text($call.correlation.as_ref()),
            user_agent = text($call.user_agent.as_ref()),
            $text
        )
    };
}

fn text(value: Option<&http::HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

pub(crate) fn started(call: &Call) {
    if call.method().quiet {
        line!(Level::DEBUG, call, "started call");
    } else {
        line!(Level::INFO, call, "started call");
    }
}

/// `error` is asked for only when the line is written.
pub(crate) fn finished(call: &Call, code: Code, spelled: &str, error: impl FnOnce() -> String) {
    // Whole microseconds: three decimals are all that is printed.
    let ms = (call.begun.elapsed().as_secs_f64() * 1e6).round() / 1000.0;
    if call.method().quiet && level(code) == Level::INFO {
        line!(Level::DEBUG, call, "finished call", grpc.code = spelled, grpc.time_ms = ms);
        return;
    }
    match level(code) {
        Level::INFO if code == Code::Ok => {
            line!(Level::INFO, call, "finished call", grpc.code = spelled, grpc.time_ms = ms);
        }
        Level::INFO if tracing::enabled!(target: TARGET, Level::INFO) => {
            line!(
                Level::INFO,
                call,
                "finished call",
                grpc.code = spelled,
                grpc.error = error(),
                grpc.time_ms = ms
            );
        }
        Level::WARN if tracing::enabled!(target: TARGET, Level::WARN) => {
            line!(
                Level::WARN,
                call,
                "finished call",
                grpc.code = spelled,
                grpc.error = error(),
                grpc.time_ms = ms
            );
        }
        Level::ERROR if tracing::enabled!(target: TARGET, Level::ERROR) => {
            line!(
                Level::ERROR,
                call,
                "finished call",
                grpc.code = spelled,
                grpc.error = error(),
                grpc.time_ms = ms
            );
        }
        _ => {}
    }
}
