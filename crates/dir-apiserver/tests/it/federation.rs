//! Two servers of two trust domains: one publishes its bundle, the other fetches it, without any SPIRE endpoint.

use crate::client::{push, record, secure};
use crate::node::{Node, get, until};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::tempdir;

/// A trust domain of its own, with one workload.
async fn organisation(dir: &Path, name: &str) -> DevWorkloadApi {
    let svid = DevSvid {
        spiffe_id: format!("spiffe://{name}/node"),
        dns_names: vec!["localhost".to_owned()],
        hint: String::new(),
    };
    let config = DevConfig {
        socket: dir.join("w.sock"),
        trust_domains: vec![DevDomain {
            name: name.to_owned(),
            svids: vec![svid],
            federates_with: Vec::new(),
        }],
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(86_400),
    };
    DevWorkloadApi::start(config, Arc::new(SystemClock)).await.unwrap()
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([0; 2].iter()).take(3).fold(0_usize, |n, b| n << 8 | usize::from(*b));
        for place in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn p_d0_a_partner_is_trusted_by_its_published_bundle_also_after_it_is_gone() {
    let (home, abroad) = (tempdir().unwrap(), tempdir().unwrap());
    let ours = organisation(home.path(), "a.internal").await;
    let theirs = organisation(abroad.path(), "b.internal").await;
    let identity = |api: &DevWorkloadApi| format!("authn.socket_path={}", api.socket_uri());

    let socket = identity(&theirs);
    let publish = [
        "--set",
        "authn.enabled=true",
        "--set",
        &socket,
        "--set",
        "federation.bundle_endpoint.enabled=true",
        "--set",
        "federation.bundle_endpoint.listen_address=127.0.0.1:0",
    ];
    let mut partner = Node::start(abroad.path(), &publish);
    let published = partner.wait_line("our bundle is published");
    let bootstrap = home.path().join("b.pem");
    std::fs::write(&bootstrap, pem(&theirs.material().svids[0].bundle)).unwrap();
    let domains = json!([{
        "name": "b.internal",
        "url": format!("https://{}/", published["address"].as_str().unwrap()),
        "profile": "https_spiffe",
        "endpoint_spiffe_id": "spiffe://b.internal/node",
        "bootstrap_file": bootstrap,
    }]);
    let (socket, domains) = (identity(&ours), format!("federation.trust_domains={domains}"));
    let args = ["--set", "authn.enabled=true", "--set", &socket, "--set", &domains];
    let mut node = Node::start(home.path(), &args);
    let saved = home.path().join(".dir/federation/b.internal.json");
    until("the bundle is fetched and kept", || saved.exists().then_some(()));
    let stranger = secure(node.grpc(), &theirs.socket_uri()).await;
    // The caller does not know our roots: that end of the federation is its own business.
    assert!(push(&stranger, vec![record("one")]).await.is_err());
    let metrics = get(node.ops(), "/metrics").unwrap().1;
    assert!(metrics.contains("bundle_sequence{trust_domain=\"b.internal\"}"), "{metrics}");
    assert!(
        metrics.contains("federation_fetches_total{result=\"ok\",trust_domain=\"b.internal\"} 1"),
        "{metrics}"
    );
    assert_eq!(partner.stop(), Some(0));
    assert_eq!(node.stop(), Some(0));

    std::fs::remove_file(&bootstrap).unwrap();
    let mut again = Node::start(home.path(), &args);
    let line = again.wait_line("bundle not fetched; the last good one stays");
    assert_eq!(
        (line["reason"].as_str(), line["trust_domain"].as_str()),
        (Some("connect"), Some("b.internal"))
    );
    let metrics = get(again.ops(), "/metrics").unwrap().1;
    assert!(metrics.contains("bundle_count{component=\"identity\"} 2"), "{metrics}");
    assert_eq!(again.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn d0_our_own_domain_is_no_partner() {
    let home = tempdir().unwrap();
    let ours = organisation(home.path(), "a.internal").await;
    let socket = format!("authn.socket_path={}", ours.socket_uri());
    let domains = "federation.trust_domains=[{\"name\": \"a.internal\", \"bootstrap_file\": \"/b\"}]";
    let mut node =
        Node::spawn(home.path(), &["--set", "authn.enabled=true", "--set", &socket, "--set", domains], &[]);
    assert_eq!(node.wait(), Some(4));
    assert!(node.errors().contains("our own trust domain"), "{}", node.errors());
}
