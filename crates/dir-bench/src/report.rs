//! The report: what was measured, against which bar, as a table and as JSON.

use serde::Serialize;

/// A call of ours beside the echo: medians of alternating rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) callers: usize,
    pub(crate) rate: f64,
    pub(crate) echo_rate: f64,
    pub(crate) ratio: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) p999_us: u32,
    pub(crate) cpu_us_per_call: f64,
    pub(crate) echo_cpu_us_per_call: f64,
    pub(crate) bar: &'static str,
}

/// A figure by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) spread: String,
    pub(crate) bar: String,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) records: u64,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn figure(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        spread: impl Into<String>,
        bar: impl Into<String>,
    ) {
        let (name, spread, bar) = (name.into(), spread.into(), bar.into());
        self.figures.push(Figure { name, value, unit, spread, bar });
    }
}

pub(crate) fn median<T: Copy + PartialOrd + Default>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!("{low:.2} … {high:.2}")
}

pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1));
    format!("{cpus} CPUs, {}", model.unwrap_or("unknown model"))
}

pub(crate) fn print(report: &Report) {
    println!(
        "machine: {}; {} records; medians of alternating rounds, ratio with its spread",
        report.machine, report.records
    );
    println!(
        "{:<42} {:>7} {:>9} {:>9} {:>6} {:>13} {:>8} {:>8} {:>9} {:>10} {:>5}  bar",
        "call",
        "callers",
        "calls/s",
        "echo/s",
        "ratio",
        "spread",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs",
        "×"
    );
    for c in &report.comparisons {
        println!(
            "{:<42} {:>7} {:>9.0} {:>9.0} {:>6.2} {:>13} {:>8} {:>8} {:>9} {:>10} {:>5.2}  {}",
            c.name,
            c.callers,
            c.rate,
            c.echo_rate,
            c.ratio,
            format!("{:.2} … {:.2}", c.ratio_min, c.ratio_max),
            c.p50_us,
            c.p99_us,
            c.p999_us,
            format!("{:.0}/{:.0}", c.cpu_us_per_call, c.echo_cpu_us_per_call),
            c.cpu_us_per_call / c.echo_cpu_us_per_call,
            c.bar
        );
    }
    for f in &report.figures {
        println!("{:<52} {:>12.2} {:<10} ({}) {}", f.name, f.value, f.unit, f.spread, f.bar);
    }
}
