//! A real Zot registry on loopback.

use crate::proc::Proc;
use crate::server::get;
use crate::{free_port, tool};
use std::path::Path;
use std::process::Command;

/// A running Zot; killed when dropped.
#[derive(Debug)]
pub struct Zot {
    /// The process.
    pub proc: Proc,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Zot {
    /// Starts a Zot that keeps its blobs in `dir/zot`.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        // With deduplication Zot scans its whole store at start, under the lock of every write.
        Self::start_with(dir, false)
    }

    /// The same with the choice of keeping equal contents once.
    pub fn start_with(dir: &Path, dedupe: bool) -> anyhow::Result<Self> {
        let zot = tool("zot", "install zot from the Zot project's release and put it on PATH")?;
        let port = free_port()?;
        let config = dir.join("zot.json");
        std::fs::write(
            &config,
            format!(
                r#"{{"distSpecVersion": "1.1.1", "log": {{"level": "warn"}},
  "storage": {{"rootDirectory": "{}", "dedupe": {dedupe}, "gc": true, "gcDelay": "1h", "gcInterval": "24h"}},
  "http": {{"address": "127.0.0.1", "port": "{port}"}}}}"#,
                dir.join("zot").display()
            ),
        )?;
        let mut proc = Proc::start("zot", dir, Command::new(zot).arg("serve").arg(&config))?;
        proc.wait_for("/v2/", |_| get(port, "/v2/").is_ok_and(|(status, _)| status == 200))?;
        Ok(Self { proc, port })
    }

    /// Its address as the server's configuration wants it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
