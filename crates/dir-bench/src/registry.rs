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
    _running: Running,
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
    Ok(Some(Registry { name: "Zot", port, _running: Running::server(&mut command, port)? }))
}

/// Records a second that the registry takes from `callers` concurrent writers that do nothing but the two
/// requests of a push: one upload and one manifest, spread over the shards as ours are.
pub(crate) async fn alone(port: u16, callers: usize, length: Duration) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().build()?;
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let end = start + length;
    let writers = (0..callers).map(|_| {
        let (client, next, done) = (client.clone(), next.clone(), done.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                write(&client, port, next.fetch_add(1, Ordering::Relaxed)).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer??;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^52 records
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

async fn write(client: &reqwest::Client, port: u16, n: u64) -> anyhow::Result<()> {
    let blob = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1000));
    let cid = Cid::of(blob.as_bytes());
    let base = format!("http://127.0.0.1:{port}/v2/alone-{:03x}", cid.shard());
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
