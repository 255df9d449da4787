//! Starting and stopping the parts of a world: our binaries, proxies, registries, SPIRE.
//!
//! Everything runs on loopback in a temporary directory and is killed when its handle is dropped. Waiting is
//! always for a predicate, within [`PATIENCE`].

pub mod attacker;
pub mod caller;
pub mod callers;
pub mod nginx;
pub mod proc;
pub mod rotation;
pub mod server;
pub mod spire;
pub mod store_story;
pub mod workload;
pub mod zot;

pub use dir_runtime::free_port;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a part may take to become what a test waits for. Generous: CI machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Installs the one crypto provider of the product; every call after the first does nothing.
pub fn init() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").components().collect()
}

/// A binary of ours, built beside the running test or program.
pub fn our(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let mut above = exe.ancestors().skip(1).skip_while(|dir| dir.ends_with("deps"));
    let dir = above.next().ok_or_else(|| anyhow::anyhow!("no target folder above {}", exe.display()))?;
    let path = dir.join(name);
    anyhow::ensure!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    Ok(path)
}

/// A program that somebody else provides: in `.tools/bin`, or on PATH. `hint` says how to get it.
pub fn tool(name: &str, hint: &str) -> anyhow::Result<PathBuf> {
    let own = root().join(".tools/bin").join(name);
    if own.exists() {
        return Ok(own);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
        .ok_or_else(|| anyhow::anyhow!("{name} was not found: {hint}"))
}

/// Asks `ready` until it says yes.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if ready() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    anyhow::bail!("{what}: not within {PATIENCE:?}")
}
