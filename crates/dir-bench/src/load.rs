//! The load: callers on connections, one kind of call, for a while; runs in a process of its own.

use crate::codec::Raw;
use crate::echo::Payload;
use crate::{ask, identity, listen, records};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    /// Unary echo of 1 KiB.
    Echo,
    /// Echo on a bidirectional stream of one message.
    EchoBidi,
    /// Echo with a server stream of fifty answers of 64 bytes.
    EchoMany,
    /// Pull one record, cached.
    Pull,
    /// Look up one record.
    Lookup,
    /// Search with three filters, at most fifty CIDs.
    Search,
    /// The same, with values in the middle of near-unique texts.
    SearchInside,
    /// Count a fifth of all records and more.
    Count,
    /// Resolve a name of which there are one or two records.
    Resolve,
    /// Listen for pushes: subscribes, then holds until standard input closes.
    Listen,
    /// Wait until the index holds every record.
    Rebuilt,
    /// Push one new record on a stream of its own.
    Push,
    /// Push new records on one stream per caller, a window of them in flight.
    PushStream,
}

impl Call {
    pub(crate) fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Call::Echo => "/directory.bench.v1.Echo/Unary",
            Call::EchoBidi => "/directory.bench.v1.Echo/Bidi",
            Call::EchoMany => "/directory.bench.v1.Echo/Many",
            Call::Pull => "/agntcy.dir.store.v1.StoreService/Pull",
            Call::Lookup => "/agntcy.dir.store.v1.StoreService/Lookup",
            Call::Search | Call::SearchInside => "/agntcy.dir.search.v1.SearchService/SearchCIDs",
            Call::Count => "/agntcy.dir.search.v1.SearchService/CountRecords",
            Call::Resolve => "/agntcy.dir.naming.v1.NamingService/Resolve",
            Call::Rebuilt => "/directory.admin.v1.AdminService/GetIndexStatus",
            Call::Listen => "/agntcy.dir.events.v1.EventService/Listen",
            Call::Push | Call::PushStream => "/agntcy.dir.store.v1.StoreService/Push",
        })
    }
}

/// Records that are pulled and looked up.
const POPULAR: usize = 10_000;
/// Records in flight on one push stream.
const WINDOW: u64 = 32;

/// What to load, and how hard.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Kind of call.
    #[arg(long, value_enum)]
    pub(crate) call: Call,
    /// Port of the server on 127.0.0.1.
    #[arg(long)]
    pub(crate) port: u16,
    /// Workload API that this process gets its SVID from.
    #[arg(long)]
    pub(crate) socket: String,
    /// TLS connections.
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Concurrent callers, spread over the connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) callers: usize,
    /// How long, in milliseconds, after a warm-up of a tenth of it.
    #[arg(long, default_value_t = 2000)]
    pub(crate) millis: u64,
    /// Stop after so many calls (0: only the time counts).
    #[arg(long, default_value_t = 0)]
    pub(crate) calls: u64,
    /// CIDs to pull and look up, one a line; `push` appends what it pushed when `--save` is given.
    #[arg(long)]
    pub(crate) cids: Option<PathBuf>,
    /// Write the CIDs of pushed records to `--cids`.
    #[arg(long)]
    pub(crate) save: bool,
    /// Number of the run: makes pushed records new.
    #[arg(long, default_value_t = 0)]
    pub(crate) run: u64,
    /// Records of the catalogue that the store was filled from.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) scale: u64,
    /// Keep the connections open and idle until standard input closes, after the calls.
    #[arg(long)]
    pub(crate) hold: bool,
}

/// What came out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Calls (for push streams: records) that ended well.
    pub(crate) calls: u64,
    /// Calls that were begun, the warm-up's included.
    pub(crate) begun: u64,
    /// Calls that failed.
    pub(crate) errors: u64,
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// Latency percentiles in microseconds.
    pub(crate) p50_us: u32,
    /// 99th percentile.
    pub(crate) p99_us: u32,
    /// 99.9th percentile.
    pub(crate) p999_us: u32,
}

impl Outcome {
    /// From the latencies in microseconds.
    pub(crate) fn of(mut latencies: Vec<u32>, begun: u64, errors: u64, seconds: f64) -> Self {
        latencies.sort_unstable();
        let last = latencies.len().saturating_sub(1);
        let at = |per_mille: usize| {
            latencies.get((latencies.len() * per_mille / 1000).min(last)).copied().unwrap_or(0)
        };
        Self {
            calls: latencies.len() as u64,
            begun,
            errors,
            seconds,
            p50_us: at(500),
            p99_us: at(990),
            p999_us: at(999),
        }
    }

    /// Calls per second.
    #[allow(clippy::cast_precision_loss)] // far below 2^52 calls
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

struct Work {
    args: LoadArgs,
    requests: Vec<Bytes>,
    next: AtomicU64,
    errors: AtomicU64,
    start: Instant,
    end: Instant,
}

impl Work {
    /// The number of the next call, until time or number is up.
    fn take(&self) -> Option<u64> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let more = self.args.calls == 0 || n < self.args.calls;
        (more && Instant::now() < self.end).then_some(n)
    }

    fn request(&self, n: u64) -> anyhow::Result<Bytes> {
        if matches!(self.args.call, Call::Push | Call::PushStream) {
            return records::message(self.args.run, self.args.scale, n);
        }
        let len = u64::try_from(self.requests.len())?;
        Ok(self.requests[usize::try_from(n % len)?].clone())
    }
}

/// Runs the load and prints an [`Outcome`] as one line of JSON.
pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let identity = identity::obtain(args.socket.clone()).await?;
    let mut channels = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        channels.push(identity::channel(&identity, args.port).await?);
    }
    let requests = requests(&args)?;
    if args.call == Call::Listen {
        let request = requests.first().ok_or_else(|| anyhow::anyhow!("nothing to ask"))?;
        return listen::listen(args.callers, &channels, &args.call.path(), request).await;
    }
    if args.call == Call::Rebuilt {
        return rebuilt(&args, &channels).await;
    }
    let length = Duration::from_millis(args.millis);
    let start = Instant::now() + if args.calls == 0 { length / 10 } else { Duration::ZERO };
    let zero = || AtomicU64::new(0);
    let work = Arc::new(Work { requests, next: zero(), errors: zero(), start, end: start + length, args });
    let callers = (0..work.args.callers).map(|i| {
        let channel = channels[i % channels.len()].clone();
        let work = work.clone();
        tokio::spawn(async move {
            if work.args.call == Call::PushStream {
                push_stream(channel, &work).await
            } else {
                calls(channel, &work).await
            }
        })
    });
    let mut latencies = Vec::new();
    let mut cids = Vec::new();
    for caller in futures::future::join_all(callers).await {
        let (mut l, mut c) = caller??;
        latencies.append(&mut l);
        cids.append(&mut c);
    }
    let outcome = outcome(&work, latencies);
    if let (true, Some(path)) = (work.args.save, &work.args.cids) {
        std::fs::write(path, cids.join("\n"))?;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    if work.args.hold {
        tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    }
    Ok(())
}

/// Waits until the index is ready; prints how many records it has.
async fn rebuilt(args: &LoadArgs, channels: &[Channel]) -> anyhow::Result<()> {
    use dir_proto::directory::admin::v1::{GetIndexStatusResponse, get_index_status_response::State};
    let channel = channels.first().ok_or_else(|| anyhow::anyhow!("a connection is needed"))?;
    let (mut grpc, start) = (Grpc::new(channel.clone()), Instant::now());
    let records = loop {
        grpc.ready().await?;
        let answer = grpc.unary(Request::new(Bytes::new()), args.call.path(), Raw).await?.into_inner();
        let status = GetIndexStatusResponse::decode(answer)?;
        match status.state() {
            State::Ready => break status.records,
            State::Failed => anyhow::bail!("the rebuild failed: {}", status.detail),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let zero = Outcome { calls: records, begun: 0, errors: 0, seconds, p50_us: 0, p99_us: 0, p999_us: 0 };
    println!("{}", serde_json::to_string(&zero)?);
    Ok(())
}

fn outcome(work: &Work, latencies: Vec<u32>) -> Outcome {
    let seconds = Instant::now().min(work.end).duration_since(work.start).as_secs_f64();
    let (begun, errors) = (work.next.load(Ordering::Relaxed), work.errors.load(Ordering::Relaxed));
    Outcome::of(latencies, begun, errors, seconds)
}

/// The encoded requests that calls take in turn.
fn requests(args: &LoadArgs) -> anyhow::Result<Vec<Bytes>> {
    let payload = |len| Bytes::from(Payload { data: vec![0x5a; len].into() }.encode_to_vec());
    Ok(match args.call {
        Call::Echo | Call::EchoBidi => vec![payload(1024)],
        Call::EchoMany => vec![payload(59)],
        Call::Search => records::SEARCHES.iter().map(|s| ask::search(s)).collect(),
        Call::SearchInside => records::INSIDE.iter().map(|s| ask::search(s)).collect(),
        Call::Count => vec![ask::count(&records::COUNT)],
        Call::Resolve => {
            (0..args.scale.min(2000)).map(|n| ask::resolve(records::name(args.scale, n))).collect()
        }
        Call::Listen => vec![ask::pushes()],
        Call::Push | Call::PushStream | Call::Rebuilt => Vec::new(),
        Call::Pull | Call::Lookup => {
            let path = args.cids.as_ref().ok_or_else(|| anyhow::anyhow!("--cids FILE is needed"))?;
            let cids = std::fs::read_to_string(path)?;
            let reference = |cid: &str| dir_proto::agntcy::dir::core::v1::RecordRef { cid: cid.to_owned() };
            // Those that are in demand: fewer than a cache of default size holds.
            let popular = cids.lines().take(POPULAR);
            let all: Vec<Bytes> = popular.map(|cid| reference(cid).encode_to_vec().into()).collect();
            anyhow::ensure!(!all.is_empty(), "{} names no CID", path.display());
            all
        }
    })
}

type Measured = (Vec<u32>, Vec<String>);

/// One call after the other.
async fn calls(channel: Channel, work: &Work) -> anyhow::Result<Measured> {
    let mut grpc = Grpc::new(channel);
    let path = work.args.call.path();
    let mut measured = Measured::default();
    while let Some(n) = work.take() {
        let request = work.request(n)?;
        let begin = Instant::now();
        grpc.ready().await?;
        match one_call(&mut grpc, work.args.call, path.clone(), request).await {
            Ok(answer) if begin >= work.start => {
                measured.0.push(micros(begin));
                if work.args.save {
                    measured.1.push(cid(&answer)?);
                }
            }
            Ok(_) => {}
            Err(status) => {
                if work.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("first error: {status}");
                }
            }
        }
    }
    Ok(measured)
}

fn micros(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn cid(answer: &Bytes) -> anyhow::Result<String> {
    Ok(dir_proto::agntcy::dir::core::v1::RecordRef::decode(answer.clone())?.cid)
}

/// A call; the last message of its answer.
async fn one_call(
    grpc: &mut Grpc<Channel>,
    call: Call,
    path: PathAndQuery,
    request: Bytes,
) -> Result<Bytes, tonic::Status> {
    let answers = match call {
        Call::Echo | Call::Count | Call::Resolve => {
            return Ok(grpc.unary(Request::new(request), path, Raw).await?.into_inner());
        }
        Call::EchoMany | Call::Search | Call::SearchInside => {
            grpc.server_streaming(Request::new(request), path, Raw).await?
        }
        _ => grpc.streaming(Request::new(futures::stream::iter([request])), path, Raw).await?,
    };
    let mut answers: Streaming<Bytes> = answers.into_inner();
    let mut last = Bytes::new();
    while let Some(answer) = answers.message().await? {
        last = answer;
    }
    Ok(last)
}

/// Pushes on one stream with [`WINDOW`] records in flight; latency is from sending a record to its CID.
async fn push_stream(channel: Channel, work: &Work) -> anyhow::Result<Measured> {
    let mut grpc = Grpc::new(channel);
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(usize::try_from(WINDOW)?);
    grpc.ready().await?;
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let answers = grpc.streaming(Request::new(stream), work.args.call.path(), Raw);
    let mut in_flight = std::collections::VecDeque::new();
    if let Some(n) = work.take() {
        in_flight.push_back(Instant::now());
        send.send(work.request(n)?).await?;
    }
    let mut answers: Streaming<Bytes> = answers.await?.into_inner();
    let mut measured = Measured::default();
    let mut send = Some(send);
    loop {
        while let (Some(open), true) = (&send, (in_flight.len() as u64) < WINDOW) {
            let Some(n) = work.take() else {
                send = None;
                break;
            };
            in_flight.push_back(Instant::now());
            open.send(work.request(n)?).await?;
        }
        let Some(begin) = in_flight.pop_front() else { break };
        let Some(answer) = answers.message().await? else { anyhow::bail!("the push stream ended early") };
        if begin >= work.start {
            measured.0.push(micros(begin));
            if work.args.save {
                measured.1.push(cid(&answer)?);
            }
        }
    }
    drop(answers.next().await);
    Ok(measured)
}
