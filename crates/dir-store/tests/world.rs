//! The registry adapter against a real Zot, found on PATH: `cargo test -p dir-store --features world --test world`.
// Helpers of tests are tests: what they cannot do is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "it/backend.rs"]
mod backend;
#[path = "it/process.rs"]
mod process;

use backend::{Corrupt, OciBackend};
use dir_core::Cid;
use dir_core::store::{Known, Presence, Put, RecordStore, Walked};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::fill::{Fill, Shape, Tagging, fill};
use dir_testkit::store_conformance::{at, run, sample, sample_referrer};
use futures::StreamExt;
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
    serve(tempfile::tempdir().unwrap()).await
}

/// A Zot on the directory `data` below `dir`.
async fn serve(dir: tempfile::TempDir) -> Zot {
    let program = program();
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

/// Zot serves a directory that was filled without it: every record, its referrers with and without tags.
async fn serves_what_was_filled(shape: Shape, layout: Layout, tagging: Tagging) {
    let dir = tempfile::tempdir().unwrap();
    let order = Fill { referrers_every: 10, tagging, ..Fill::new(shape, 300) };
    let filled = fill(&dir.path().join("data"), &order, |_| ()).unwrap();
    let zot = serve(dir).await;
    let store = OciStore::new(&config(&zot, Layout::Auto)).unwrap();
    let walked: Vec<_> = store.walk(None).map(Result::unwrap).collect().await;
    assert_eq!(store.layout(), Some(layout));
    let mut found: Vec<_> = walked
        .iter()
        .filter_map(|w| match w {
            Walked::Record(stored) => Some((stored.created, stored.cid)),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found.into_iter().map(|(_, cid)| cid).collect::<Vec<_>>(), filled.cids);
    for (n, cid) in filled.cids.iter().enumerate().step_by(7) {
        store.get(cid, Known::Unknown).await.unwrap();
        let referrers = store.referrers(cid).await.unwrap();
        assert_eq!(referrers.len(), if n % 10 == 0 { 2 } else { 0 }, "{cid}");
        for referrer in &referrers {
            store.referrer_bytes(cid, referrer).await.unwrap();
        }
    }
    // It is a registry like any other: changes go on.
    let (record, facts) = sample(1);
    store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
    assert!(store.delete(&filled.cids[0]).await.unwrap());
    assert!(store.resolve(&filled.cids[0]).await.unwrap().is_none());
    assert!(store.resolve(&record.cid()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filled_directory_is_served_in_one_repository() {
    serves_what_was_filled(Shape::Single, Layout::Single, Tagging::OwnCid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filled_directory_is_served_in_shards() {
    serves_what_was_filled(Shape::Sharded, Layout::Sharded, Tagging::Untagged).await;
}
