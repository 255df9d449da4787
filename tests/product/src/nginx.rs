//! nginx with SNI passthrough, from the example's own configuration.

use crate::proc::{Proc, run};
use crate::{free_port, root, tool};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// A running nginx; killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    /// The process.
    pub proc: Proc,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Nginx {
    /// Starts `examples/nginx/nginx.conf`, moved to free ports, in front of `backend` (a port of 127.0.0.1).
    pub fn start(dir: &Path, backend: u16) -> anyhow::Result<Self> {
        Self::start_with(dir, backend, &[])
    }

    /// The same in front of several servers that take turns. One that does not answer is passed over, and asked again
    /// the next time.
    pub fn before(dir: &Path, backends: &[u16]) -> anyhow::Result<Self> {
        let first = *backends.first().ok_or_else(|| anyhow::anyhow!("no server to stand before"))?;
        let servers: Vec<_> =
            backends.iter().map(|backend| format!("server 127.0.0.1:{backend} max_fails=0;")).collect();
        Self::start_with(dir, first, &[(&format!("server 127.0.0.1:{first};"), &servers.join(" "))])
    }

    /// The same with lines of the example replaced: each pair is what is there, and what stands in its place.
    pub fn start_with(dir: &Path, backend: u16, changes: &[(&str, &str)]) -> anyhow::Result<Self> {
        let nginx = tool("nginx", "run scripts/install-nginx.sh")?;
        let (port, fallback) = (free_port()?, free_port()?);
        let example = std::fs::read_to_string(root().join("examples/nginx/nginx.conf"))?;
        let mut config = example;
        for (from, to) in [(8888, backend), (18443, port), (18442, fallback)] {
            let (from, to) = (format!("127.0.0.1:{from}"), format!("127.0.0.1:{to}"));
            anyhow::ensure!(config.contains(&from), "examples/nginx/nginx.conf no longer names {from}");
            config = config.replace(&from, &to);
        }
        for (from, to) in changes {
            anyhow::ensure!(config.contains(from), "examples/nginx/nginx.conf no longer says {from}");
            config = config.replace(from, to);
        }
        std::fs::create_dir_all(dir.join("tmp"))?;
        std::fs::write(dir.join("nginx.conf"), config)?;
        fallback_certificate(dir)?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).arg("-g").arg(user_directive());
        let mut proc = Proc::start("nginx", dir, &mut command)?;
        proc.wait_for("listening", |_| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { proc, port })
    }

    /// The certificate subject that `openssl s_client` sees, without spaces; `sni` `None` sends no name.
    pub fn subject(&self, sni: Option<&str>) -> anyhow::Result<String> {
        subject(self.port, sni)
    }
}

/// Started as root, nginx would run its workers as nobody, who cannot write to a test's folder.
fn user_directive() -> &'static str {
    if nix_is_root() { "user root;" } else { "" }
}

fn nix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0")))
}

fn fallback_certificate(dir: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(tool("openssl", "install the package openssl")?);
    command.current_dir(dir).args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2", "-keyout", "fallback.key", "-out", "fallback.crt"]);
    command.args([
        "-subj",
        "/O=Acme Co/CN=Fallback Certificate",
        "-addext",
        "subjectAltName=DNS:ingress.local",
    ]);
    run(&mut command)?.good().map(drop)
}

/// The subject of the certificate shown at a port of 127.0.0.1, without spaces.
pub fn subject(port: u16, sni: Option<&str>) -> anyhow::Result<String> {
    let openssl = tool("openssl", "install the package openssl")?;
    let name = sni.map_or_else(|| "-noservername".to_owned(), |n| format!("-servername {n}"));
    let openssl = openssl.display();
    let line = format!(
        "echo | {openssl} s_client -connect 127.0.0.1:{port} {name} 2>/dev/null | {openssl} x509 -noout -subject"
    );
    let text = run(Command::new("sh").arg("-c").arg(line))?.good()?;
    Ok(text.trim().replace(' ', ""))
}
