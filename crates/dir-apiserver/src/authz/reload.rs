//! Taking the policy file anew when it changes.
//!
//! The path is looked at, not an open file: a ConfigMap is replaced by swapping a symbolic link in the directory, and
//! the next look sees what is behind it then. A file is taken when it has been the same for two looks in a row, so that
//! one that is being written is not taken half.

use super::{ReadError, Source};
use dir_api::{Audit, Authorization, SecurityEvent};
use dir_core::policy::Loaded;
use dir_runtime::Latch;
use dir_runtime::readiness::State;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// The file is looked at this often.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between the two looks at a file that has changed.
pub(crate) const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// What tells one content of a path from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Follows symbolic links; `None` when nothing is there.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            place: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// What was seen last.
struct Seen {
    stamp: Option<Stamp>,
    /// The text in force.
    text: String,
    /// The file on disk is not what is in force.
    broken: bool,
}

/// Keeps the policy in force equal to the file.
#[derive(Clone)]
pub(crate) struct Reloader {
    source: Source,
    authorization: Authorization,
    latch: Latch,
    failures: IntCounter,
    audit: Option<Audit>,
    seen: Arc<Mutex<Seen>>,
}

impl Source {
    /// The text and its policy; `None` when the text is the known one.
    fn changed(&self, known: Option<&str>) -> Result<Option<(String, Loaded)>, ReadError> {
        let text = self.text()?;
        if known == Some(&text) {
            return Ok(None);
        }
        let loaded = self.parse(&text)?;
        Ok(Some((text, loaded)))
    }
}

impl Reloader {
    /// Reads the file for the first time and puts its policy in force.
    pub(crate) fn start(
        source: Source,
        authorization: Authorization,
        latch: Latch,
        audit: Option<Audit>,
        metrics: &Registry,
    ) -> anyhow::Result<Self> {
        let opts = Opts::new(
            "policy_reload_failures_total",
            "Policy files that were not taken; the old policy stays.",
        );
        let failures = IntCounterVec::new(opts, &["component"])?;
        metrics.register(Box::new(failures.clone()))?;
        let stamp = Stamp::of(&source.path);
        let text = source.text()?;
        let loaded = source.parse(&text)?;
        let seen = Arc::new(Mutex::new(Seen { stamp, text, broken: false }));
        let failures = failures.with_label_values(&["authz"]);
        let this = Self { source, authorization, latch, failures, audit, seen };
        this.put(loaded, "Authorization service initialized");
        Ok(this)
    }

    /// Looks again and again, and at once when `reloads` changes, until `stop`.
    pub(crate) async fn run(self, mut reloads: watch::Receiver<u64>, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
                Ok(()) = reloads.changed() => true,
                () = stop.cancelled() => return,
            };
            self.look(asked).await;
        }
    }

    /// Takes the file if it has changed; if `asked`, says something in any case.
    async fn look(&self, asked: bool) {
        let mut seen = self.seen.lock().await;
        let mut stamp = Stamp::of(&self.source.path);
        if stamp == seen.stamp && !asked {
            return;
        }
        // A writer that never rests is judged at the next look.
        for _ in 0..20 {
            tokio::time::sleep(SETTLE_INTERVAL).await;
            let before = std::mem::replace(&mut stamp, Stamp::of(&self.source.path));
            if before == stamp {
                break;
            }
        }
        seen.stamp = stamp;
        // Reading and compiling take milliseconds: not on a thread that serves calls.
        let source = self.source.clone();
        let known = (!seen.broken).then(|| seen.text.clone());
        let taken = tokio::task::spawn_blocking(move || source.changed(known.as_deref())).await;
        match taken {
            Ok(Ok(Some((text, loaded)))) => {
                *seen = Seen { stamp, text, broken: false };
                self.put(loaded, "policy reloaded");
            }
            Ok(Ok(None)) if asked => {
                tracing::info!(policy = %self.source.path.display(), "policy unchanged");
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => seen.broken = self.refuse(&error),
            Err(error) => seen.broken = self.refuse(&ReadError::Io(std::io::Error::other(error))),
        }
    }

    fn put(&self, loaded: Loaded, message: &'static str) {
        let path = self.source.path.display();
        for warning in &loaded.warnings {
            tracing::warn!(policy = %path, line = warning.at.line, kind = warning.kind.as_str(), "policy: {warning}");
        }
        let (rules, shadow) = (loaded.policy.rules().len(), loaded.policy.is_shadow());
        let generation = self.authorization.set(loaded.policy);
        tracing::info!(enforcer_policy_filepath = %path, rules, shadow, policy_generation = generation, "{message}");
        if let Some(audit) = &self.audit {
            audit.event(SecurityEvent::PolicyReloaded { policy_generation: generation, rules, shadow });
        }
        self.latch.ready();
    }

    /// Always `true`: the file is broken.
    fn refuse(&self, error: &ReadError) -> bool {
        self.failures.inc();
        let path = self.source.path.display();
        let policy_generation = self.authorization.generation();
        tracing::error!(policy = %path, policy_generation, %error, "policy not taken: the old one stays in force");
        if let Some(audit) = &self.audit {
            audit.event(SecurityEvent::PolicyRefused { policy_generation, reason: error.to_string() });
        }
        self.latch.set(State::Degraded(format!("{path} is not taken, the old policy is in force: {error}")));
        true
    }
}
