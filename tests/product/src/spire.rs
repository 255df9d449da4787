//! A real SPIRE server and agent on loopback: one trust domain, Unix attestation, keys on disk.

use crate::proc::{Proc, run};
use crate::{free_port, tool};
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str =
    "install spire-server and spire-agent from the SPIRE project's release and put them on PATH";

/// A running trust domain; killed when dropped.
#[derive(Debug)]
pub struct Spire {
    /// The server process.
    pub server: Proc,
    /// The agent process.
    pub agent: Proc,
    dir: PathBuf,
    domain: String,
    /// Port of the server's bundle endpoint (`https_spiffe`).
    pub bundle_port: u16,
}

/// What is not as it always is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The bundle is published with this certificate of the public kind (`https_web`): chain and key, PEM files.
    pub web: Option<(PathBuf, PathBuf)>,
    /// The roots by which the server judges such certificates of others, instead of the machine's.
    pub web_roots: Option<PathBuf>,
}

impl Spire {
    /// Starts a server and an agent for `domain`; everything is kept in `dir` (keep its path short).
    pub fn start(dir: &Path, domain: &str) -> anyhow::Result<Self> {
        Self::start_with(dir, domain, &Options::default())
    }

    /// The same with options.
    pub fn start_with(dir: &Path, domain: &str, options: &Options) -> anyhow::Result<Self> {
        let (spire_server, spire_agent) = (tool("spire-server", HINT)?, tool("spire-agent", HINT)?);
        let (port, bundle_port) = (free_port()?, free_port()?);
        for sub in ["server", "agent"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        std::fs::write(dir.join("server.hcl"), server_hcl(dir, domain, port, bundle_port, options))?;
        std::fs::write(dir.join("agent.hcl"), agent_hcl(dir, domain, port))?;

        let mut command = Command::new(&spire_server);
        command.args(["run", "-config"]).arg(dir.join("server.hcl"));
        if let Some(roots) = &options.web_roots {
            command.env("SSL_CERT_FILE", roots);
        }
        let mut server = Proc::start("spire-server", dir, &mut command)?;
        let socket = dir.join("server.sock");
        server.wait_for("healthy", |_| healthy(&spire_server, &socket))?;

        let socket = socket.display().to_string();
        let bundle =
            run(Command::new(&spire_server).args(["bundle", "show", "-socketPath", &socket]))?.good()?;
        std::fs::write(dir.join("bootstrap.crt"), bundle)?;
        let node = format!("spiffe://{domain}/node");
        let mut token = Command::new(&spire_server);
        token.args(["token", "generate", "-socketPath", &socket, "-spiffeID", &node]);
        let token = run(&mut token)?.good()?;
        let token =
            token.split_whitespace().nth(1).ok_or_else(|| anyhow::anyhow!("no join token: {token}"))?;

        let mut command = Command::new(&spire_agent);
        command.args(["run", "-config"]).arg(dir.join("agent.hcl")).args(["-joinToken", token]);
        let mut agent = Proc::start("spire-agent", dir, &mut command)?;
        let agent_socket = dir.join("agent.sock");
        agent.wait_for("healthy", |_| healthy(&spire_agent, &agent_socket))?;
        Ok(Self { server, agent, dir: dir.to_owned(), domain: domain.to_owned(), bundle_port })
    }

    /// Kills the agent. Its data stay.
    pub fn kill_agent(&mut self) -> anyhow::Result<()> {
        self.agent.signal("KILL")?;
        self.agent.wait_end().map(drop)
    }

    /// Starts the agent again after [`Spire::kill_agent`].
    pub fn restart_agent(&mut self) -> anyhow::Result<()> {
        let program = tool("spire-agent", HINT)?;
        let mut command = Command::new(&program);
        command.args(["run", "-config"]).arg(self.dir.join("agent.hcl"));
        self.agent = Proc::start("spire-agent", &self.dir, &mut command)?;
        let socket = self.dir.join("agent.sock");
        self.agent.wait_for("healthy", |_| healthy(&program, &socket))
    }

    /// The Workload API as clients write it.
    pub fn socket(&self) -> String {
        format!("unix://{}/agent.sock", self.dir.display())
    }

    /// Runs a command of the server, such as `["bundle", "show"]`, and answers its output.
    pub fn server_command(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(tool("spire-server", HINT)?);
        command.args(args).arg("-socketPath").arg(self.dir.join("server.sock"));
        run(&mut command)?.good()
    }

    /// Registers `path` of this trust domain for every workload of our uid.
    pub fn register(&self, path: &str, dns_names: &[&str]) -> anyhow::Result<()> {
        self.register_with(path, dns_names, &[]).map(drop)
    }

    /// The same with more arguments of `entry create`; answers the id of the entry.
    pub fn register_with(&self, path: &str, dns_names: &[&str], more: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(tool("spire-server", HINT)?);
        command.args(["entry", "create", "-socketPath"]).arg(self.dir.join("server.sock"));
        command.args(["-parentID", &format!("spiffe://{}/node", self.domain)]);
        command.args(["-spiffeID", &format!("spiffe://{}{path}", self.domain)]);
        command.args(["-selector", &format!("unix:uid:{}", uid()?)]);
        for name in dns_names {
            command.args(["-dns", name]);
        }
        let said = run(command.args(more))?.good()?;
        let id = said.lines().find_map(|line| line.strip_prefix("Entry ID")?.split(':').nth(1));
        Ok(id.ok_or_else(|| anyhow::anyhow!("no entry id: {said}"))?.trim().to_owned())
    }
}

fn healthy(program: &Path, socket: &Path) -> bool {
    run(Command::new(program).arg("healthcheck").arg("-socketPath").arg(socket))
        .is_ok_and(|r| r.status.success())
}

fn uid() -> anyhow::Result<String> {
    Ok(run(Command::new("id").arg("-u"))?.good()?.trim().to_owned())
}

fn server_hcl(dir: &Path, domain: &str, port: u16, bundle_port: u16, options: &Options) -> String {
    let profile = match &options.web {
        None => "profile \"https_spiffe\" {}".to_owned(),
        Some((chain, key)) => format!(
            "profile \"https_web\" {{\n serving_cert_file {{\n cert_file_path = \"{}\"\n key_file_path = \"{}\"\n \
             file_sync_interval = \"1m\"\n }}\n }}",
            chain.display(),
            key.display()
        ),
    };
    let dir = dir.display();
    format!(
        r#"server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{domain}"
  data_dir = "{dir}/server"
  socket_path = "{dir}/server.sock"
  ca_ttl = "24h"
  default_x509_svid_ttl = "1h"
  agent_ttl = "24h"
  federation {{
    bundle_endpoint {{
      address = "127.0.0.1"
      port = {bundle_port}
      refresh_hint = "1m"
      {profile}
    }}
  }}
  experimental {{ cache_reload_interval = "1s" }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{dir}/server/store.sqlite3" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{dir}/server/keys.json" }} }}
}}
"#
    )
    .replace("sqlite3\" connection", "sqlite3\"\n connection")
}

fn agent_hcl(dir: &Path, domain: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"agent {{
  data_dir = "{dir}/agent"
  server_address = "127.0.0.1"
  server_port = "{port}"
  trust_domain = "{domain}"
  trust_bundle_path = "{dir}/bootstrap.crt"
  socket_path = "{dir}/agent.sock"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "{dir}/agent" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
    )
}
