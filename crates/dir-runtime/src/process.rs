//! Process gauges with a label: the `/metrics` page must not carry a sample without one, so the collector of
//! the `prometheus` crate does not fit. Values are read from `/proc/self` when scraped; elsewhere they stay 0.

use nix::sys::resource::{Resource, setrlimit};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks a second in `/proc/self/stat`: fixed at 100 in the kernel's user interface on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
// Positions in `/proc/self/stat`, counted after the name in parentheses (proc(5)).
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;

struct Process {
    component: String,
    memory: GaugeVec,
    fds: GaugeVec,
    threads: GaugeVec,
    cpu: GaugeVec,
    start: GaugeVec,
}

/// Registers `process_resident_memory_bytes`, `process_open_fds`, `process_threads`, `process_cpu_seconds`
/// and `process_start_time_seconds`, each with the label `component`.
pub fn register(metrics: &Registry, component: &str) -> Result<(), prometheus::Error> {
    let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["component"]);
    let process = Process {
        component: component.to_owned(),
        memory: gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
        fds: gauge("process_open_fds", "Open file descriptors.")?,
        threads: gauge("process_threads", "Threads of the process.")?,
        cpu: gauge("process_cpu_seconds", "User and system time used, in seconds.")?,
        start: gauge("process_start_time_seconds", "Start of the process, seconds since the Unix epoch.")?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    process.start.with_label_values(&[component]).set(now);
    metrics.register(Box::new(process))
}

/// Makes sure that the memory of this process, in which there are keys, is never written to a file nor read by other
/// processes of the same account. The first thing that a program with secrets does.
pub fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // The limit alone says nothing to a core pattern that pipes into a program.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

impl Process {
    fn all(&self) -> [&GaugeVec; 5] {
        [&self.memory, &self.fds, &self.threads, &self.cpu, &self.start]
    }

    fn refresh(&self) {
        let label = &[self.component.as_str()];
        if let Some(bytes) = resident_bytes() {
            self.memory.with_label_values(label).set(bytes);
        }
        if let Ok(dir) = fs::read_dir("/proc/self/fd") {
            #[expect(clippy::cast_precision_loss, reason = "a count of descriptors is far below 2^52")]
            self.fds.with_label_values(label).set(dir.count() as f64);
        }
        if let Some((cpu, threads)) = cpu_and_threads() {
            self.cpu.with_label_values(label).set(cpu);
            self.threads.with_label_values(label).set(threads);
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn cpu_and_threads() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<f64> =
        stat.rsplit_once(") ")?.1.split(' ').map(|f| f.trim().parse().unwrap_or_default()).collect();
    Some(((fields.get(UTIME)? + fields.get(STIME)?) / TICKS_PER_SECOND, *fields.get(THREADS)?))
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_label_and_a_value() {
        let metrics = Registry::new();
        register(&metrics, "test").unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
        let samples: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(samples.len(), 5, "{text}");
        for sample in samples {
            assert!(sample.contains("{component=\"test\"}"), "{sample}");
            // A process this young may have used no whole tick of the processor yet.
            assert!(!sample.ends_with(" 0") || sample.starts_with("process_cpu"), "{sample}");
        }
    }
}
