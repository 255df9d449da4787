//! A node in this process, and the program run beside it.

use dir_api::{App, AppConfig, AppDeps, Authorization, Conn, ServeConfig, plain_incoming, serve};
use dir_core::identity::IdentityStatus;
use dir_core::{Clock, Policy};
use dir_engine::{Deps, Engine, EngineConfig};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{AcceptorConfig, Identity, WorkloadConfig, accept_loop};
use dir_index::{MemoryConfig, MemoryIndex, first_seq};
use dir_oasf::BuiltinRules;
use dir_runtime::SystemClock;
use dir_store::{Limits, MemoryStore};
use futures::StreamExt;
use prometheus::Registry;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running node.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) ready: watch::Sender<bool>,
}

fn app(
    identity: Option<Arc<dyn IdentityStatus>>,
    policy: Option<Policy>,
    registry: &Registry,
) -> (App, watch::Sender<bool>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Its log begins where those of real nodes do.
    let index = MemoryConfig { first_seq: first_seq(clock.now()), ..MemoryConfig::default() };
    let deps = Deps {
        store: Arc::new(MemoryStore::new(Limits::default())),
        index: Arc::new(MemoryIndex::with_config(&index)),
        rules: Arc::new(BuiltinRules::default()),
        clock: clock.clone(),
    };
    let (ready, readiness) = watch::channel(true);
    let deps = AppDeps {
        engine: Engine::new(deps, EngineConfig::default()),
        identity,
        authorization: policy.map(|policy| {
            let authorization = Authorization::new(registry).unwrap();
            authorization.set(policy);
            authorization
        }),
        ready: readiness,
        clock,
        registry,
    };
    let config = AppConfig { version: "9.8.7".to_owned(), ..AppConfig::default() };
    (App::new(deps, config).unwrap(), ready)
}

impl Node {
    /// In plaintext.
    pub(crate) async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (app, ready) = app(None, None, &Registry::new());
        let incoming = plain_incoming(listener, Arc::new(SystemClock));
        let never = CancellationToken::new();
        tokio::spawn(serve(incoming, app, ServeConfig::default(), never.clone(), never));
        Self { address, ready }
    }

    /// With the SVID of this socket.
    pub(crate) async fn x509(socket: String) -> Self {
        Self::guarded(socket, None).await
    }

    /// With the SVID of this socket, and a policy.
    pub(crate) async fn guarded(socket: String, policy: Option<Policy>) -> Self {
        let clock = Arc::new(SystemClock);
        let registry = Registry::new();
        let workload = WorkloadConfig { socket, ..WorkloadConfig::default() };
        let identity = Identity::obtain(workload, clock.clone(), &registry).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (app, ready) = app(Some(Arc::new(identity.clone())), policy, &Registry::new());
        let never = CancellationToken::new();
        let config = AcceptorConfig::default();
        let accepted = accept_loop(listener, identity, config, clock, &registry, never.clone());
        let incoming = accepted.map(|a| Conn { io: a.io, peer: a.peer, revoked: a.revoked });
        tokio::spawn(serve(incoming, app, ServeConfig::default(), never.clone(), never));
        Self { address, ready }
    }

    /// Runs `dirctl` against this node in plaintext.
    pub(crate) async fn dirctl(&self, args: &[&str]) -> Ran {
        self.dirctl_with(args, b"").await
    }

    /// The same with something on stdin.
    pub(crate) async fn dirctl_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        run(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &self.address)], args, stdin).await
    }
}

/// A development Workload API with one identity.
pub(crate) async fn workload_api(dir: &std::path::Path, domain: &str, id: &str) -> DevWorkloadApi {
    let svid = DevSvid { spiffe_id: id.into(), dns_names: vec!["localhost".into()], hint: String::new() };
    let config = DevConfig {
        socket: dir.join("w.sock"),
        trust_domains: vec![DevDomain { name: domain.into(), svids: vec![svid], federates_with: Vec::new() }],
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(24 * 3600),
    };
    DevWorkloadApi::start(config, Arc::new(SystemClock)).await.unwrap()
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// stdout of a run that must have worked and said nothing else.
    pub(crate) fn good(self) -> String {
        assert!(self.code == Some(0) && self.stderr.is_empty(), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The program with this environment and no other.
pub(crate) fn command(env: &[(&str, &str)], args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dirctl"));
    command.env_clear().envs(env.iter().copied()).args(args).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) async fn run(env: &[(&str, &str)], args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(env, args).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = stdin.to_vec();
    // A program that fails early does not read its input.
    tokio::spawn(async move { pipe.write_all(&input).await.ok() });
    let done = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
    let output = done.await.expect("the program ends by itself").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// An address where nobody listens, and nobody else will as long as the socket is kept.
pub(crate) fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// A valid record with this name.
pub(crate) fn record(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","version":"v1.0.0","schema_version":"0.8.0","description":"For tests.",
            "authors":["A <a@example.org>"],"created_at":"2026-01-01T00:00:00Z","annotations":{{"team":"blue"}},
            "skills":[{{"id":10201,"name":"natural_language_processing/text_completion"}}],"domains":[],
            "locators":[{{"type":"docker_image","url":"https://example.org/image"}}],"modules":[]}}"#
    )
}

/// Its CID.
pub(crate) fn cid(record: &str) -> String {
    dir_client::Document::from_json(record.as_bytes()).unwrap().cid().to_string()
}
