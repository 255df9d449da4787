//! The gRPC server on the socket.

use super::DevError;
use super::authority::Tolerant;
use super::service::WorkloadService;
use super::socket::{self, SocketFile};
use super::world::{Endpoint, World};
use futures::StreamExt;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A socket that is being served.
pub(crate) struct Serving {
    stop: DropGuard,
    task: JoinHandle<()>,
    _file: SocketFile,
}

impl Serving {
    pub(crate) async fn start(
        path: &Path,
        endpoint: Arc<Endpoint>,
        world: Arc<World>,
    ) -> Result<Self, DevError> {
        let (listener, file) = socket::bind(path).await?;
        let stop = CancellationToken::new();
        let service = WorkloadService::new(endpoint, world, stop.clone());
        let ended = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener).map(|io| io.map(Tolerant::new));
            let mut server = tonic::transport::Server::builder();
            let result = server.add_service(service).serve_with_incoming_shutdown(incoming, ended).await;
            if let Err(error) = result {
                tracing::error!(%error, "the development Workload API ended");
            }
        });
        Ok(Self { stop: stop.drop_guard(), task, _file: file })
    }

    /// Ends every stream, then the server; the socket file goes with it.
    pub(crate) async fn stop(self) {
        self.stop.disarm().cancel();
        let _ = self.task.await;
    }
}
