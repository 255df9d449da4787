//! A node with an identity, and the program run beside it.

use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{Accepted, AcceptorConfig, Identity, WorkloadConfig, accept_loop};
use dir_proto::directory::admin::v1::admin_service_server::{AdminService, AdminServiceServer};
use dir_proto::directory::admin::v1::{
    Bundle, ExplainAccessRequest, ExplainAccessResponse, ExplainOwnAccessRequest, GetIdentityRequest,
    GetIdentityResponse, GetIndexStatusRequest, GetIndexStatusResponse,
};
use dir_runtime::SystemClock;
use futures::StreamExt;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

pub(crate) const ID: &str = "spiffe://example.org/node";

/// An accepted connection as tonic takes it.
struct Conn(Accepted);

impl Connected for Conn {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0.io).poll_shutdown(cx)
    }
}

/// What a node answers.
#[derive(Clone)]
pub(crate) enum Node {
    /// One bundle whose root lives so many more seconds.
    Holds { root_left: i64 },
    /// Refuses.
    Denies,
}

#[tonic::async_trait]
impl AdminService for Node {
    async fn get_identity(
        &self,
        _request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let Node::Holds { root_left } = self else {
            return Err(Status::permission_denied("not allowed to access GetIdentity"));
        };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(GetIdentityResponse {
            version: "1.2.3".into(),
            now: at(seconds),
            spiffe_id: ID.into(),
            trust_domain: "example.org".into(),
            svid_not_after: at(seconds + 3600),
            bundles: vec![Bundle {
                trust_domain: "example.org".into(),
                source: "workload_api".into(),
                authorities: 1,
                updated_at: at(seconds),
                earliest_expiry: at(seconds + root_left),
            }],
            ..GetIdentityResponse::default()
        }))
    }

    async fn get_index_status(
        &self,
        _request: Request<GetIndexStatusRequest>,
    ) -> Result<Response<GetIndexStatusResponse>, Status> {
        Err(Status::unimplemented("get_index_status"))
    }

    async fn explain_own_access(
        &self,
        _request: Request<ExplainOwnAccessRequest>,
    ) -> Result<Response<ExplainAccessResponse>, Status> {
        Err(Status::unimplemented("explain_own_access"))
    }

    async fn explain_access(
        &self,
        _request: Request<ExplainAccessRequest>,
    ) -> Result<Response<ExplainAccessResponse>, Status> {
        Err(Status::unimplemented("explain_access"))
    }
}

pub(crate) struct World {
    _dir: tempfile::TempDir,
    api: DevWorkloadApi,
    pub(crate) address: String,
}

fn config(socket: &Path) -> DevConfig {
    DevConfig {
        socket: socket.to_owned(),
        trust_domains: vec![DevDomain {
            name: "example.org".into(),
            svids: vec![DevSvid {
                spiffe_id: ID.into(),
                dns_names: vec!["localhost".into()],
                hint: String::new(),
            }],
            federates_with: Vec::new(),
        }],
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(24 * 3600),
    }
}

impl World {
    pub(crate) async fn start(node: Node) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let api = DevWorkloadApi::start(config(&dir.path().join("s.sock")), clock.clone()).await.unwrap();
        let registry = prometheus::Registry::new();
        let workload = WorkloadConfig { socket: api.socket_uri(), ..WorkloadConfig::default() };
        let identity = Identity::obtain(workload, clock.clone(), &registry).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let accepted = accept_loop(listener, identity, AcceptorConfig::default(), clock, &registry, stop);
        let incoming = accepted.map(|accepted| std::io::Result::Ok(Conn(accepted)));
        let server = tonic::transport::Server::builder()
            .add_service(AdminServiceServer::new(node))
            .serve_with_incoming(incoming);
        tokio::spawn(async move { server.await.unwrap() });
        Self { _dir: dir, api, address }
    }

    /// `dir-admin federation check` against this node, with these arguments after it.
    pub(crate) async fn check(&self, args: &[&str]) -> Ran {
        let socket = self.api.socket_uri();
        let env = [
            ("DIRECTORY_CLIENT_SERVER_ADDRESS", self.address.as_str()),
            ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket.as_str()),
        ];
        run(&env, &[&["federation", "check"], args].concat()).await
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary with this environment and no other.
pub(crate) async fn run(env: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dir-admin"));
    command.env_clear().envs(env.iter().copied()).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(Duration::from_secs(60), command.output());
    let output = done.await.expect("the job ends by itself").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
