//! A child process with its output in a file.

use crate::wait_until;
use anyhow::Context;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Proc {
    /// Starts `command`; standard output and error go to `dir/NAME.log`.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its output contains `text`.
    pub fn wait_for_output(&mut self, text: &str) -> anyhow::Result<()> {
        self.wait_for(&format!("output with {text:?}"), |p| p.output().contains(text))
    }

    /// Waits until `ready` says yes; an early end of the program is an error that quotes its output.
    pub fn wait_for(&mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let mut ended = None;
        let waited = wait_until(&format!("{}: {what}", self.name), || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready(self)
        });
        if let Some(status) = ended {
            anyhow::bail!("{} ended with {status} before {what}:\n{}", self.name, self.output());
        }
        waited.with_context(|| self.output())
    }

    /// Sends a signal (`libc::SIGTERM`, …) by the `kill` program: no unsafe code here.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {signal} {}: {status}", self.pid());
        Ok(())
    }

    /// Waits for the end.
    pub fn wait_end(&mut self) -> anyhow::Result<ExitStatus> {
        let mut ended = None;
        wait_until(&format!("{}: end", self.name), || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        })?;
        ended.context("no exit status")
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end; its output as text, whatever its exit status.
pub fn run(command: &mut Command) -> anyhow::Result<Ran> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { command: format!("{command:?}"), status, stdout: text(stdout), stderr: text(stderr) })
}

/// The end of a program.
#[derive(Debug)]
pub struct Ran {
    /// What was run.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output of a program that ended well; its whole output as an error otherwise.
    pub fn good(self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.status.success(),
            "{} ended with {}\n{}{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}
