//! Two servers of two trust domains, and the operator's view of the partner.

use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use product_tests::proc::{Ran, run};
use product_tests::server::{Auth, Records, Server};
use product_tests::{free_port, init, our, wait_until};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A trust domain of its own, with one workload.
async fn organisation(dir: &Path, name: &str) -> DevWorkloadApi {
    let svid = DevSvid {
        spiffe_id: format!("spiffe://{name}/node"),
        dns_names: vec!["localhost".to_owned()],
        hint: String::new(),
    };
    let domain = DevDomain { name: name.to_owned(), svids: vec![svid], federates_with: Vec::new() };
    let config = DevConfig {
        socket: dir.join("w.sock"),
        trust_domains: vec![domain],
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(86_400),
    };
    DevWorkloadApi::start(config, Arc::new(SystemClock)).await.unwrap()
}

/// `dir-admin federation …` as a workload of this socket.
fn federation(socket: &str, port: u16, args: &[&str]) -> Ran {
    let mut command = Command::new(our("dir-admin").unwrap());
    command.env_clear().env("HOME", "/nonexistent").arg("federation").args(args);
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{port}"));
    run(command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket)).unwrap()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

#[test]
fn a_partner_is_listed_shown_and_refreshed_and_its_end_is_told() {
    init();
    let (home, abroad) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ours = runtime.block_on(organisation(home.path(), "a.internal"));
    let theirs = runtime.block_on(organisation(abroad.path(), "b.internal"));
    let port = free_port().unwrap();
    let publish = format!(
        "federation: {{ bundle_endpoint: {{ enabled: true, listen_address: \"127.0.0.1:{port}\", refresh_hint: 1h }} }}\n"
    );
    let auth = Auth::X509(theirs.socket_uri());
    let partner = Server::start_with(abroad.path(), &auth, &Records::Layout, &publish).unwrap();
    // Their roots, over a way that is trusted: here, their own Workload API.
    let url = format!("https://localhost:{port}/");
    let bootstrap = home.path().join("b.json");
    let mut fetch = Command::new(our("dirctl").unwrap());
    fetch.env_clear().args(["bundle", "fetch", &url, "--endpoint-id", "spiffe://b.internal/node", "--json"]);
    let shown = json(&run(&mut fetch).unwrap());
    let fingerprint = find(&shown, "sha256").unwrap_or_else(|| panic!("{shown}"));
    let out = bootstrap.to_str().unwrap();
    run(fetch.args(["--fingerprint", &fingerprint, "--out", out])).unwrap().good().unwrap();
    let domains = json!([{
        "name": "b.internal",
        "url": url,
        "profile": "https_spiffe",
        "endpoint_spiffe_id": "spiffe://b.internal/node",
        "bootstrap_file": out,
    }]);
    let config = format!("federation: {{ trust_domains: {domains} }}\n");
    let auth = Auth::X509(ours.socket_uri());
    let server = Server::start_with(home.path(), &auth, &Records::Layout, &config).unwrap();
    let socket = ours.socket_uri();
    let ask = |args: &[&str]| federation(&socket, server.port, args);

    let mut last = None;
    wait_until("the partner's bundle is fetched", || {
        let ran = ask(&["list", "--output", "json"]);
        let fetched = json(&ran)["partners"][0]["source"] == "federation";
        last = Some(ran);
        fetched
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}"));
    let all = ask(&["list"]);
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    assert!(all.stdout.starts_with("b.internal ok: federation, "), "{all:?}");
    let before = json(&ask(&["show", "b.internal", "--output", "json"]));
    assert_eq!((&before["url"], &before["failures"]), (&url.as_str().into(), &0.into()), "{before}");
    assert!(!before["fingerprints"].as_array().unwrap().is_empty(), "{before}");
    let refreshed = ask(&["refresh", "b.internal"]);
    assert_eq!(refreshed.status.code(), Some(0), "{refreshed:?}");
    for command in ["show", "refresh"] {
        let none = ask(&[command, "elsewhere.example"]);
        assert_eq!(none.status.code(), Some(1), "{none:?}");
    }

    // The partner goes: asking for a fetch says so, and what was good stays in force.
    drop(partner);
    let failed = ask(&["refresh", "b.internal", "--output", "json"]);
    assert_eq!(failed.status.code(), Some(10), "{failed:?}");
    let after = json(&failed);
    assert_eq!((&after["status"], &after["source"]), (&"warning".into(), &"federation".into()), "{after}");
    assert_eq!(after["fingerprints"], before["fingerprints"], "the last good bundle stays");
    assert!(!after["error"].as_str().unwrap().is_empty() && after["failures"].as_u64() > Some(0), "{after}");
    assert_eq!(ask(&["list"]).status.code(), Some(10));
}

/// The first text under this key, however deep.
fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(map) => {
            let here = map.iter().find(|(name, value)| name.contains(key) && value.is_string());
            let here = here.and_then(|(_, value)| Some(value.as_str()?.to_owned()));
            here.or_else(|| map.values().find_map(|value| find(value, key)))
        }
        Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}
