//! Pushes: how fast they are, and what a large store and listeners cost them.

use crate::bench::{Bench, SMALL};
use crate::load::{Call, Outcome};
use crate::process::Running;
use crate::report::{median, spread};
use crate::world::Store;

/// Pushes whose 99th percentile is one sample: twenty of them are slower.
const SAMPLE: u64 = 2_000;
/// Samples of each side at least: the median of ratios that one stall of the disk does not decide.
const SAMPLES: u32 = 9;

impl Bench<'_> {
    /// New records for a while, or so many of them.
    pub(crate) fn push(
        &mut self,
        call: Call,
        port: u16,
        callers: u32,
        calls: u64,
    ) -> anyhow::Result<Outcome> {
        self.run += 1;
        let millis = if calls == 0 { self.args.millis } else { 600_000 };
        let [millis, run, callers, calls] =
            [millis, self.run, u64::from(callers), calls].map(|n| n.to_string());
        let more = ["--millis", &millis, "--callers", &callers, "--run", &run, "--calls", &calls];
        self.world.measure(call, port, &more)
    }

    pub(crate) fn pushes(&mut self, name: &str, call: Call, port: u16, bar: &str) -> anyhow::Result<()> {
        eprintln!("measuring: {name}");
        let mut outcomes = Vec::new();
        for _ in 0..self.args.rounds {
            let callers = if call == Call::PushStream { 16 } else { 64 };
            outcomes.push(self.push(call, port, callers, 0)?);
        }
        let rates: Vec<f64> = outcomes.iter().map(Outcome::rate).collect();
        let p99 = median(&outcomes.iter().map(|o| o.p99_us).collect::<Vec<_>>());
        let spread = format!("{}, p99 {p99} µs", spread(&rates));
        self.report.figure(name, median(&rates), "records/s", spread, bar);
        Ok(())
    }

    /// The same pushes into a small store and into the populated one.
    pub(crate) fn pushes_by_size(&mut self, port: u16) -> anyhow::Result<()> {
        eprintln!("measuring: push into a small store and into the populated one");
        let (small, small_port) = self.world.directory("small", &Store::Layout)?;
        self.fill(small_port, SMALL, self.args.records, false)?;
        self.push_p99("embedded layout", small_port, port)?;
        drop(small);
        Ok(())
    }

    /// The p99 of pushes into one store beside that of pushes into a small one. Who goes first alternates.
    pub(crate) fn push_p99(&mut self, store: &str, small: u16, large: u16) -> anyhow::Result<()> {
        let (mut ratios, mut few, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.args.rounds.max(SAMPLES) {
            let mut ports = [(small, &mut few), (large, &mut many)];
            if round % 2 == 1 {
                ports.reverse();
            }
            for (port, p99) in ports {
                p99.push(self.push(Call::Push, port, 8, SAMPLE)?.p99_us);
            }
            let last = |all: &[u32]| f64::from(all.last().copied().unwrap_or(0).max(1));
            ratios.push(last(&many) / last(&few));
        }
        let (few, many) = (median(&few), median(&many));
        let spread = format!("{}, p99 {many} µs and {few} µs with 8 callers", spread(&ratios));
        let name = format!("push p99, {store}, ratio to {SMALL} records");
        self.report.figure(name, median(&ratios), "", spread, "≤ 1.5");
        Ok(())
    }

    /// What listeners cost pushes. Server and listeners share the machine: whose CPU it is stands beside.
    pub(crate) fn pushes_beside_listeners(&mut self, server: &Running, port: u16) -> anyhow::Result<()> {
        eprintln!("measuring: push beside {} listeners", self.args.listeners);
        let listeners = self.args.listeners.to_string();
        let (mut ratios, mut own, mut own_beside, mut theirs, mut heard) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.args.rounds {
            let (alone, cpu) = self.measured(server, port)?;
            let more = ["--callers", &listeners, "--connections", "16"];
            let (held, _) = Running::holding(&mut self.world.load(Call::Listen, port, &more)?)?;
            let before = held.cpu()?;
            let (beside, cpu_beside) = self.measured(server, port)?;
            #[allow(clippy::cast_precision_loss)] // far below 2^52 records
            let per_push = |seconds: f64| seconds * 1e6 / beside.begun as f64;
            theirs.push(per_push(held.cpu()? - before));
            let told: f64 = held.release()?.trim().parse()?;
            #[allow(clippy::cast_precision_loss)] // far below 2^52 records
            heard.push(told / beside.begun as f64);
            own.push(cpu);
            own_beside.push(cpu_beside);
            ratios.push(beside.rate() / alone.rate());
        }
        let name = format!("push beside {listeners} listeners, ratio to alone");
        self.report.figure(name, median(&ratios), "", spread(&ratios), "≥ 0.8");
        let name = |what: &str| format!("CPU per push beside {listeners} listeners, {what}");
        let alone = format!("alone {:.0} µs", median(&own));
        self.report.figure(name("server"), median(&own_beside), "µs", alone, "");
        let heard = format!("{:.1} events heard per push", median(&heard));
        self.report.figure(name("listeners"), median(&theirs), "µs", heard, "");
        Ok(())
    }

    /// Pushes for a while, and the server's CPU microseconds for each.
    fn measured(&mut self, server: &Running, port: u16) -> anyhow::Result<(Outcome, f64)> {
        let before = server.cpu()?;
        let outcome = self.push(Call::PushStream, port, 16, 0)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^52 records
        let cpu = (server.cpu()? - before) * 1e6 / outcome.begun as f64;
        Ok((outcome, cpu))
    }
}
