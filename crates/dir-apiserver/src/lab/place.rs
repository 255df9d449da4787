//! One organisation of the lab: its folder, its two Workload API sockets, its policy and its server process.

use super::tell::Tell;
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dir_identity::devapi::DevWorkloadApi;
use dir_runtime::free_port;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to become ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What partners may call.
const PARTNER_METHODS: [&str; 3] = ["Pull", "PullReferrer", "Lookup"];

/// Ports of one server, fixed for the life of the lab.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) grpc: u16,
    pub(super) ops: u16,
    pub(super) bundle: u16,
}

/// An organisation.
pub(super) struct Place {
    /// Short name, such as `alpha`.
    pub(super) name: String,
    /// Its trust domain.
    pub(super) domain: String,
    pub(super) ports: Ports,
    /// Identity of the server.
    pub(super) server: DevWorkloadApi,
    /// Identity of an agent, which trusts the partners too.
    pub(super) agent: DevWorkloadApi,
    /// Partners that the policy lets in.
    pub(super) admitted: BTreeSet<String>,
    /// SVIDs that the server processes have taken.
    pub(super) svids: Arc<AtomicU64>,
    /// How often the keys of each partner changed for the server processes.
    pub(super) keys: Arc<Mutex<BTreeMap<String, u64>>>,
    dir: PathBuf,
    child: Option<Child>,
    tell: Tell,
}

/// What partners need to know of an organisation.
pub(super) struct Card {
    pub(super) domain: String,
    pub(super) bundle_port: u16,
    pub(super) bootstrap: PathBuf,
}

impl Place {
    pub(super) fn new(
        (name, domain): (String, String),
        dir: PathBuf,
        (server, agent): (DevWorkloadApi, DevWorkloadApi),
        tell: Tell,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let ports = Ports { grpc: free_port()?, ops: free_port()?, bundle: free_port()? };
        Ok(Self {
            name,
            domain,
            ports,
            server,
            agent,
            admitted: BTreeSet::new(),
            svids: Arc::default(),
            keys: Arc::default(),
            dir,
            child: None,
            tell,
        })
    }

    /// Writes the bundle of this moment, which partners begin with.
    pub(super) fn card(&self) -> anyhow::Result<Card> {
        let bootstrap = self.dir.join("bundle.pem");
        let material = self.server.material();
        let root = &material.svids.first().context("the server has no SVID")?.bundle;
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(root);
        for at in (0..text.len()).step_by(64) {
            writeln!(pem, "{}", &text[at..text.len().min(at + 64)])?;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        std::fs::write(&bootstrap, pem).with_context(|| bootstrap.display().to_string())?;
        Ok(Card { domain: self.domain.clone(), bundle_port: self.ports.bundle, bootstrap })
    }

    /// Writes the policy: everything for our own, reading for the partners that are admitted.
    pub(super) fn write_policy(&self) -> anyhow::Result<()> {
        let mut text = format!("p,{},*\n", self.domain);
        for partner in &self.admitted {
            for method in PARTNER_METHODS {
                writeln!(text, "p,{partner},/agntcy.dir.store.v1.StoreService/{method}")?;
            }
        }
        let (path, new) = (self.policy(), self.dir.join("policy.csv.new"));
        std::fs::write(&new, text).with_context(|| new.display().to_string())?;
        std::fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    fn policy(&self) -> PathBuf {
        self.dir.join("policy.csv")
    }

    /// The configuration file of the server.
    pub(super) fn write_config(&self, partners: &[Card], max_stale: Duration) -> anyhow::Result<()> {
        let domains: Vec<Value> = partners
            .iter()
            .map(|card| {
                json!({
                    "name": card.domain,
                    "url": format!("https://localhost:{}/", card.bundle_port),
                    "profile": "https_spiffe",
                    "endpoint_spiffe_id": server_id(&card.domain),
                    "bootstrap_file": card.bootstrap,
                    "max_stale": format!("{}s", max_stale.as_secs()),
                })
            })
            .collect();
        let at = |port: u16| format!("127.0.0.1:{port}");
        let config = json!({
            "listen_address": at(self.ports.grpc),
            "metrics": { "address": at(self.ports.ops) },
            "state_dir": self.dir.join("state"),
            "authn": {
                "enabled": true, "mode": "x509", "socket_path": self.server.socket_uri(),
                "trust_domain": self.domain,
            },
            "authz": { "enabled": true, "enforcer_policy_file_path": self.policy() },
            "store": { "oci": { "local_dir": self.dir.join("store") } },
            "database": { "type": "embedded", "embedded": { "path": self.dir.join("index") } },
            "shutdown": { "lb_wait": "0s" },
            "federation": {
                "trust_domains": domains,
                "bundle_endpoint": {
                    "enabled": true, "listen_address": at(self.ports.bundle), "refresh_hint": "30s",
                },
            },
        });
        let path = self.config();
        std::fs::write(&path, serde_json::to_string_pretty(&config)?)
            .with_context(|| path.display().to_string())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("server.config.yml")
    }

    /// Whether the server was started, and not killed.
    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the server.
    pub(super) fn launch(&mut self) -> anyhow::Result<()> {
        if self.runs() {
            self.tell.event("server", &self.name, "server runs already");
            return Ok(());
        }
        let errors = std::fs::File::create(self.dir.join("server.err"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .env_clear()
            .env("HOME", &self.dir)
            .env("DIRECTORY_LOGGER_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("starting a server")?;
        let log = child.stdout.take().context("the server's log")?;
        let reader = Reader {
            name: self.name.clone(),
            file: self.dir.join("server.log"),
            svids: self.svids.clone(),
            keys: self.keys.clone(),
            tell: self.tell,
        };
        std::thread::spawn(move || reader.read(BufReader::new(log)));
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the server is ready.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + START_LIMIT;
        while !answers_ready(self.ports.ops).await {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                self.child = None;
                let errors = std::fs::read_to_string(self.dir.join("server.err")).unwrap_or_default();
                bail!("the server of {} ended ({status}): {}", self.name, errors.trim());
            }
            if Instant::now() > end {
                bail!("the server of {} is not ready; its log: {}", self.name, self.log().display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let text = format!("server ready on localhost:{}", self.ports.grpc);
        self.tell.event("server", &self.name, &text);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Ends the server without a chance to say goodbye.
    pub(super) fn kill(&mut self) {
        match self.child.take() {
            Some(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
                self.tell.event("server", &self.name, "server killed");
            }
            None => self.tell.event("server", &self.name, "server is not running"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// SPIFFE ID of the server of a trust domain.
pub(super) fn server_id(domain: &str) -> String {
    format!("spiffe://{domain}/dir-apiserver")
}

/// SPIFFE ID of the agent of a trust domain.
pub(super) fn agent_id(domain: &str) -> String {
    format!("spiffe://{domain}/agent")
}

async fn answers_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ask = async {
        let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        tcp.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.ok()?;
        let mut head = [0; 12];
        tcp.read_exact(&mut head).await.ok()?;
        Some(head.ends_with(b"200"))
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten().unwrap_or(false)
}

/// Reads the log of a server: keeps it in a file, and tells what matters in a lab.
struct Reader {
    name: String,
    file: PathBuf,
    svids: Arc<AtomicU64>,
    keys: Arc<Mutex<BTreeMap<String, u64>>>,
    tell: Tell,
}

/// The message about each SVID that a server takes.
const SVID_TAKEN: &str = "Successfully obtained valid X509-SVID with";
/// The message about other keys in a partner's bundle.
const KEYS_CHANGED: &str = "keys of a partner changed";
/// Beginnings of the log messages that are told.
const TOLD: [&str; 7] = [
    "bundle not fetched",
    KEYS_CHANGED,
    "partner untrusted",
    "locked out",
    "identity no longer trusted",
    "trust domain pinned",
    "policy not taken",
];

impl Reader {
    fn read(&self, log: impl BufRead) {
        let mut file = open_append(&self.file);
        for line in log.lines().map_while(Result::ok) {
            if let Some(file) = &mut file {
                let _ = std::io::Write::write_all(file, format!("{line}\n").as_bytes());
            }
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let message = line["message"].as_str().unwrap_or_default();
            if message.starts_with(SVID_TAKEN) {
                self.svids.fetch_add(1, Ordering::Relaxed);
                self.tell.event("svid", &self.name, "server has a new SVID");
            } else if TOLD.iter().any(|told| message.starts_with(told)) {
                let domain = line["trust_domain"].as_str().unwrap_or_default();
                if message.starts_with(KEYS_CHANGED) {
                    *self.keys.lock().entry(domain.to_owned()).or_default() += 1;
                }
                let domain = if domain.is_empty() { String::new() } else { format!(" ({domain})") };
                self.tell.event("log", &self.name, &format!("server: {message}{domain}"));
            }
        }
    }
}

fn open_append(path: &Path) -> Option<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path).ok()
}
