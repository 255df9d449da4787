//! `google.rpc.RetryInfo`: when a refused call may come again (google/rpc/error_details.proto, google/rpc/status.proto).

use bytes::Bytes;
use prost::Message;
use tonic::Code;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The value of `grpc-status-details-bin`.
pub(crate) fn details(message: &str, wait_ms: u64) -> Bytes {
    let delay = Delay {
        seconds: i64::try_from(wait_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(wait_ms % 1000).unwrap_or_default() * 1_000_000,
    };
    let info = RetryInfo { retry_delay: Some(delay) };
    let status = RpcStatus {
        code: Code::ResourceExhausted as i32,
        message: message.to_owned(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    status.encode_to_vec().into()
}
