//! Identity of the benchmark's processes: SVIDs from the Workload API that the report starts.

use dir_core::Clock;
use dir_identity::{Accepted, AcceptorConfig, Connector, Identity, ServerCheck, WorkloadConfig, accept_loop};
use dir_runtime::SystemClock;
use futures::Stream;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// The name in the servers' SVID.
pub(crate) const SERVER_NAME: &str = "localhost";

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// This process's identity.
pub(crate) async fn obtain(socket: String) -> anyhow::Result<Identity> {
    let config = WorkloadConfig { socket, ..WorkloadConfig::default() };
    Ok(Identity::obtain(config, clock(), &prometheus::Registry::new()).await?)
}

/// The product's acceptor, without caps per peer: every client of a benchmark has the same identity.
pub(crate) fn accept(
    listener: TcpListener,
    identity: Identity,
) -> impl Stream<Item = Accepted> + Send + 'static {
    let config =
        AcceptorConfig { max_per_identity: 0, max_per_ip: 0, max_total: 0, ..AcceptorConfig::default() };
    accept_loop(listener, identity, config, clock(), &prometheus::Registry::new(), CancellationToken::new())
}

/// One mTLS connection to a port of this machine.
pub(crate) async fn channel(identity: &Identity, port: u16) -> anyhow::Result<Channel> {
    let connector = Arc::new(Connector::new(identity.clone(), ServerCheck::TrustDomains(Vec::new())));
    let endpoint = Endpoint::from_static("https://localhost")
        .initial_connection_window_size(4 * 1024 * 1024)
        .initial_stream_window_size(1024 * 1024);
    let service = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(tcp, SERVER_NAME).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls))
        }
    });
    Ok(endpoint.connect_with_connector(service).await?)
}
