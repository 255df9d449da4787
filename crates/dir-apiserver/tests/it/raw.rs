//! An HTTP/2 connection over mTLS without a client library's comfort: what the server does to it is seen as it is.

use crate::node::PATIENCE;
use bytes::Bytes;
use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_runtime::SystemClock;
use h2::RecvStream;
use h2::client::SendRequest;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const LISTEN: &str = "/agntcy.dir.events.v1.EventService/Listen";
/// A gRPC message of no bytes.
const EMPTY: [u8; 5] = [0; 5];

/// Bounds a wait that has no bound of its own.
pub(crate) async fn soon<F: Future>(what: &str, wait: F) -> F::Output {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Makes connections with the SVID of a Workload API as it is at that moment.
pub(crate) async fn connector(socket: &str) -> (Identity, Connector) {
    let config = WorkloadConfig { socket: socket.to_owned(), ..WorkloadConfig::default() };
    let metrics = prometheus::Registry::new();
    let identity = Identity::obtain(config, Arc::new(SystemClock), &metrics);
    let identity = soon("an SVID", identity).await.unwrap();
    (identity.clone(), Connector::new(identity, ServerCheck::AnyKnown))
}

/// One connection.
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) closed: JoinHandle<Result<(), h2::Error>>,
}

impl Wire {
    /// Dials. A server that refuses our certificate is noticed here or at the first call.
    pub(crate) async fn dial(connector: &Connector, port: u16) -> anyhow::Result<Self> {
        let io = TcpStream::connect(("127.0.0.1", port)).await?;
        let io = connector.connect(io, "localhost").await?;
        let (requests, connection) = h2::client::handshake(io).await?;
        Ok(Self { requests, closed: tokio::spawn(connection) })
    }

    /// Opens a stream with one empty message on a server-streaming method.
    pub(crate) async fn open(&mut self, path: &str) -> anyhow::Result<Open> {
        let request = http::Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut ready = self.requests.clone().ready().await?;
        let (response, mut body) = ready.send_request(request, false)?;
        body.send_data(Bytes::from_static(&EMPTY), true)?;
        Ok(Open(soon("response headers", response).await?.into_body()))
    }

    /// Waits for GOAWAY: from then on there are no new streams.
    pub(crate) async fn goaway(&self) {
        let told = async {
            loop {
                match self.requests.clone().ready().await {
                    Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    Err(error) => return error,
                }
            }
        };
        let error = soon("GOAWAY", told).await;
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    }
}

/// An open stream of answers.
pub(crate) struct Open(RecvStream);

impl Open {
    /// Reads to the end: status code and message of the trailers.
    pub(crate) async fn end(mut self) -> Result<(String, String), h2::Error> {
        while let Some(data) = self.0.data().await {
            let taken = data?.len();
            self.0.flow_control().release_capacity(taken)?;
        }
        let trailers = self.0.trailers().await?.unwrap_or_default();
        let text = |name: &str| {
            trailers.get(name).map_or_else(String::new, |v| v.to_str().unwrap().replace("%20", " "))
        };
        Ok((text("grpc-status"), text("grpc-message")))
    }
}

/// UNAUTHENTICATED, as trailers spell it.
pub(crate) const UNAUTHENTICATED: &str = "16";
/// UNAVAILABLE, as trailers spell it.
pub(crate) const UNAVAILABLE: &str = "14";
