//! How a node comes up, and how it says that it cannot.

use crate::client::{count, plain, pull, push, record, secure};
use crate::node::{Node, get, until};
use dir_proto::directory::admin::v1::GetIdentityRequest;
use dir_proto::directory::admin::v1::admin_service_client::AdminServiceClient;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::TcpListener;
use tempfile::tempdir;

/// Everything that needs no part outside, kept below the home of the test.
const EMBEDDED: [&str; 1] = ["--embedded-identity"];

#[tokio::test(flavor = "multi_thread")]
async fn dev_serves_plaintext_from_memory() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev"]);
    let channel = plain(node.grpc()).await;
    let cids = push(&channel, vec![record("one"), record("two")]).await.unwrap();
    assert_eq!(pull(&channel, &cids).await.unwrap(), [record("one"), record("two")]);
    assert_eq!(count(&channel, "t*").await, 1);
    let ops = node.ops();
    let (code, health) = get(ops, "/healthz").unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!(code, 200);
    for component in ["index", "registry", "svid", "policy", "grpc"] {
        assert!(health["components"][component]["status"].is_string(), "{component}: {health}");
    }
    let (_, root) = get(ops, "/").unwrap();
    assert!(root.contains("\"name\":\"dir-apiserver\""), "{root}");
    let (_, version) = get(ops, "/version").unwrap();
    assert!(version.contains("\"target\""), "{version}");
    assert_eq!(node.stop(), Some(0));
    assert!(!home.path().join(".dir").exists(), "nothing is written by --dev");
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_identity_serves_mtls() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &EMBEDDED);
    let socket = format!("unix://{}", home.path().join(".dir/workload.sock").display());
    let channel = secure(node.grpc(), &socket).await;
    let cids = push(&channel, vec![record("one")]).await.unwrap();
    assert_eq!(pull(&channel, &cids).await.unwrap(), [record("one")]);
    let mut admin = AdminServiceClient::new(channel);
    let identity = admin.get_identity(GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!(identity.spiffe_id, "spiffe://dev.directory.internal/dir/apiserver");
    assert_eq!(identity.dns_names, ["localhost"]);
    assert_eq!(identity.trust_domain, "dev.directory.internal");
    let obtained = node.wait_line("Successfully obtained valid X509-SVID with SPIFFE ID");
    assert_eq!(obtained["spiffe_id"], identity.spiffe_id);
    node.wait_line("Successfully obtained valid X509-SVID for server");
    node.wait_line("X.509 authentication service initialized");
    drop(admin);

    // The same node again: what it acknowledged is there.
    assert_eq!(node.stop(), Some(0));
    let mut node = Node::start(home.path(), &EMBEDDED);
    let channel = secure(node.grpc(), &socket).await;
    assert_eq!(pull(&channel, &cids).await.unwrap(), [record("one")]);
    assert_eq!(count(&channel, "one").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_carry_labels_and_the_families_of_the_contract() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &EMBEDDED);
    let (_, page) = get(node.ops(), "/metrics").unwrap();
    assert!(page.lines().count() > 50, "{page}");
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        assert!(name.contains('{') && name.ends_with('}'), "no label: {line}");
    }
    for family in [
        "grpc_server_started_total",
        "grpc_server_handled_total",
        "grpc_server_msg_received_total",
        "grpc_server_msg_sent_total",
        "svid_expiry_seconds",
        "process_resident_memory_bytes",
        "directory_log_lines_dropped_total",
    ] {
        assert!(page.contains(&format!("\n{family}{{")), "{family}");
    }
    assert!(page.contains("grpc_method=\"Push\",grpc_service=\"agntcy.dir.store.v1.StoreService\""));
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    let home = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, key) in [("--listen-address", "listen_address"), ("--metrics-address", "metrics.address")] {
        let output = crate::node::command(home.path())
            .args(["serve", "--dev", "--listen-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"])
            .args(["--set", &format!("{key}={address}")])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{flag}: {errors}");
        let wanted = format!("cannot listen on {address} ({key}): ");
        assert!(errors.contains(&wanted) && errors.contains("another process listens on port"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_degrades_the_node_and_no_more() {
    let home = tempdir().unwrap();
    // Bound and never listening: refused for as long as it is kept.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = held.local_addr().unwrap();
    let address = format!("store.oci.registry_address={gone}");
    let mut node = Node::start(home.path(), &["--set", &address]);
    let ops = node.ops();
    let (_, health) = until("the registry is reported", || {
        get(ops, "/healthz").filter(|(_, h)| h.contains("\"registry\":{\"status\":\"unhealthy\""))
    });
    assert!(health.contains("\"status\":\"degraded\"") && health.contains("\"ready\":true"), "{health}");
    let channel = plain(node.grpc()).await;
    let refused = push(&channel, vec![record("one")]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert_eq!(count(&channel, "*").await, 0);
    drop(channel);
    assert_eq!(node.stop(), Some(0));

    let required = ["--set", &address, "--set", "ops.readiness.require_registry=true"];
    let mut node = Node::spawn(home.path(), &required, &[]);
    node.wait_line("serving");
    let ops = node.ops();
    let (code, reason) = until("the registry is missed", || {
        get(ops, "/readyz").filter(|(_, reason)| reason.contains("registry: writes are impaired"))
    });
    assert_eq!(code, 503, "{reason}");
}

#[test]
fn a_signal_ends_the_wait() {
    let home = tempdir().unwrap();
    let args = ["--set", "authn.enabled=true", "--set", "authn.socket_path=/nowhere.sock"];
    let mut node = Node::spawn(home.path(), &args, &[]);
    node.ops();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait(), Some(0), "{}", node.errors());
}

#[test]
fn k01_the_trust_domain_is_pinned() {
    let home = tempdir().unwrap();
    let other = ["--embedded-identity", "--set", "dev_identity.trust_domain=other.internal"];
    assert_eq!(Node::start(home.path(), &EMBEDDED).stop(), Some(0));
    let mut node = Node::spawn(home.path(), &other, &[]);
    assert_eq!(node.wait(), Some(4));
    let errors = node.errors();
    assert!(errors.contains("belongs to trust domain dev.directory.internal"), "{errors}");
    assert_eq!(Node::start(home.path(), &EMBEDDED).stop(), Some(0));
}

#[test]
fn the_development_identity_is_not_for_production() {
    let home = tempdir().unwrap();
    let mut serve = crate::node::command(home.path());
    let output = serve.args(["serve", "--embedded-identity", "--profile", "production"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(errors.contains("dev_identity.enabled: production"), "{errors}");
}
