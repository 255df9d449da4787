//! Rotations under load: leaves and CAs of server and clients are replaced while several processes call.
//!
//! Nothing is replaced before everybody has taken up what came before: that is the order in which SPIRE does it, with
//! minutes in between where here are milliseconds. Certificates live for seconds, so connections come to their end
//! by the lives of their peers' SVIDs as well, and old CAs leave the bundles by their own ends.

use crate::caller::{CallerArgs, Tally, client};
use crate::callers::{Caller, sum};
use crate::server::{Auth, Records, Server, get};
use crate::wait_until;
use dir_client::Client;
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const DOMAIN: &str = "example.org";

/// What to do.
#[derive(Debug, Clone, clap::Parser)]
pub struct Plan {
    /// Replacements of the SVIDs of server and clients.
    #[arg(long, default_value_t = 1000)]
    pub rotations: u32,
    /// Every so many rotations there is a new CA first.
    #[arg(long, default_value_t = 10)]
    pub ca_every: u32,
    /// Client processes.
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Pull streams of each.
    #[arg(long, default_value_t = 13)]
    pub streams: usize,
    /// Shortest time between two rotations, in milliseconds.
    #[arg(long, default_value_t = 100)]
    pub pause_ms: u64,
    /// Life of an SVID, in seconds.
    #[arg(long, default_value_t = 20)]
    pub svid_ttl: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Replacements of the leaves.
    pub rotations: u32,
    /// Replacements of the CA.
    pub cas: u32,
    /// How long it took.
    pub took: Duration,
    /// What the clients counted.
    pub tally: Tally,
    /// Handshakes that the server refused, by its own count.
    pub refused: f64,
    /// Connections that ended by the life of their peer's SVID.
    pub expired: f64,
    /// Memory of the server in KiB, after the first rotation and at the end.
    pub memory_kib: (u64, u64),
}

struct World {
    runtime: Runtime,
    server_api: DevWorkloadApi,
    client_api: DevWorkloadApi,
    server: Server,
    admin: Client,
    callers: Vec<Caller>,
}

/// Does it.
pub fn run(dir: &Path, caller: &Path, plan: &Plan) -> anyhow::Result<Outcome> {
    let mut world = World::start(dir, caller, plan)?;
    let (begun, mut cas, mut first_memory) = (Instant::now(), 0, 0);
    for rotation in 0..plan.rotations {
        let next = Instant::now() + Duration::from_millis(plan.pause_ms);
        if rotation % plan.ca_every == 0 {
            world.new_ca()?;
            cas += 1;
        }
        world.new_leaves()?;
        if rotation == 0 {
            first_memory = world.server.memory_kib()?;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed();
    let memory_kib = (first_memory, world.server.memory_kib()?);
    let tallies: anyhow::Result<Vec<Tally>> = world.callers.drain(..).map(Caller::finish).collect();
    let page = get(world.server.ops_port, "/metrics")?.1;
    let total = |parts: &[&str]| -> f64 {
        let lines = page.lines().filter(|l| !l.starts_with('#') && parts.iter().all(|p| l.contains(p)));
        lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    Ok(Outcome {
        rotations: plan.rotations,
        cas,
        took,
        tally: sum(tallies?),
        refused: total(&["handshake_failures_total{"]),
        expired: total(&["drained_total{", "\"expiry\""]),
        memory_kib,
    })
}

impl World {
    fn start(dir: &Path, caller: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = |name: &str, path: &str, dns_names: &[&str]| {
            let svid = DevSvid {
                spiffe_id: format!("spiffe://{DOMAIN}/{path}"),
                dns_names: dns_names.iter().map(|n| (*n).to_owned()).collect(),
                hint: String::new(),
            };
            let domain = DevDomain { name: DOMAIN.to_owned(), svids: vec![svid], federates_with: Vec::new() };
            DevConfig {
                socket: dir.join(name),
                trust_domains: vec![domain],
                svid_ttl: Duration::from_secs(plan.svid_ttl),
                ca_ttl: Duration::from_secs(plan.svid_ttl * 3),
            }
        };
        let (server_api, client_api) = runtime.block_on(async {
            let config_of_server = config("s.sock", "ns/dir/sa/apiserver", &["localhost"]);
            let server = DevWorkloadApi::start(config_of_server, Arc::new(SystemClock)).await?;
            let client = server.beside(config("c.sock", "ns/dir/sa/client", &[])).await?;
            anyhow::Ok((server, client))
        })?;
        let server = Server::start(dir, &Auth::X509(server_api.socket_uri()), &Records::Layout)?;
        let address = format!("127.0.0.1:{}", server.port);
        let socket = client_api.socket_uri();
        let admin = runtime.block_on(client(&address, "localhost", &socket))?;
        let args = CallerArgs {
            address,
            server_name: "localhost".to_owned(),
            socket,
            expect: None,
            streams: plan.streams,
            unary: 2,
            fresh: true,
        };
        let callers: anyhow::Result<Vec<_>> =
            (0..plan.clients).map(|_| Caller::start(caller, &args)).collect();
        Ok(Self { runtime, server_api, client_api, server, admin, callers: callers? })
    }

    /// Serial number and generation of the server's identity, as it says itself.
    fn served(&self) -> anyhow::Result<(String, u64)> {
        let said = self.runtime.block_on(self.admin.server_identity())?;
        Ok((said.svid_serial, said.generation))
    }

    /// A CA beside those that are there. It signs nothing before everybody knows it.
    fn new_ca(&mut self) -> anyhow::Result<()> {
        let before: Vec<_> = self.callers.iter().map(Caller::generations).collect();
        let (_, served) = self.served()?;
        anyhow::ensure!(self.server_api.rotate_ca(DOMAIN), "no new CA");
        for (caller, before) in self.callers.iter_mut().zip(&before) {
            caller.wait_later(before)?;
        }
        wait_until("the server knows the new CA", || self.served().is_ok_and(|(_, now)| now > served))
    }

    /// New SVIDs for everybody.
    fn new_leaves(&mut self) -> anyhow::Result<()> {
        self.server_api.rotate();
        self.client_api.rotate();
        // The agent renews at half-life on its own: what counts is what it hands out now.
        for caller in &mut self.callers {
            caller.wait_serial(|| serial(&self.client_api))?;
        }
        wait_until("the server's new SVID", || {
            self.served().is_ok_and(|(now, _)| now == serial(&self.server_api))
        })
    }
}

/// Serial number of the SVID that a socket hands out now, lower-case hex.
fn serial(api: &DevWorkloadApi) -> String {
    let material = api.material();
    let leaf = material.svids.first().and_then(|svid| svid.chain.first());
    let parsed = leaf.and_then(|der| x509_parser::parse_x509_certificate(der).ok());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    parsed.map(|(_, certificate)| hex(certificate.raw_serial())).unwrap_or_default()
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let t = &self.tally;
        writeln!(
            f,
            "{} rotations, {} new CAs in {:.0} s",
            self.rotations,
            self.cas,
            self.took.as_secs_f64()
        )?;
        writeln!(
            f,
            "{} calls answered, {} failed; {} connections for one call each, {} certificates of the server seen",
            t.answered,
            t.failed,
            t.fresh,
            t.certificates.len()
        )?;
        writeln!(
            f,
            "{} handshakes refused, {} connections ended by the life of their peer's SVID",
            self.refused, self.expired
        )?;
        write!(f, "server memory {} -> {} KiB", self.memory_kib.0, self.memory_kib.1)?;
        for error in &t.errors {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
