//! A `dir-apiserver` process under test.

use crate::proc::Proc;
use crate::{free_port, our};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Whom the tokens of callers are meant for.
pub const AUDIENCE: &str = "https://dir.example";

/// How the server gets its identity.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Plaintext.
    Insecure,
    /// mTLS with the SVID of this Workload API (`unix:///…`).
    X509(String),
    /// TLS with that SVID; callers show JWT-SVIDs for [`AUDIENCE`].
    Jwt(String),
}

/// Where the server keeps records.
#[derive(Debug, Clone)]
pub enum Records {
    /// An OCI image layout under the working directory.
    Layout,
    /// A registry at this address (`127.0.0.1:5000`).
    Registry(String),
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub proc: Proc,
    /// Port of the API.
    pub port: u16,
    /// Port of the ops listener.
    pub ops_port: u16,
}

impl Server {
    /// Starts a server that keeps everything below `dir`, and waits until it is ready.
    pub fn start(dir: &Path, auth: &Auth, records: &Records) -> anyhow::Result<Self> {
        let mut server = Self::spawn(dir, auth, records)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts a server and does not wait.
    pub fn spawn(dir: &Path, auth: &Auth, records: &Records) -> anyhow::Result<Self> {
        Self::spawn_with(dir, auth, records, "")
    }

    /// Starts a server on these ports of API and ops listener, and does not wait.
    pub fn spawn_at(dir: &Path, auth: &Auth, records: &Records, ports: (u16, u16)) -> anyhow::Result<Self> {
        Self::spawn_on(dir, auth, records, "", ports)
    }

    /// The same with more lines at the end of its configuration file; waits until it is ready.
    pub fn start_with(dir: &Path, auth: &Auth, records: &Records, more: &str) -> anyhow::Result<Self> {
        let mut server = Self::spawn_with(dir, auth, records, more)?;
        server.wait_ready()?;
        Ok(server)
    }

    fn spawn_with(dir: &Path, auth: &Auth, records: &Records, more: &str) -> anyhow::Result<Self> {
        Self::spawn_on(dir, auth, records, more, (free_port()?, free_port()?))
    }

    fn spawn_on(
        dir: &Path,
        auth: &Auth,
        records: &Records,
        more: &str,
        (port, ops_port): (u16, u16),
    ) -> anyhow::Result<Self> {
        let config = dir.join("server.config.yml");
        std::fs::write(&config, config_file(dir, port, ops_port, auth, records) + more)?;
        let mut command = Command::new(our("dir-apiserver")?);
        command.arg("serve").arg("--config").arg(&config).env_clear().env("HOME", dir).current_dir(dir);
        let proc = Proc::start("dir-apiserver", dir, &mut command)?;
        Ok(Self { proc, port, ops_port })
    }

    /// SIGTERM, and its exit code.
    pub fn stop(mut self) -> anyhow::Result<Option<i32>> {
        self.proc.signal("TERM")?;
        Ok(self.proc.wait_end()?.code())
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.proc.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        kib.ok_or_else(|| anyhow::anyhow!("no VmRSS in {status}"))
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let port = self.ops_port;
        self.proc.wait_for("/readyz", |_| get(port, "/readyz").is_ok_and(|(status, _)| status == 200))
    }
}

fn config_file(dir: &Path, port: u16, ops_port: u16, auth: &Auth, records: &Records) -> String {
    let dir = dir.display();
    let auth = match auth {
        Auth::Insecure => "authn: { enabled: false }".to_owned(),
        Auth::X509(socket) => format!("authn: {{ enabled: true, mode: x509, socket_path: \"{socket}\" }}"),
        Auth::Jwt(socket) => format!(
            "authn: {{ enabled: true, mode: jwt, socket_path: \"{socket}\", audiences: [\"{AUDIENCE}\"] }}"
        ),
    };
    let store = match records {
        Records::Layout => format!("local_dir: {dir}/store"),
        Records::Registry(address) => format!("registry_address: \"{address}\", repository_name: dir"),
    };
    format!(
        "listen_address: 127.0.0.1:{port}
metrics: {{ address: \"127.0.0.1:{ops_port}\" }}
state_dir: {dir}/state
{auth}
store: {{ oci: {{ {store} }} }}
database: {{ type: embedded, embedded: {{ path: {dir}/index }} }}
shutdown: {{ lb_wait: 0s, grace: 5s }}
"
    )
}

/// A plain HTTP GET on loopback: status and body.
pub fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.ok_or_else(|| anyhow::anyhow!("not HTTP: {answer:?}"))?, body.to_owned()))
}
