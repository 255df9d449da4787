//! What is measured, in which order.

use crate::doors::{handshakes, siege};
use crate::load::{Call, Outcome};
use crate::process::Running;
use crate::report::{Comparison, Report, machine, median, print, spread};
use crate::world::{Store, World};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

/// More or less of everything.
#[derive(Debug, Args)]
struct Size {
    /// A tenth of the records, of the connections and of the time: to see that everything runs, not to quote.
    #[arg(long)]
    quick: bool,
    /// Searches in a million records as well (some gigabytes of disk, some minutes).
    #[arg(long)]
    million: bool,
}

/// Less of what is measured with a store of its own.
#[derive(Debug, Args)]
struct Part {
    /// Only the calls beside the echo: no pushes, no restarts, no registry.
    #[arg(long)]
    calls_only: bool,
    /// Only what authorization and audit cost.
    #[arg(long)]
    guards_only: bool,
    /// Only pushes: by the size of the store, and beside listeners.
    #[arg(long)]
    pushes_only: bool,
}

/// What to measure, and where the result goes.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The `dir-apiserver` binary; by default the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Records in the populated store.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) records: u64,
    /// Alternating rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Length of one measurement in milliseconds.
    #[arg(long, default_value_t = 2000)]
    pub(crate) millis: u64,
    /// Idle connections for the memory figure.
    #[arg(long, default_value_t = 1000)]
    idle: u64,
    /// Listeners for the figure of pushes beside them.
    #[arg(long, default_value_t = 1000)]
    pub(crate) listeners: u64,
    /// Idle connections while the server is attacked.
    #[arg(long, default_value_t = 2000)]
    pub(crate) besiegers_idle: u64,
    /// Attackers.
    #[arg(long, default_value_t = 200)]
    pub(crate) besiegers: u64,
    #[command(flatten)]
    size: Size,
    /// Only handshakes, and honest callers beside attackers.
    #[arg(long)]
    doors_only: bool,
    /// Only pushes into a registry with few and with many records.
    #[arg(long)]
    registry_only: bool,
    #[command(flatten)]
    part: Part,
    /// Only calls whose row begins so.
    #[arg(long, default_value = "")]
    only: String,
    /// Where the JSON goes.
    #[arg(long, default_value = "bench-report/report.json")]
    json: PathBuf,
}

pub(crate) struct Bench<'a> {
    pub(crate) args: &'a ReportArgs,
    pub(crate) world: World,
    pub(crate) report: Report,
    pub(crate) run: u64,
}

/// Two servers side by side.
struct Both<'a> {
    echo: &'a Running,
    echo_port: u16,
    server: &'a Running,
    port: u16,
}

/// Records of the small store that the populated one is compared with.
pub(crate) const SMALL: u64 = 1_000;

impl ReportArgs {
    /// As they were given, or smaller.
    fn sized(mut self) -> Self {
        if self.size.quick {
            (self.records, self.rounds, self.millis) = (self.records / 10, 3, self.millis / 4);
            for many in [&mut self.idle, &mut self.listeners, &mut self.besiegers_idle, &mut self.besiegers] {
                *many /= 10;
            }
        }
        self
    }
}

/// Runs everything, prints the table, writes the JSON.
pub(crate) fn run(args: ReportArgs, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let (args, begun) = (&args.sized(), Instant::now());
    let server = match &args.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("dir-apiserver"),
    };
    let world = World::start(server, runtime)?;
    let report = Report { machine: machine(), records: args.records, ..Report::default() };
    let mut bench = Bench { args, world, report, run: 0 };
    match (args.part.guards_only, args.doors_only, args.registry_only) {
        (true, ..) => bench.guards()?,
        (_, true, _) => bench.doors()?,
        (.., true) => bench.registry_by_size(runtime)?,
        _ => bench.embedded()?,
    }
    let part = args.part.calls_only || args.part.guards_only || args.part.pushes_only;
    if !(part || args.doors_only || args.registry_only) {
        bench.guards()?;
        handshakes(&bench.world, args, &mut bench.report)?;
        siege(&bench.world, args, &mut bench.report)?;
        bench.registry(runtime)?;
    }
    if args.size.million {
        bench.million()?;
    }
    print(&bench.report);
    eprintln!("measured in {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(dir) = args.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&args.json, serde_json::to_string_pretty(&bench.report)?)?;
    eprintln!("JSON: {}", args.json.display());
    Ok(())
}

impl Bench<'_> {
    /// Handshakes and attackers, with a store of their own.
    fn doors(&mut self) -> anyhow::Result<()> {
        handshakes(&self.world, self.args, &mut self.report)?;
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        self.fill(port, self.args.records, self.args.records, true)?;
        server.terminate()?;
        siege(&self.world, self.args, &mut self.report)
    }

    /// Everything against the embedded layout store.
    fn embedded(&mut self) -> anyhow::Result<()> {
        let (echo, echo_port) = self.world.echo()?;
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        eprintln!("filling the store with {} records", self.args.records);
        let begin = Instant::now();
        self.fill(port, self.args.records, self.args.records, true)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52 records
        let rate = self.args.records as f64 / begin.elapsed().as_secs_f64();
        self.report.figure("filling by push", rate, "records/s", "16 streams", "≥ 2,000 records/s");
        self.memory("RSS peak of filling", &server, "VmHWM", "")?;
        if self.args.part.pushes_only {
            server.wait_quiet()?;
            self.pushes_by_size(port)?;
            return self.pushes_beside_listeners(&server, port);
        }
        server.terminate()?;
        if !self.args.part.calls_only {
            self.restart("start to ready, the records of the store")?;
        }
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        server.wait_quiet()?;
        self.memory("RSS after the start", &server, "VmRSS", "")?;
        self.calls(&Both { echo: &echo, echo_port, server: &server, port })?;
        self.memory("RSS while serving", &server, "VmRSS", "≤ 150 MiB with 100,000 records")?;
        self.memory("RSS peak of serving", &server, "VmHWM", "")?;
        if self.args.part.calls_only {
            return Ok(());
        }
        self.pushes_by_size(port)?;
        self.pushes_beside_listeners(&server, port)?;
        self.pushes("push, embedded layout, durable", Call::PushStream, port, "≥ 2,000 records/s")?;
        self.pushes("push, stream of one", Call::Push, port, "")?;
        self.idle_memory(&server, port)?;
        self.memory("RSS peak after all of this", &server, "VmHWM", "")?;
        server.terminate()?;
        self.restart("start to ready, all that was pushed above too")?;
        self.rebuild()
    }

    fn calls(&mut self, both: &Both<'_>) -> anyhow::Result<()> {
        const PULL: &str = "≥ 0.7, CPU ≤ 1.5×";
        const SEARCH: &str = "≥ 0.4";
        self.compare("pull, cached (unary echo of 1 KiB)", Call::Pull, Call::Echo, 64, PULL, both)?;
        self.compare("pull (echo as stream of one)", Call::Pull, Call::EchoBidi, 64, PULL, both)?;
        self.compare("pull, one caller", Call::Pull, Call::Echo, 1, "", both)?;
        self.compare("lookup", Call::Lookup, Call::Echo, 64, "", both)?;
        self.compare("search, 3 filters, 50 CIDs (unary echo)", Call::Search, Call::Echo, 64, SEARCH, both)?;
        self.compare("search (echo as stream of 50)", Call::Search, Call::EchoMany, 64, SEARCH, both)?;
        self.compare("search, one caller", Call::Search, Call::EchoMany, 1, "p99 ≤ 2 ms", both)?;
        self.compare("search inside near-unique texts", Call::SearchInside, Call::EchoMany, 64, "", both)?;
        self.compare("search inside, one caller", Call::SearchInside, Call::EchoMany, 1, "", both)?;
        self.compare("count, a fifth and more, one caller", Call::Count, Call::Echo, 1, "p99 ≤ 5 ms", both)?;
        self.compare("count, a fifth and more", Call::Count, Call::Echo, 64, "", both)?;
        self.compare("resolve", Call::Resolve, Call::Echo, 64, "≥ 0.5", both)
    }

    /// So many records of a catalogue of `scale`.
    pub(crate) fn fill(&self, port: u16, records: u64, scale: u64, save: bool) -> anyhow::Result<()> {
        let (calls, scale) = (records.to_string(), scale.to_string());
        let mut more = vec!["--calls", &calls, "--scale", &scale, "--millis", "3600000", "--callers", "16"];
        if save {
            more.push("--save");
        }
        let filled = self.world.measure(Call::PushStream, port, &more)?;
        anyhow::ensure!(filled.calls == records, "filled {} records", filled.calls);
        Ok(())
    }

    fn compare(
        &mut self,
        name: &'static str,
        ours: Call,
        echo: Call,
        callers: usize,
        bar: &'static str,
        both: &Both<'_>,
    ) -> anyhow::Result<()> {
        if !name.starts_with(&self.args.only) {
            return Ok(());
        }
        eprintln!("measuring: {name}");
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..self.args.rounds {
            b.push(self.round(echo, both.echo, both.echo_port, callers)?);
            a.push(self.round(ours, both.server, both.port, callers)?);
        }
        let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a.0.rate() / b.0.rate()).collect();
        let of = |rounds: &[(Outcome, f64)], get: fn(&(Outcome, f64)) -> f64| {
            median(&rounds.iter().map(get).collect::<Vec<_>>())
        };
        let latency = |get: fn(&Outcome) -> u32| median(&a.iter().map(|o| get(&o.0)).collect::<Vec<_>>());
        self.report.comparisons.push(Comparison {
            name,
            callers,
            rate: of(&a, |o| o.0.rate()),
            echo_rate: of(&b, |o| o.0.rate()),
            ratio: median(&ratios),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            p50_us: latency(|o| o.p50_us),
            p99_us: latency(|o| o.p99_us),
            p999_us: latency(|o| o.p999_us),
            cpu_us_per_call: of(&a, |o| o.1),
            echo_cpu_us_per_call: of(&b, |o| o.1),
            bar,
        });
        Ok(())
    }

    /// One measurement, and the server's CPU microseconds per call in it.
    fn round(
        &self,
        call: Call,
        server: &Running,
        port: u16,
        callers: usize,
    ) -> anyhow::Result<(Outcome, f64)> {
        self.round_of(call, server, port, callers, self.args.records)
    }

    /// The same on a store that was filled from a catalogue of `scale`.
    pub(crate) fn round_of(
        &self,
        call: Call,
        server: &Running,
        port: u16,
        callers: usize,
        scale: u64,
    ) -> anyhow::Result<(Outcome, f64)> {
        let (millis, callers_text) = (self.args.millis.to_string(), callers.to_string());
        let (connections, scale) = (callers.min(8).to_string(), scale.to_string());
        let more = ["--millis", &millis, "--callers", &callers_text, "--connections", &connections];
        let before = server.cpu()?;
        let outcome = self.world.measure(call, port, &[&more[..], &["--scale", &scale]].concat())?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52 calls
        let cpu = (server.cpu()? - before) * 1e6 / outcome.begun as f64;
        Ok((outcome, cpu))
    }

    #[allow(clippy::cast_precision_loss)] // some MiB
    fn memory(&mut self, name: &str, server: &Running, line: &str, bar: &str) -> anyhow::Result<()> {
        self.report.figure(name, server.memory_kib(line)? / 1024.0, "MiB", "", bar);
        Ok(())
    }

    fn idle_memory(&mut self, server: &Running, port: u16) -> anyhow::Result<()> {
        eprintln!("measuring: memory of idle connections");
        let before = server.memory_kib("VmRSS")?;
        let n = self.args.idle.to_string();
        // One call on each connection, then silence.
        let more = ["--connections", &n, "--callers", &n, "--calls", &n, "--millis", "60000", "--hold"];
        let (_held, line) = Running::holding(&mut self.world.load(Call::Pull, port, &more)?)?;
        let outcome: Outcome = serde_json::from_str(&line)?;
        anyhow::ensure!(outcome.errors == 0, "{} calls failed", outcome.errors);
        let after = server.memory_kib("VmRSS")?;
        #[allow(clippy::cast_precision_loss)] // a few thousand connections
        let each = (after - before) * 1024.0 / 1000.0 / self.args.idle as f64;
        self.report.figure("RSS per idle mTLS connection", each, "kB", format!("{n} connections"), "≤ 40 kB");
        Ok(())
    }

    /// From starting the process to `/readyz`.
    fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        eprintln!("measuring: start to ready");
        let mut seconds = Vec::new();
        for _ in 0..self.args.rounds {
            let begin = Instant::now();
            let (server, _) = self.world.directory("embedded", &Store::Layout)?;
            seconds.push(begin.elapsed().as_secs_f64());
            server.terminate()?;
        }
        self.report.figure(name, median(&seconds), "s", spread(&seconds), "≤ 1 s with 100,000 records");
        Ok(())
    }

    /// The index is lost: from starting the process until it holds every record again, while it serves.
    fn rebuild(&mut self) -> anyhow::Result<()> {
        eprintln!("measuring: rebuild of the index");
        std::fs::remove_dir_all(self.world.dir.path().join("embedded/index"))?;
        let begin = Instant::now();
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        let outcome = self.world.measure(Call::Rebuilt, port, &["--callers", "1", "--connections", "1"])?;
        let seconds = begin.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // far below 2^52 records
        let rate = outcome.calls as f64 / seconds;
        let detail = format!("{} records in {seconds:.1} s, start included", outcome.calls);
        self.report.figure("rebuild from the layout", rate, "records/s", detail, "≥ 5,000 records/s");
        self.memory("RSS peak of the rebuild", &server, "VmHWM", "")?;
        server.terminate()
    }
}
