//! A `dir-apiserver` process in a folder of its own.

use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take. Generous: machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `holds` answers something.
pub(crate) fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// A command of the binary under test, without the environment of the test.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dir-apiserver"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    log: PathBuf,
    errors: PathBuf,
}

impl Node {
    /// Starts `serve` with `args`, on ports that the system chooses, keeping everything below `home`. The log of
    /// each process is a file of its own.
    pub(crate) fn spawn(home: &Path, args: &[&str], vars: &[(&str, &str)]) -> Self {
        let ports = ["--listen-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"];
        Self::spawn_bare(home, &[&ports[..], args].concat(), vars)
    }

    /// The same with nothing said about ports. The ops listener needs one of the system's choice.
    pub(crate) fn spawn_bare(home: &Path, args: &[&str], vars: &[(&str, &str)]) -> Self {
        let name = format!("log-{}", std::fs::read_dir(home).unwrap().count());
        let (log, errors) = (home.join(&name), home.join(format!("{name}.err")));
        let mut command = command(home);
        command
            .arg("serve")
            .args(args)
            .env("DIRECTORY_SERVER_METRICS_ADDRESS", "127.0.0.1:0")
            .env("DIRECTORY_LOGGER_LOG_FORMAT", "json")
            .env("DIRECTORY_LOGGER_LOG_FILE", &log)
            .env("DIRECTORY_SERVER_SHUTDOWN_LB_WAIT", "0s")
            .envs(vars.iter().copied())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap());
        Self { child: command.spawn().unwrap(), log, errors }
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        let mut node = Self::spawn(home, args, &[]);
        node.ready();
        node
    }

    /// Everything in its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Moves the log file away, as a log rotation does, and answers where it was.
    pub(crate) fn rotate_log(&self) -> PathBuf {
        std::fs::rename(&self.log, self.log.with_extension("1")).unwrap();
        self.log.clone()
    }

    /// Everything on its standard error.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// The first log line with this message.
    pub(crate) fn line(&self, message: &str) -> Option<Value> {
        let log = self.log();
        let mut lines = log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        lines.find(|l| l["message"].as_str().is_some_and(|m| m.starts_with(message)))
    }

    /// Waits for a log line; an early end of the process is an error that shows its output.
    pub(crate) fn wait_line(&mut self, message: &str) -> Value {
        until(message, || {
            let ended = self.child.try_wait().unwrap().is_some();
            let found = self.line(message);
            assert!(!ended || found.is_some(), "ended before {message:?}: {}{}", self.errors(), self.log());
            found
        })
    }

    fn port(&mut self, message: &str) -> u16 {
        let address = self.wait_line(message)["address"].as_str().unwrap().to_owned();
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Port of the API.
    pub(crate) fn grpc(&mut self) -> u16 {
        self.port("serving")
    }

    /// Port of the ops listener.
    pub(crate) fn ops(&mut self) -> u16 {
        self.port("ops listener up")
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) fn ready(&mut self) {
        let ops = self.ops();
        until("/readyz", || {
            assert!(self.child.try_wait().unwrap().is_none(), "ended: {}{}", self.errors(), self.log());
            get(ops, "/readyz").filter(|(code, _)| *code == 200)
        });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end and answers the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        until("end of the process", || self.child.try_wait().unwrap()).code()
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain HTTP GET: status and body; `None` when nobody answers.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let (head, body) = get_with(port, path, "")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

/// The same with headers, each with its end: the head and the body of the answer.
pub(crate) fn get_with(port: u16, path: &str, headers: &str) -> Option<(String, String)> {
    let mut io = TcpStream::connect(("127.0.0.1", port)).ok()?;
    io.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(io, "GET {path} HTTP/1.1\r\nhost: ops\r\n{headers}connection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}
