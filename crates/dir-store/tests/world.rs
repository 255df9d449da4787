//! The registry adapter against a real Zot, found on PATH: `cargo test -p dir-store --features world --test world`.
// Helpers of tests are tests: what they cannot do is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "it/backend.rs"]
mod backend;
#[path = "it/process.rs"]
mod process;

use backend::{Corrupt, OciBackend};
use dir_core::Cid;
use dir_core::store::{Known, Presence, Put, RecordStore};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::store_conformance::{at, run, sample, sample_referrer};
use process::{Running, flip};
use std::path::PathBuf;
use std::sync::Arc;

struct Zot {
    running: Running,
    dir: tempfile::TempDir,
}

/// The `zot` on PATH.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("zot")).find(|file| file.exists());
    found.expect("zot is not on PATH: install it from the releases of project-zot/zot")
}

async fn zot() -> Zot {
    let program = program();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let running = Running::start(|port| {
        // `dedupe: false` from the first start on, as the chart has it.
        let config = serde_json::json!({
            "distSpecVersion": "1.1.1",
            "storage": { "rootDirectory": root.join("data"), "dedupe": false, "gc": false },
            "http": { "address": "127.0.0.1", "port": port.to_string() },
            "log": { "level": "error", "output": root.join("log") },
        });
        let file = root.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = std::process::Command::new(&program);
        command.arg("serve").arg(file);
        command
    })
    .await;
    Zot { running, dir }
}

fn config(zot: &Zot, layout: Layout) -> OciConfig {
    OciConfig { address: zot.running.address.clone(), layout, parallel: 16, ..OciConfig::default() }
}

async fn backend(layout: Layout) -> OciBackend<Zot> {
    let zot = zot().await;
    let root = zot.dir.path().join("data");
    let corrupt: Corrupt = Arc::new(move |repository, cid: &Cid| {
        flip(&root.join(repository).join("blobs/sha256").join(&cid.oci_digest()["sha256:".len()..]))
    });
    OciBackend::new(config(&zot, layout), zot, corrupt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharded() {
    assert_eq!(run(async || backend(Layout::Sharded).await).await.skipped, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single() {
    assert_eq!(run(async || backend(Layout::Single).await).await.skipped, Vec::<&str>::new());
}

#[tokio::test]
async fn a_single_repository_is_recognised_and_referrers_keep_their_place() {
    let backend = backend(Layout::Single).await;
    let zot = &backend.registry;
    let (record, facts) = sample(1);
    let store = &backend.store;
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    for n in 0..3 {
        let referrer = sample_referrer(&record.cid(), &n.to_string());
        // Within one second: the registry's own order is all there is.
        store.put_referrer(&record.cid(), &referrer, at(1)).await.unwrap();
    }
    let store = OciStore::new(&config(zot, Layout::Auto)).unwrap();
    let listed = store.referrers(&record.cid()).await.unwrap();
    let expected: Vec<_> = (0..3).map(|n: i32| sample_referrer(&record.cid(), &n.to_string()).cid).collect();
    assert_eq!(listed.iter().map(|r| r.cid).collect::<Vec<_>>(), expected);
    let again = sample_referrer(&record.cid(), "0");
    assert_eq!(store.put_referrer(&record.cid(), &again, at(99)).await.unwrap(), Put::Existed);
    assert_eq!(store.referrers(&record.cid()).await.unwrap(), listed);
    assert_eq!(store.get(&record.cid(), Known::Unknown).await.unwrap(), record);
    OciStore::new(&config(zot, Layout::Sharded)).unwrap().ping().await.unwrap_err();
}
