//! Figures of stores that are filled directly: a real registry, and a million records.

use crate::bench::{Bench, SMALL};
use crate::load::Call;
use crate::registry;
use crate::report::{median, spread};
use crate::world::Store;
use dir_testkit::fill::{Fill, Shape, fill};
use std::time::{Duration, Instant};

/// Callers and calls of one measurement of a percentile.
const CALLERS: u32 = 8;
const CALLS: u64 = 500;
/// Records of the large store.
const MILLION: u64 = 1_000_000;

impl Bench<'_> {
    /// Pushes through a server whose records live in a real registry, beside the registry alone; then what a registry
    /// that has many records costs.
    pub(crate) fn registry(&mut self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        let dir = self.world.dir.path().join("zot-empty");
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
            ours.push(self.push(Call::Push, port, 64, 0)?.rate());
        }
        let name = |what: &str| format!("push, sharded {}, {what}", registry.name);
        let ratios: Vec<f64> = ours.iter().zip(&alone).map(|(a, b)| a / b).collect();
        self.report.figure(name("through us"), median(&ours), "records/s", spread(&ours), "");
        self.report.figure(name("the registry alone"), median(&alone), "records/s", spread(&alone), "");
        self.report.figure(name("ratio"), median(&ratios), "", spread(&ratios), "limited by the registry");
        drop((server, registry));
        self.registry_by_size(runtime)
    }

    /// Pushes into a registry with few records and into one with many.
    pub(crate) fn registry_by_size(&mut self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        eprintln!("measuring: push into a small registry and into a populated one");
        let (mut ports, mut held) = (Vec::new(), Vec::new());
        for (name, records) in [("zot-small", SMALL), ("zot-large", self.args.records)] {
            let dir = self.world.dir.path().join(name);
            fill(&dir.join("zot"), &Fill::new(Shape::Sharded, records), |_| ())?;
            let Some(registry) = registry::start(&dir)? else { return Ok(()) };
            let (server, port) =
                self.world.directory(&format!("on-{name}"), &Store::Registry(registry.port))?;
            let rate = self.rebuilt(port)?;
            if name == "zot-large" {
                let bar = "as fast as the registry answers";
                self.report.figure("rebuild from Zot, sharded", rate, "records/s", "", bar);
            }
            server.wait_quiet()?;
            ports.push(port);
            held.push((server, registry));
        }
        let [(_, small), (_, large)] = &held[..] else { return Ok(()) };
        self.registry_p99(runtime, [ports[0], ports[1]], [small, large])
    }

    /// The 99th percentiles of pushes into both, beside those of the two bare requests of a push, in turns; and what a
    /// push costs the registry, which says more on a busy machine.
    fn registry_p99(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        ports: [u16; 2],
        registries: [&registry::Registry; 2],
    ) -> anyhow::Result<()> {
        let (mut ours, mut bare) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut cpu = [Vec::new(), Vec::new()];
        for _ in 0..self.args.rounds.max(5) {
            for size in 0..2 {
                let before = registries[size].running.cpu()?;
                let outcome = self.push(Call::Push, ports[size], CALLERS, CALLS)?;
                let spent = registries[size].running.cpu()? - before;
                #[allow(clippy::cast_precision_loss)] // far below 2^52
                cpu[size].push(spent * 1e6 / outcome.calls.max(1) as f64);
                ours[size].push(f64::from(outcome.p99_us));
                let alone = registry::alone_p99(registries[size].port, "dir", CALLERS, CALLS);
                bare[size].push(f64::from(runtime.block_on(alone)?));
            }
        }
        for (what, [few, many], unit, bar) in [
            ("push p99, sharded Zot", ours, "µs", "≤ 1.5"),
            ("its two requests alone, p99", bare, "µs", "the registry's own"),
            ("CPU of the registry a push", cpu, "µs", ""),
        ] {
            let ratios: Vec<f64> = many.iter().zip(&few).map(|(many, few)| many / few.max(1.0)).collect();
            let name = format!("{what}, ratio to {SMALL} records");
            let detail = format!(
                "{}, {:.0} and {:.0} {unit} with {CALLERS} callers",
                spread(&ratios),
                median(&few),
                median(&many)
            );
            self.report.figure(name, median(&ratios), "", detail, bar);
        }
        Ok(())
    }

    /// Waits until the index holds every record; records a second.
    fn rebuilt(&self, port: u16) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let outcome = self.world.measure(Call::Rebuilt, port, &["--callers", "1", "--connections", "1"])?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52 records
        Ok(outcome.calls as f64 / begun.elapsed().as_secs_f64())
    }

    /// Searches in a million records.
    pub(crate) fn million(&mut self) -> anyhow::Result<()> {
        eprintln!("measuring: searches in {MILLION} records");
        let dir = self.world.dir.path().join("million");
        fill(&dir.join("store"), &Fill::new(Shape::Layout, MILLION), |n| eprintln!("{n} records"))?;
        let (server, port) = self.world.directory("million", &Store::Layout)?;
        let rate = self.rebuilt(port)?;
        self.report.figure("rebuild of a million records", rate, "records/s", "", "≥ 5,000 records/s");
        server.wait_quiet()?;
        for (name, call) in [
            ("search p99, 3 filters, a million records", Call::Search),
            ("search p99 inside texts, a million records", Call::SearchInside),
        ] {
            let mut p99 = Vec::new();
            for _ in 0..self.args.rounds {
                p99.push(f64::from(self.round_of(call, &server, port, 1, MILLION)?.0.p99_us) / 1000.0);
            }
            self.report.figure(name, median(&p99), "ms", spread(&p99), "≤ 10 ms");
        }
        let rss = server.memory_kib("VmRSS")? / 1024.0;
        self.report.figure("RSS with a million records", rss, "MiB", "", "");
        server.terminate()
    }
}
