//! What a benchmark runs against: a Workload API, the echo, and a directory server.

use crate::load::{Call, Outcome};
use crate::process::Running;
use anyhow::Context;
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::{SystemClock, free_port};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How many heaps glibc keeps.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Where a server keeps its records.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// The embedded image layout.
    Layout,
    /// A registry on this port of 127.0.0.1.
    Registry(u16),
}

/// Whether calls are checked and audited.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    /// As a server does that is told nothing of either.
    Default,
    /// Neither.
    Off,
    /// Both: a policy with rules about others too, audit lines to a file.
    On,
}

impl Guard {
    fn config(self, dir: &Path) -> anyhow::Result<String> {
        let dir = dir.display();
        Ok(match self {
            Guard::Default => String::new(),
            Guard::Off => "audit: { output: \"off\" }\n".to_owned(),
            Guard::On => {
                let policy = format!("{dir}/policy.yaml");
                std::fs::write(&policy, POLICY)?;
                format!(
                    "audit: {{ output: file, path: {dir}/audit.log }}\n\
                     authz: {{ enabled: true, enforcer_policy_file_path: {policy} }}\n"
                )
            }
        })
    }
}

/// Rules about paths: nothing is decided for a trust domain as a whole.
const POLICY: &str = "version: 1
rules:
  - {id: no-ci, effect: deny, principals: ['spiffe://bench.example.org/ns/*/sa/ci'], methods: ['@write']}
  - {id: bench, effect: allow, principals: ['spiffe://bench.example.org/bench'], methods: ['*']}
  - {id: partner, effect: allow, principals: ['spiffe://partner.example/**'], methods: ['@read']}
";

/// The Workload API and the folder of everything.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    server: PathBuf,
    api: DevWorkloadApi,
}

impl World {
    /// Starts the Workload API. `server` is the `dir-apiserver` binary.
    pub(crate) fn start(server: PathBuf, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Self> {
        anyhow::ensure!(server.exists(), "{} is missing: build it first", server.display());
        let dir = tempfile::Builder::new().prefix("dirbench").tempdir()?;
        let svid = DevSvid {
            spiffe_id: "spiffe://bench.example.org/bench".parse()?,
            dns_names: vec!["localhost".into()],
            hint: String::new(),
        };
        let domain =
            DevDomain { name: "bench.example.org".parse()?, svids: vec![svid], federates_with: Vec::new() };
        let config = DevConfig {
            socket: dir.path().join("w.sock"),
            trust_domains: vec![domain],
            svid_ttl: Duration::from_secs(24 * 3600),
            ca_ttl: Duration::from_secs(48 * 3600),
        };
        let api = runtime.block_on(DevWorkloadApi::start(config, Arc::new(SystemClock)))?;
        Ok(Self { dir, server, api })
    }

    fn own() -> anyhow::Result<Command> {
        Ok(Command::new(std::env::current_exe()?))
    }

    /// Starts the bare echo; its port.
    pub(crate) fn echo(&self) -> anyhow::Result<(Running, u16)> {
        let port = free_port()?;
        let mut command = Self::own()?;
        command.args(["echo", "--listen", &format!("127.0.0.1:{port}"), "--socket", &self.api.socket_uri()]);
        Ok((Running::server(&mut command, port)?, port))
    }

    /// Starts a server of handshakes: the product's acceptor, or a bare one; its port.
    pub(crate) fn door(&self, bare: bool) -> anyhow::Result<(Running, u16)> {
        let port = free_port()?;
        let mut command = Self::own()?;
        command.args(["door", "--listen", &format!("127.0.0.1:{port}"), "--socket", &self.api.socket_uri()]);
        if bare {
            let dir = self.dir.path().join("bare");
            std::fs::create_dir_all(&dir)?;
            let material = self.api.material();
            let svid = material.svids.first().context("no SVID")?;
            let leaf = svid.chain.first().context("no leaf")?;
            for (name, der) in [("leaf", leaf), ("key", &svid.key), ("roots", &svid.bundle)] {
                std::fs::write(dir.join(name), der)?;
            }
            command.arg("--bare").arg(dir);
        }
        Ok((Running::server(&mut command, port)?, port))
    }

    /// Shakes hands with a port for a while.
    pub(crate) fn knock(&self, port: u16, millis: u64) -> anyhow::Result<Outcome> {
        let mut command = Self::own()?;
        command.args(["knock", "--port", &port.to_string(), "--socket", &self.api.socket_uri()]);
        let output = command.args(["--millis", &millis.to_string()]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "knock ended with {}: {said}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The command of attackers.
    pub(crate) fn siege(&self, port: u16, attackers: u64) -> anyhow::Result<Command> {
        let mut command = Self::own()?;
        command.args(["siege", "--port", &port.to_string(), "--socket", &self.api.socket_uri()]);
        command.args(["--attackers", &attackers.to_string()]);
        Ok(command)
    }

    /// Starts a directory server that keeps everything in the folder `name`; it is ready when this returns.
    pub(crate) fn directory(&self, name: &str, store: &Store) -> anyhow::Result<(Running, u16)> {
        self.guarded(name, store, Guard::Default)
    }

    /// The same, with authorization and audit as wanted.
    pub(crate) fn guarded(&self, name: &str, store: &Store, guard: Guard) -> anyhow::Result<(Running, u16)> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir)?;
        let (port, ops) = (free_port()?, free_port()?);
        let config = dir.join("server.config.yml");
        let text = config_file(&dir, port, ops, &self.api.socket_uri(), store) + &guard.config(&dir)?;
        std::fs::write(&config, text)?;
        // Logs at their default level, access lines included: what is measured is what operators run.
        let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log"))?;
        let mut command = Command::new(&self.server);
        // As our image has it; what the environment says instead is measured instead.
        if std::env::var_os(ARENAS).is_none() {
            command.env(ARENAS, "2");
        }
        command.arg("serve").arg("--config").arg(&config);
        command.stdout(log.try_clone()?).stderr(log);
        let mut running = Running::server(&mut command, port).with_context(|| dir.display().to_string())?;
        running.wait_ready(ops)?;
        Ok((running, port))
    }

    /// The command of a load process.
    pub(crate) fn load(&self, call: Call, port: u16, more: &[&str]) -> anyhow::Result<Command> {
        let name = clap::ValueEnum::to_possible_value(&call).context("no such call")?;
        let mut command = Self::own()?;
        command.args(["load", "--call", name.get_name(), "--port", &port.to_string()]);
        command.args(["--socket", &self.api.socket_uri(), "--cids"]).arg(self.cids()).args(more);
        Ok(command)
    }

    /// Where the CIDs of the populated store are.
    pub(crate) fn cids(&self) -> PathBuf {
        self.dir.path().join("cids")
    }

    /// Runs a load process to its end.
    pub(crate) fn measure(&self, call: Call, port: u16, more: &[&str]) -> anyhow::Result<Outcome> {
        let output = self.load(call, port, more)?.stderr(std::process::Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "load {call:?} ended with {}: {text}", output.status);
        let outcome: Outcome = serde_json::from_str(&text)?;
        anyhow::ensure!(outcome.errors == 0, "{} of {} {call:?} calls failed", outcome.errors, outcome.begun);
        Ok(outcome)
    }
}

fn config_file(dir: &Path, port: u16, ops: u16, socket: &str, store: &Store) -> String {
    let dir = dir.display();
    let store = match store {
        Store::Layout => format!("local_dir: {dir}/store"),
        Store::Registry(port) => format!("registry_address: \"127.0.0.1:{port}\", repository_name: dir"),
    };
    format!(
        "listen_address: 127.0.0.1:{port}
metrics: {{ address: \"127.0.0.1:{ops}\" }}
state_dir: {dir}/state
authn: {{ enabled: true, mode: x509, socket_path: \"{socket}\" }}
limits: {{ connections: {{ total: 0, per_identity: 0, per_ip: 0 }} }}
store: {{ oci: {{ {store} }} }}
database: {{ type: embedded, embedded: {{ path: {dir}/index }} }}
shutdown: {{ lb_wait: 0s, grace: 5s }}
"
    )
}
