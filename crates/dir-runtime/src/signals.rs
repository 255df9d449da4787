//! Signals: the first SIGTERM, SIGINT or SIGQUIT asks for a drain, the second ends the process at once with
//! status 1, SIGHUP asks for a reload.

use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Exit status of a process that was asked to stop twice.
pub const SECOND_SIGNAL_STATUS: i32 = 1;

/// Wrappers (`timeout`, shells, terminals) deliver one request twice: what follows the first this soon is no second.
pub const SAME_REQUEST: Duration = Duration::from_millis(250);

/// What the process was asked for from outside.
#[derive(Debug, Clone)]
pub struct Signals {
    stop: CancellationToken,
    reload: watch::Receiver<u64>,
}

impl Signals {
    /// Takes over the process's signals. Call once, inside the runtime.
    pub fn install() -> std::io::Result<Self> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let hup = signal(SignalKind::hangup())?;
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                let name = tokio::select! {
                    Some(()) = term.recv() => "SIGTERM",
                    Some(()) = int.recv() => "SIGINT",
                    Some(()) = quit.recv() => "SIGQUIT",
                    else => return,
                };
                if let Some(at) = first {
                    if Instant::now().duration_since(at) < SAME_REQUEST {
                        continue;
                    }
                    tracing::warn!(signal = name, "second signal: stopping at once");
                    std::process::exit(SECOND_SIGNAL_STATUS);
                }
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                first = Some(Instant::now());
                asked.cancel();
            }
        });
        Ok(Self { stop, reload: count(hup) })
    }

    /// Becomes cancelled at the first signal to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Number of reloads asked for so far; wakes at each.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reload.clone()
    }
}

fn count(mut hup: Signal) -> watch::Receiver<u64> {
    let (tx, rx) = watch::channel(0);
    tokio::spawn(async move {
        while hup.recv().await.is_some() {
            tracing::info!(signal = "SIGHUP", "reload asked for");
            tx.send_modify(|n| *n += 1);
        }
    });
    rx
}
