//! The development Workload API in the test's own process, for servers and clients in others.

use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A running Workload API that gives every caller the SVID of the server, with the DNS names
/// `api.localtest.me` and `localhost`. Stopped when dropped.
pub struct Workload {
    api: DevWorkloadApi,
    // Dropped last: the API's tasks live on it.
    _runtime: tokio::runtime::Runtime,
}

impl Workload {
    /// The address as configuration wants it.
    pub fn socket(&self) -> String {
        self.api.socket_uri()
    }

    /// The API itself, for rotations.
    pub fn api(&self) -> &DevWorkloadApi {
        &self.api
    }
}

/// Starts one in `dir`.
pub fn start(dir: &Path) -> anyhow::Result<Workload> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let svid = DevSvid {
        spiffe_id: "spiffe://example.org/ns/dir/sa/apiserver".parse()?,
        dns_names: vec!["api.localtest.me".into(), "localhost".into()],
        hint: String::new(),
    };
    let domain = DevDomain { name: "example.org".parse()?, svids: vec![svid], federates_with: Vec::new() };
    let config = DevConfig {
        socket: dir.join("w.sock"),
        trust_domains: vec![domain],
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(86_400),
    };
    let api = runtime.block_on(DevWorkloadApi::start(config, Arc::new(SystemClock)))?;
    Ok(Workload { api, _runtime: runtime })
}
