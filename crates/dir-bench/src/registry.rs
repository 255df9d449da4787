//! A real registry, and what it can take by itself: the bound of every push that goes through us.

use crate::process::Running;
use dir_core::Cid;
use dir_runtime::free_port;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A registry that was found on this machine.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) running: Running,
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file())
}

/// Starts Zot when it is on PATH; `None` otherwise. Its data is in the folder `zot`.
pub(crate) fn start(dir: &Path) -> anyhow::Result<Option<Registry>> {
    let Some(zot) = on_path("zot") else { return Ok(None) };
    let port = free_port()?;
    std::fs::create_dir_all(dir)?;
    let config = dir.join("zot.json");
    let root = dir.join("zot");
    std::fs::write(
        &config,
        format!(
            r#"{{"distSpecVersion": "1.1.1", "log": {{"level": "error"}},
"storage": {{"rootDirectory": "{}", "dedupe": false, "gc": false}},
"http": {{"address": "127.0.0.1", "port": "{port}"}}}}"#,
            root.display()
        ),
    )?;
    let log = std::fs::File::create(dir.join("zot.log"))?;
    let mut command = Command::new(zot);
    command.arg("serve").arg(&config).stdout(log.try_clone()?).stderr(log);
    Ok(Some(Registry { name: "Zot", port, running: Running::server(&mut command, port)? }))
}

/// Records a second that the registry takes from `callers` concurrent writers that do nothing but the two
/// requests of a push: one upload and one manifest, spread over the shards as ours are.
pub(crate) async fn alone(port: u16, callers: u32, length: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let done = writers(port, "alone", callers, Until::Time(start + length)).await?.len();
    #[allow(clippy::cast_precision_loss)] // far below 2^52 records
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// The 99th percentile, in microseconds, of so many of these pairs of requests into the shards of `stem`.
pub(crate) async fn alone_p99(port: u16, stem: &str, callers: u32, calls: u64) -> anyhow::Result<u32> {
    let mut micros = writers(port, stem, callers, Until::Calls(calls)).await?;
    micros.sort_unstable();
    Ok(micros.get(micros.len() * 99 / 100).copied().unwrap_or_default())
}

/// When writers end.
#[derive(Debug, Clone, Copy)]
enum Until {
    Time(Instant),
    Calls(u64),
}

/// How long each write took, in microseconds.
async fn writers(port: u16, stem: &str, callers: u32, until: Until) -> anyhow::Result<Vec<u32>> {
    let client = reqwest::Client::builder().build()?;
    let (next, stem) = (Arc::new(AtomicU64::new(0)), Arc::<str>::from(stem));
    // Each run writes records of its own.
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let writers = (0..callers).map(|_| {
        let (client, next, stem) = (client.clone(), next.clone(), stem.clone());
        tokio::spawn(async move {
            let mut micros = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Time(end) => Instant::now() >= end,
                    Until::Calls(calls) => n >= calls,
                };
                if over {
                    return anyhow::Ok(micros);
                }
                let begun = Instant::now();
                write(&client, port, &stem, run, n).await?;
                micros.push(u32::try_from(begun.elapsed().as_micros())?);
            }
        })
    });
    let mut all = Vec::new();
    for writer in futures::future::join_all(writers).await {
        all.extend(writer??);
    }
    Ok(all)
}

async fn write(client: &reqwest::Client, port: u16, stem: &str, run: u128, n: u64) -> anyhow::Result<()> {
    let blob = format!("{{\"run\":{run},\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1000));
    let cid = Cid::of(blob.as_bytes());
    let base = format!("http://127.0.0.1:{port}/v2/{stem}-{:03x}", cid.shard());
    let (digest, size) = (cid.oci_digest(), blob.len());
    let upload = client.post(format!("{base}/blobs/uploads/?digest={digest}"));
    upload.header("content-type", "application/octet-stream").body(blob).send().await?.error_for_status()?;
    // The layer serves as config too: one blob a record, as in steady state.
    let descriptor = format!(r#"{{"mediaType":"application/json","digest":"{digest}","size":{size}}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{descriptor},"layers":[{descriptor}]}}"#,
        dir_core::oci::MANIFEST
    );
    let put = client.put(format!("{base}/manifests/{cid}")).header("content-type", dir_core::oci::MANIFEST);
    put.body(manifest).send().await?.error_for_status()?;
    Ok(())
}
