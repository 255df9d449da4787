//! A client process under test: it calls a server in every way at once until it is told to stop, and counts.
//!
//! What it says goes to standard output as JSON lines: each identity that it comes to hold, and at the end a
//! [`Tally`]. The end of its standard input is the word to stop.

use dir_client::{AuthMode, Client, ClientConfig, Document};
use dir_core::{Cid, Clock};
use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_runtime::SystemClock;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// Pause between two calls of one task: many tasks, little load.
const PAUSE: Duration = Duration::from_millis(20);
/// Errors that are kept word by word.
const ERRORS_MAX: usize = 20;

/// Whom to call, and how.
#[derive(Debug, Clone, clap::Parser)]
pub struct CallerArgs {
    /// Address of the server or of what stands before it.
    #[arg(long)]
    pub address: String,
    /// Name to ask for.
    #[arg(long, default_value = "localhost")]
    pub server_name: String,
    /// The Workload API.
    #[arg(long)]
    pub socket: String,
    /// Trust domain of the server, where it is not the caller's own.
    #[arg(long)]
    pub expect: Option<String>,
    /// Pull streams that stay open.
    #[arg(long, default_value_t = 4)]
    pub streams: usize,
    /// Tasks that make one unary call after the other.
    #[arg(long, default_value_t = 2)]
    pub unary: usize,
    /// Also make one fresh connection after the other, without any second attempt.
    #[arg(long)]
    pub fresh: bool,
}

/// What a caller counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls and messages that were answered.
    pub answered: u64,
    /// Calls and messages that failed.
    pub failed: u64,
    /// Connections made for a single call.
    pub fresh: u64,
    /// Different certificates that the server showed on them.
    pub certificates: BTreeSet<String>,
    /// The first failures.
    pub errors: Vec<String>,
}

/// A line of a caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// An identity that it holds now.
    Holds {
        /// Serial number of the SVID.
        serial: String,
        /// Number of the snapshot.
        generation: u64,
        /// Which of its identities.
        who: String,
    },
    /// Its first failure, when it happens.
    Failed(String),
    /// What it counted until it was stopped.
    Done(Tally),
}

#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Tally>>);

impl Counter {
    fn count<E: std::fmt::Display>(&self, what: &str, outcome: Result<(), E>) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => tally.answered += 1,
            Err(error) => {
                tally.failed += 1;
                let told = format!("{} {what}: {error:#}", SystemClock.now());
                if tally.failed == 1 {
                    say(&Said::Failed(told.clone()));
                }
                if tally.errors.len() < ERRORS_MAX {
                    tally.errors.push(told);
                }
            }
        }
    }

    fn saw(&self, certificate: String) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.fresh += 1;
        tally.certificates.insert(certificate);
    }
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        println!("{line}");
    }
}

/// The record that everybody asks for.
pub fn document() -> anyhow::Result<Document> {
    let record = serde_json::json!({
        "schema_version": "0.7.0",
        "name": "caller.example/asked-for",
        "version": "1.0.0",
        "description": "An agent that is asked for all the time.",
        "authors": ["caller"],
        "created_at": "2026-01-01T00:00:00Z",
        "skills": [{ "name": "natural_language_processing/natural_language_generation/text_completion",
                     "id": 10201 }],
        "locators": [{ "type": "docker_image", "url": "https://caller.example/asked-for" }],
    });
    Ok(Document::from_json(record.to_string().as_bytes())?)
}

/// A client of `address` with the first SVID of `socket`.
pub async fn client(address: &str, server_name: &str, socket: &str) -> anyhow::Result<Client> {
    client_of(address, server_name, socket, None).await
}

/// The same for a server of another trust domain.
async fn client_of(
    address: &str,
    server_name: &str,
    socket: &str,
    expect: Option<&str>,
) -> anyhow::Result<Client> {
    let config = ClientConfig {
        server_addr: address.to_owned(),
        auth_mode: AuthMode::X509,
        spiffe_socket: Some(socket.to_owned()),
        server_name: Some(server_name.to_owned()),
        expected_server: expect.unwrap_or_default().parse()?,
        ..ClientConfig::default()
    };
    Ok(Client::new(config, Arc::new(SystemClock)).await?)
}

/// Calls until standard input ends.
pub async fn run(args: CallerArgs) -> anyhow::Result<()> {
    let counter = Counter::default();
    let stop = CancellationToken::new();
    let client = client_of(&args.address, &args.server_name, &args.socket, args.expect.as_deref()).await?;
    let document = document()?;
    // A caller from elsewhere may read and not write: then somebody else has pushed it.
    let cid = if args.expect.is_none() { client.push_one(document).await? } else { document.cid() };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..args.streams {
        tasks.spawn(stream(client.clone(), cid, counter.clone(), stop.clone()));
    }
    for _ in 0..args.unary {
        tasks.spawn(unary(client.clone(), counter.clone(), stop.clone()));
    }
    if args.fresh {
        tasks.spawn(fresh(args.clone(), counter.clone(), stop.clone()));
    }
    let reporting = tokio::spawn(report(stop.clone(), "client", move || {
        client.identity().map(|held| (held.serial, held.generation))
    }));
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    reporting.await?;
    let tally = counter.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    say(&Said::Done(tally));
    Ok(())
}

/// Tells each identity that comes to be held.
async fn report(stop: CancellationToken, who: &str, held: impl Fn() -> Option<(String, u64)>) {
    let mut last = None;
    while !stop.is_cancelled() {
        let now = held();
        if now != last
            && let Some((serial, generation)) = now.clone()
        {
            say(&Said::Holds { serial, generation, who: who.to_owned() });
            last = now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A stream that asks for the same record for ever. Broken connections are the client's business.
async fn stream(client: Client, cid: Cid, counter: Counter, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (asks, asked) = mpsc::channel(1);
        let mut pull = client.pull(ReceiverStream::new(asked));
        let stop = &stop;
        let asking = async move {
            while !stop.is_cancelled() && asks.send(((), cid)).await.is_ok() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let counter = &counter;
        // It owns the stream: whoever asks learns from the end of it that there is nobody to ask.
        let answering = async move {
            while let Some(((), answer)) = pull.next().await {
                counter.count("stream", answer.map(drop));
            }
        };
        tokio::join!(asking, answering);
    }
}

async fn unary(client: Client, counter: Counter, stop: CancellationToken) {
    while !stop.is_cancelled() {
        counter.count("unary", client.server_identity().await.map(drop));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn fresh(args: CallerArgs, counter: Counter, stop: CancellationToken) {
    let config = WorkloadConfig { socket: args.socket.clone(), ..WorkloadConfig::default() };
    let metrics = prometheus::Registry::new();
    let identity = match Identity::obtain(config, Arc::new(SystemClock), &metrics).await {
        Ok(identity) => identity,
        Err(error) => return counter.count("identity", Err(error)),
    };
    let held = identity.clone();
    tokio::spawn(report(stop.clone(), "fresh", move || {
        let now = held.snapshot();
        Some((now.leaf().serial.clone(), now.generation()))
    }));
    let connector = Connector::new(identity, ServerCheck::default());
    while !stop.is_cancelled() {
        let outcome = one_call(&args, &connector, &counter).await;
        counter.count("fresh connection", outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A connection for one call.
async fn one_call(args: &CallerArgs, connector: &Connector, counter: &Counter) -> anyhow::Result<()> {
    let (address, name) = (args.address.clone(), args.server_name.clone());
    let (connector, seen) = (connector.clone(), counter.clone());
    let connect = tower::service_fn(move |_| {
        let (address, name, connector, seen) =
            (address.clone(), name.clone(), connector.clone(), seen.clone());
        async move {
            let io = connector.connect(TcpStream::connect(&address).await?, &name).await?;
            let certificate = io.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
            seen.saw(certificate.map(|c| format!("{:016x}", fingerprint(&c))).unwrap_or_default());
            anyhow::Ok(TokioIo::new(io))
        }
    });
    let endpoint = Endpoint::from_shared(format!("https://{}", args.server_name))?;
    let channel = endpoint.connect_with_connector(connect).await?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await?;
    Ok(())
}

/// Tells certificates apart.
fn fingerprint(der: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    der.hash(&mut hasher);
    hasher.finish()
}
