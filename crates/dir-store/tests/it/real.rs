//! The same suite against registries that others wrote, started on loopback.
//!
//! CNCF distribution v3 has no referrers API and wants two requests an upload; go-containerregistry's registry package
//! has the API, says neither `OCI-Subject` nor `Location`, and keeps serving tags of deleted manifests.

use crate::backend::{Corrupt, OciBackend};
use crate::process::{Running, flip};
use dir_core::Cid;
use dir_core::store::{Known, Presence, RecordStore};
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::store_conformance::{at, run, sample};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a missing program means.
const INSTALL: &str = "run scripts/install-registries.sh";

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A program in `.tools/bin`.
fn tool(name: &str, how_to_get_it: &str) -> PathBuf {
    let path = root().join(".tools/bin").join(name);
    assert!(path.exists(), "{} is missing: {how_to_get_it}", path.display());
    path
}

struct Real {
    running: Running,
    dir: tempfile::TempDir,
}

async fn distribution() -> Real {
    let program = tool("registry", INSTALL);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let running = Running::start(|port| {
        let config = root.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}/data}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:{port}\", secret: test}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = std::process::Command::new(&program);
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        command
    })
    .await;
    Real { running, dir }
}

async fn go_containerregistry() -> Real {
    let program = tool("ggcr-registry", INSTALL);
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    let running = Running::start(|port| {
        let mut command = std::process::Command::new(&program);
        command.arg(format!("127.0.0.1:{port}")).arg(&blobs);
        command
    })
    .await;
    Real { running, dir }
}

fn config(real: &Real, layout: Layout) -> OciConfig {
    OciConfig { address: real.running.address.clone(), layout, parallel: 16, ..OciConfig::default() }
}

/// A backend on a registry of its own.
fn backend(real: Real, layout: Layout, blob: fn(&Path, &str) -> PathBuf) -> OciBackend<Real> {
    let root = real.dir.path().to_owned();
    let corrupt: Corrupt =
        Arc::new(move |_, cid: &Cid| flip(&blob(&root, &cid.oci_digest()["sha256:".len()..])));
    OciBackend::new(config(&real, layout), real, corrupt)
}

fn distribution_blob(root: &Path, hex: &str) -> PathBuf {
    root.join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

fn ggcr_blob(root: &Path, hex: &str) -> PathBuf {
    root.join("blobs/sha256").join(hex)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn distribution_single() {
    let report = run(async || backend(distribution().await, Layout::Single, distribution_blob)).await;
    assert_eq!(report.skipped, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn distribution_sharded() {
    let report = run(async || backend(distribution().await, Layout::Sharded, distribution_blob)).await;
    assert_eq!(report.skipped, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_containerregistry_single() {
    let report = run(async || backend(go_containerregistry().await, Layout::Single, ggcr_blob)).await;
    assert_eq!(report.skipped, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_containerregistry_sharded() {
    let report = run(async || backend(go_containerregistry().await, Layout::Sharded, ggcr_blob)).await;
    assert_eq!(report.skipped, Vec::<&str>::new());
}

#[tokio::test]
async fn auto_takes_a_registry_as_another_process_left_it() {
    for real in [distribution().await, go_containerregistry().await] {
        let (record, facts) = sample(1);
        let store = OciStore::new(&config(&real, Layout::Auto)).unwrap();
        store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
        let next = OciStore::new(&config(&real, Layout::Sharded)).unwrap();
        assert_eq!(next.get(&record.cid(), Known::Unknown).await.unwrap(), record);
        OciStore::new(&config(&real, Layout::Single)).unwrap().ping().await.unwrap_err();
    }
}
