//! The SPIFFE agent of a test: the development Workload API, whose trust domains, sockets and lives a test chooses.

use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Trust domain of the server.
pub(crate) const OWN: &str = "a.internal";
/// Trust domain of a partner.
pub(crate) const PARTNER: &str = "b.internal";
/// SVIDs that outlive every test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A trust domain with one workload `spiffe://NAME/PATH`, whose SVID has the DNS name `localhost`.
pub(crate) fn domain(name: &str, path: &str, with: &[&str]) -> DevDomain {
    let svid = DevSvid {
        spiffe_id: format!("spiffe://{name}/{path}"),
        dns_names: vec!["localhost".to_owned()],
        hint: String::new(),
    };
    DevDomain { name: name.to_owned(), svids: vec![svid], federates_with: names(with) }
}

/// A trust domain of which only the bundle matters.
pub(crate) fn bare(name: &str) -> DevDomain {
    DevDomain { name: name.to_owned(), ..DevDomain::default() }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// What the socket `NAME.sock` in `dir` hands out.
pub(crate) fn config(dir: &Path, name: &str, trust_domains: Vec<DevDomain>, svid_ttl: Duration) -> DevConfig {
    let socket = dir.join(format!("{name}.sock"));
    DevConfig { socket, trust_domains, svid_ttl, ca_ttl: LONG * 24 }
}

/// An agent that is not there yet: it hands out `spiffe://a.internal/node`.
pub(crate) fn late(dir: &Path, svid_ttl: Duration) -> DevWorkloadApi {
    let config = config(dir, "agent", vec![domain(OWN, "node", &[])], svid_ttl);
    DevWorkloadApi::prepare(config, Arc::new(SystemClock)).unwrap()
}

/// The same, serving.
pub(crate) async fn agent(dir: &Path, svid_ttl: Duration) -> DevWorkloadApi {
    let api = late(dir, svid_ttl);
    api.appear().await.unwrap();
    api
}

/// Flags of a node that takes its identity from `socket`.
pub(crate) fn flags(socket: &str, more: &[&str]) -> Vec<String> {
    let mut settings = vec!["authn.enabled=true".to_owned(), format!("authn.socket_path={socket}")];
    settings.extend(names(more));
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

/// As the functions that start a node take them.
pub(crate) fn args(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}
