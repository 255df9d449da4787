//! Registries as processes of their own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a registry may take to answer its first request.
const START: Duration = Duration::from_secs(30);

/// A client of our own, beside those of the store.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A registry that runs until this is dropped.
pub(crate) struct Running {
    child: Child,
    /// `127.0.0.1:<port>`.
    pub(crate) address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts what `command` says for a free port, and waits until it answers. A port may be taken between the choice
    /// and the start: then another one is tried.
    pub(crate) async fn start(command: impl Fn(u16) -> Command) -> Self {
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let mut command = command(port);
            let child =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut running = Self { child, address: format!("127.0.0.1:{port}") };
            if running.answers().await {
                return running;
            }
        }
        panic!("{:?} does not stay up", command(0));
    }

    async fn answers(&mut self) -> bool {
        let url = format!("http://{}/v2/", self.address);
        let deadline = Instant::now() + START;
        let http = http();
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{url} did not answer within {START:?}");
    }
}

/// Flips a bit of a file.
pub(crate) fn flip(path: &Path) -> bool {
    let mut bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes[3] ^= 1;
    std::fs::write(path, bytes).unwrap();
    true
}
