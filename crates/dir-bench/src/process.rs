//! Child processes of the report, and what the kernel says of their CPU and memory.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks per second of `/proc/PID/stat`: 100 on every Linux that Rust targets.
const TICKS: f64 = 100.0;
/// How long a child may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server may be busy after it became ready.
const QUIET: Duration = Duration::from_secs(600);

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child, Option<BufReader<ChildStdout>>);

impl Running {
    /// Starts a server and waits until `port` accepts connections.
    pub(crate) fn server(command: &mut Command, port: u16) -> anyhow::Result<Self> {
        let child = Running(command.stdin(Stdio::null()).spawn()?, None);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(Instant::now() < end, "{command:?} does not listen on {port}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(child)
    }

    /// Waits until `/readyz` on the ops port says yes, as long as the process lives.
    pub(crate) fn wait_ready(&mut self, ops_port: u16) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !ready(ops_port).unwrap_or(false) {
            anyhow::ensure!(self.0.try_wait()?.is_none(), "the server ended before it was ready");
            anyhow::ensure!(Instant::now() < end, "not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Starts a load process and hands over its first line; the process lives until the handle is dropped.
    pub(crate) fn holding(command: &mut Command) -> anyhow::Result<(Self, String)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no standard output"))?;
        let mut out = BufReader::new(out);
        let mut line = String::new();
        out.read_line(&mut line)?;
        Ok((Running(child, Some(out)), line))
    }

    /// Ends a load process that holds by closing its standard input, and hands over its last line.
    pub(crate) fn release(mut self) -> anyhow::Result<String> {
        drop(self.0.stdin.take());
        let mut line = String::new();
        if let Some(mut out) = self.1.take() {
            out.read_line(&mut line)?;
        }
        self.0.wait()?;
        Ok(line)
    }

    /// CPU seconds used so far, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / TICKS)
    }

    /// Waits until the process has nothing left to do by itself: work of the last run that goes on behind would be
    /// measured as work of the calls.
    pub(crate) fn wait_quiet(&self) -> anyhow::Result<()> {
        let end = Instant::now() + QUIET;
        loop {
            let before = self.cpu()?;
            std::thread::sleep(Duration::from_millis(500));
            if self.cpu()? - before < 0.02 {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "still busy by itself after {QUIET:?}");
        }
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS` now, `VmHWM` at its highest.
    pub(crate) fn memory_kib(&self, line: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        Ok(value.and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0.0))
    }

    /// Ends it gracefully.
    pub(crate) fn terminate(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ready(ops_port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", ops_port))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    Ok(status.contains(" 200 "))
}
