//! The open stream to the Workload API: connects, asks, hands on, and tries again.

use crate::config::StartupWait;
use crate::error::WaitReason;
use crate::proto::{
    FETCH_JWT_BUNDLES, FETCH_X509_SVID, JwtBundlesRequest, JwtBundlesResponse, SECURITY_HEADER,
    X509SvidRequest, X509SvidResponse,
};
use rand::Rng;
use spiffe::transport::{Endpoint, TransportError};
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};

/// Largest message that is read, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// A streaming call of the Workload API: every message is the whole state, anew.
pub(crate) trait Feed: 'static {
    type Request: prost::Message + Default + 'static;
    type Response: prost::Message + Default + 'static;
    const PATH: &'static str;
}

/// SVIDs with all X.509 bundles.
pub(crate) enum X509Feed {}

impl Feed for X509Feed {
    type Request = X509SvidRequest;
    type Response = X509SvidResponse;
    const PATH: &'static str = FETCH_X509_SVID;
}

/// JWT bundles.
pub(crate) enum JwtBundlesFeed {}

impl Feed for JwtBundlesFeed {
    type Request = JwtBundlesRequest;
    type Response = JwtBundlesResponse;
    const PATH: &'static str = FETCH_JWT_BUNDLES;
}

/// What the stream tells.
pub(crate) enum FeedEvent<M> {
    /// The stream is open.
    Opened,
    /// The whole state, anew.
    Message(Box<M>),
    /// The stream ended or could not be opened; it is tried again unless `fatal`.
    Failed {
        /// Why.
        reason: WaitReason,
        /// Trying again cannot help.
        fatal: bool,
    },
}

/// Starts the task. It ends when `stop` fires or the receiver is gone.
pub(crate) fn spawn<F: Feed>(
    endpoint: Endpoint,
    backoff: StartupWait,
    stop: CancellationToken,
) -> mpsc::Receiver<FeedEvent<F::Response>> {
    let (tx, rx) = mpsc::channel(4);
    tokio::spawn(async move {
        let _ = stop.run_until_cancelled(run::<F>(&endpoint, &backoff, &tx)).await;
    });
    rx
}

async fn run<F: Feed>(endpoint: &Endpoint, backoff: &StartupWait, tx: &mpsc::Sender<FeedEvent<F::Response>>) {
    let mut pause = backoff.initial;
    loop {
        let mut good = false;
        let (reason, fatal) = session::<F>(endpoint, tx, &mut good).await;
        if good {
            pause = backoff.initial;
        }
        if tx.send(FeedEvent::Failed { reason, fatal }).await.is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = pause.saturating_mul(2).min(backoff.max);
    }
}

/// One connection from its start to its end.
async fn session<F: Feed>(
    endpoint: &Endpoint,
    tx: &mpsc::Sender<FeedEvent<F::Response>>,
    good: &mut bool,
) -> (WaitReason, bool) {
    let mut stream = match open::<F>(endpoint).await {
        Ok(stream) => stream,
        Err(failure) => return failure,
    };
    if tx.send(FeedEvent::Opened).await.is_err() {
        return (WaitReason::Starting, true);
    }
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                *good = true;
                if tx.send(FeedEvent::Message(Box::new(message))).await.is_err() {
                    return (WaitReason::Starting, true);
                }
            }
            Ok(None) => return (WaitReason::Connection("the agent ended the stream".to_owned()), false),
            Err(status) => return from_status(&status),
        }
    }
}

async fn open<F: Feed>(endpoint: &Endpoint) -> Result<Streaming<F::Response>, (WaitReason, bool)> {
    let channel = spiffe::transport::connect(endpoint).await.map_err(|e| (from_transport(&e), false))?;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
    grpc.ready().await.map_err(|e| (WaitReason::Connection(e.to_string()), false))?;
    let mut request = tonic::Request::new(F::Request::default());
    request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
    let codec = tonic_prost::ProstCodec::<F::Request, F::Response>::default();
    let path = PathAndQuery::from_static(F::PATH);
    let response = grpc.server_streaming(request, path, codec).await.map_err(|s| from_status(&s))?;
    Ok(response.into_inner())
}

pub(crate) fn from_status(status: &Status) -> (WaitReason, bool) {
    let text = || format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::PermissionDenied => (WaitReason::NoIdentityIssued, false),
        Code::Unavailable if status.message().contains("attestation") => {
            (WaitReason::AttestationFailed, false)
        }
        // The specification: these two are not retried.
        Code::InvalidArgument | Code::Unimplemented => (WaitReason::NotServed(text()), true),
        _ => (WaitReason::Connection(text()), false),
    }
}

pub(crate) fn from_transport(error: &TransportError) -> WaitReason {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::NotFound => return WaitReason::SocketAbsent,
                ErrorKind::PermissionDenied => return WaitReason::SocketPermission,
                ErrorKind::ConnectionRefused => return WaitReason::SocketRefused,
                _ => {}
            }
        }
        last = cause.to_string();
        source = cause.source();
    }
    WaitReason::Connection(last)
}

/// Up to a tenth less, so that a herd of workloads does not knock in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.9..=1.0))
}
