//! The report: what is measured, in which order, against which bar.

use crate::load::{Call, Outcome};
use crate::process::Running;
use crate::registry;
use crate::world::{Store, World};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What to measure, and where the result goes.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The `dir-apiserver` binary; by default the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Records in the populated store.
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Alternating rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of one measurement in milliseconds.
    #[arg(long, default_value_t = 2000)]
    millis: u64,
    /// Idle connections for the memory figure.
    #[arg(long, default_value_t = 1000)]
    idle: u64,
    /// Where the JSON goes.
    #[arg(long, default_value = "bench-report/report.json")]
    json: PathBuf,
}

/// A call of ours beside the echo: medians of alternating rounds.
#[derive(Debug, Serialize)]
struct Comparison {
    name: &'static str,
    callers: usize,
    rate: f64,
    echo_rate: f64,
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
    p50_us: u32,
    p99_us: u32,
    p999_us: u32,
    cpu_us_per_call: f64,
    echo_cpu_us_per_call: f64,
    bar: Option<f64>,
}

/// A figure by itself.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    spread: String,
    bar: String,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    machine: String,
    records: u64,
    comparisons: Vec<Comparison>,
    figures: Vec<Figure>,
}

fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied()
}

struct Bench<'a> {
    args: &'a ReportArgs,
    world: World,
    report: Report,
    run: u64,
}

/// Runs everything, prints the table, writes the JSON.
pub(crate) fn run(args: &ReportArgs, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let server = match &args.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("dir-apiserver"),
    };
    let world = World::start(server, runtime)?;
    let report = Report { machine: machine(), records: args.records, ..Report::default() };
    let mut bench = Bench { args, world, report, run: 0 };
    bench.embedded()?;
    bench.registry(runtime)?;
    print(&bench.report);
    if let Some(dir) = args.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&args.json, serde_json::to_string_pretty(&bench.report)?)?;
    eprintln!("JSON: {}", args.json.display());
    Ok(())
}

impl Bench<'_> {
    /// Everything against the embedded layout store.
    fn embedded(&mut self) -> anyhow::Result<()> {
        let (echo, echo_port) = self.world.echo()?;
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        eprintln!("filling the store with {} records", self.args.records);
        self.fill(port)?;
        server.terminate()?;
        self.restart("start to ready, the records of the store")?;
        let (server, port) = self.world.directory("embedded", &Store::Layout)?;
        let both = Both { echo: &echo, echo_port, server: &server, port };
        self.compare("pull, cached, 1 KiB (unary echo)", Call::Pull, Call::Echo, 64, Some(0.5), &both)?;
        self.compare("pull (echo as stream of one)", Call::Pull, Call::EchoBidi, 64, None, &both)?;
        self.compare("pull, one caller", Call::Pull, Call::Echo, 1, None, &both)?;
        self.compare("lookup", Call::Lookup, Call::Echo, 64, None, &both)?;
        self.compare("search, 3 filters, 50 CIDs (unary echo)", Call::Search, Call::Echo, 64, None, &both)?;
        self.compare("search (echo as stream of 50)", Call::Search, Call::EchoMany, 64, None, &both)?;
        self.compare("search, one caller", Call::Search, Call::EchoMany, 1, None, &both)?;
        self.pushes("push, embedded layout, durable", Call::PushStream, port, "≥ 2,000 records/s")?;
        self.pushes("push, stream of one", Call::Push, port, "")?;
        self.idle_memory(&server, port)?;
        let peak = server.memory_kib("VmHWM")? / 1024.0;
        self.figure("server peak RSS after all of this", peak, "MiB", String::new(), "");
        server.terminate()?;
        self.restart("start to ready, all that was pushed above too")
    }

    fn fill(&mut self, port: u16) -> anyhow::Result<()> {
        let calls = self.args.records.to_string();
        let more = ["--calls", &calls, "--millis", "600000", "--save", "--callers", "16"];
        let filled = self.world.measure(Call::PushStream, port, &more)?;
        anyhow::ensure!(filled.calls == self.args.records, "filled {} records", filled.calls);
        Ok(())
    }

    fn compare(
        &mut self,
        name: &'static str,
        ours: Call,
        echo: Call,
        callers: usize,
        bar: Option<f64>,
        both: &Both<'_>,
    ) -> anyhow::Result<()> {
        eprintln!("measuring: {name}");
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..self.args.rounds {
            b.push(self.round(echo, both.echo, both.echo_port, callers)?);
            a.push(self.round(ours, both.server, both.port, callers)?);
        }
        let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a.0.rate() / b.0.rate()).collect();
        let of = |rounds: &[(Outcome, f64)], get: fn(&(Outcome, f64)) -> f64| {
            median(&rounds.iter().map(get).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        let latency =
            |get: fn(&Outcome) -> u32| median(&a.iter().map(|o| get(&o.0)).collect::<Vec<_>>()).unwrap_or(0);
        self.report.comparisons.push(Comparison {
            name,
            callers,
            rate: of(&a, |o| o.0.rate()),
            echo_rate: of(&b, |o| o.0.rate()),
            ratio: median(&ratios).unwrap_or(0.0),
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
        let (millis, callers_text) = (self.args.millis.to_string(), callers.to_string());
        let connections = callers.min(8).to_string();
        let more = ["--millis", &millis, "--callers", &callers_text, "--connections", &connections];
        let before = server.cpu()?;
        let outcome = self.world.measure(call, port, &more)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52 calls
        let cpu = (server.cpu()? - before) * 1e6 / outcome.begun as f64;
        Ok((outcome, cpu))
    }

    fn pushes(&mut self, name: &str, call: Call, port: u16, bar: &str) -> anyhow::Result<f64> {
        eprintln!("measuring: {name}");
        let mut rates = Vec::new();
        let mut p99 = Vec::new();
        for _ in 0..self.args.rounds {
            self.run += 1;
            let (millis, run) = (self.args.millis.to_string(), self.run.to_string());
            let callers = if call == Call::PushStream { "16" } else { "64" };
            let more = ["--millis", &millis, "--callers", callers, "--run", &run];
            let outcome = self.world.measure(call, port, &more)?;
            rates.push(outcome.rate());
            p99.push(outcome.p99_us);
        }
        let rate = median(&rates).unwrap_or(0.0);
        let spread = format!("{}, p99 {} µs", spread(&rates), median(&p99).unwrap_or(0));
        self.figure(name, rate, "records/s", spread, bar);
        Ok(rate)
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
        self.figure("RSS per idle mTLS connection", each, "kB", format!("{n} connections"), "≤ 40 kB");
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
        let spread = spread(&seconds);
        let bar = "≤ 1 s with 10,000 records";
        self.figure(name, median(&seconds).unwrap_or(0.0), "s", spread, bar);
        Ok(())
    }

    /// Pushes through a server whose records live in a real registry, beside the registry alone.
    fn registry(&mut self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        let dir = self.world.dir.path().to_owned();
        let Some(registry) = registry::start(&dir)? else {
            eprintln!("zot is not on PATH: the registry figures are left out");
            return Ok(());
        };
        let (server, port) = self.world.directory("registry", &Store::Registry(registry.port))?;
        let length = Duration::from_millis(self.args.millis);
        let (mut ours, mut alone) = (Vec::new(), Vec::new());
        eprintln!("measuring: push through {}", registry.name);
        for _ in 0..self.args.rounds {
            alone.push(runtime.block_on(registry::alone(registry.port, 64, length))?);
            self.run += 1;
            let (millis, run) = (self.args.millis.to_string(), self.run.to_string());
            let more = ["--millis", &millis, "--callers", "64", "--run", &run];
            ours.push(self.world.measure(Call::Push, port, &more)?.rate());
        }
        drop(server);
        let ratios: Vec<f64> = ours.iter().zip(&alone).map(|(a, b)| a / b).collect();
        let name = |what: &str| format!("push, sharded {}, {what}", registry.name);
        self.figure(&name("through us"), median(&ours).unwrap_or(0.0), "records/s", spread(&ours), "");
        self.figure(
            &name("the registry alone"),
            median(&alone).unwrap_or(0.0),
            "records/s",
            spread(&alone),
            "",
        );
        self.figure(
            &name("ratio"),
            median(&ratios).unwrap_or(0.0),
            "",
            spread(&ratios),
            "limited by the registry",
        );
        Ok(())
    }

    fn figure(&mut self, name: &str, value: f64, unit: &'static str, spread: String, bar: &str) {
        self.report.figures.push(Figure { name: name.to_owned(), value, unit, spread, bar: bar.to_owned() });
    }
}

struct Both<'a> {
    echo: &'a Running,
    echo_port: u16,
    server: &'a Running,
    port: u16,
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!("{low:.2} … {high:.2}")
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1));
    format!("{cpus} CPUs, {}", model.unwrap_or("unknown model"))
}

fn print(report: &Report) {
    println!(
        "machine: {}; {} records; medians of alternating rounds, ratio with its spread",
        report.machine, report.records
    );
    println!(
        "{:<42} {:>7} {:>9} {:>9} {:>6} {:>13} {:>5} {:>8} {:>8} {:>9} {:>9}",
        "call",
        "callers",
        "calls/s",
        "echo/s",
        "ratio",
        "spread",
        "bar",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs"
    );
    for c in &report.comparisons {
        println!(
            "{:<42} {:>7} {:>9.0} {:>9.0} {:>6.2} {:>13} {:>5} {:>8} {:>8} {:>9} {:>4.0}/{:<4.0}",
            c.name,
            c.callers,
            c.rate,
            c.echo_rate,
            c.ratio,
            format!("{:.2} … {:.2}", c.ratio_min, c.ratio_max),
            c.bar.map_or_else(String::new, |b| format!("≥{b}")),
            c.p50_us,
            c.p99_us,
            c.p999_us,
            c.cpu_us_per_call,
            c.echo_cpu_us_per_call
        );
    }
    for f in &report.figures {
        println!("{:<42} {:>12.2} {:<10} ({}) {}", f.name, f.value, f.unit, f.spread, f.bar);
    }
}
