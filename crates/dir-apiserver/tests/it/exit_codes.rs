//! docs/reference/exit-codes.md, held against the real binary: how each start that fails ends, and what it says.

use crate::agent::{self, LONG};
use crate::node::Node;
use std::net::TcpListener;
use std::path::Path;
use tempfile::tempdir;

const PAGE: &str = include_str!("../../../../docs/reference/exit-codes.md");

/// A start that fails: its arguments and variables, the code, and part of what it says.
struct Row {
    name: &'static str,
    args: Vec<String>,
    vars: Vec<(&'static str, String)>,
    code: i32,
    says: String,
}

fn row(name: &'static str, args: &[&str], code: i32, says: &str) -> Row {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    Row { name, args, vars: Vec::new(), code, says: says.to_owned() }
}

fn set(name: &'static str, settings: &[&str], code: i32, says: &str) -> Row {
    let args: Vec<&str> = settings.iter().flat_map(|s| ["--set", *s]).collect();
    row(name, &args, code, says)
}

fn rows(dir: &Path, taken: &str, socket: &str) -> Vec<Row> {
    let file = dir.join("a-file").display().to_string();
    std::fs::write(&file, "").unwrap();
    let below = |key: &str| format!("{key}={file}/below");
    let identity = ["authn.enabled=true".to_owned(), format!("authn.socket_path={socket}")];
    let with = |more: &str| [identity[0].as_str(), identity[1].as_str(), more].map(str::to_owned);
    let secret = ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_PASSWORD_FILE", format!("{file}-not"));
    let mut rows = vec![
        row("a flag that is none", &["--no-such-flag"], 2, "--no-such-flag"),
        row("a value that is none", &["--profile", "maybe"], 2, "maybe"),
        set("a value that is no number", &["limits.connections.total=many"], 4, "limits.connections.total"),
        set("a key that is none", &["authn.enabeld=true"], 4, "did you mean authn.enabled?"),
        row("a file that is absent", &["--config", "/nowhere/x.yml"], 4, "/nowhere/x.yml: cannot be read"),
        row("the gRPC port taken", &["--listen-address", taken], 4, "(listen_address): "),
        row("the ops port taken", &["--metrics-address", taken], 4, "(metrics.address): "),
        set(
            "a layout directory that is a file",
            &[&format!("store.oci.local_dir={file}")],
            4,
            "(store.oci.local_dir)",
        ),
        set("a state directory below a file", &[&below("state_dir")], 4, "(state_dir)"),
        set("an index below a file", &[&below("database.embedded.path")], 4, "(database.embedded.path)"),
        set("an audit log below a file", &["audit.output=file", &below("audit.path")], 4, "(audit.path)"),
        set(
            "a policy that is absent",
            &with("authz.enabled=true")
                .iter()
                .map(String::as_str)
                .chain([below("authz.enforcer_policy_file_path").as_str()])
                .collect::<Vec<_>>(),
            4,
            "(authz.enforcer_policy_file_path)",
        ),
        set(
            "a bundle endpoint on a taken port",
            &with("federation.bundle_endpoint.enabled=true")
                .iter()
                .map(String::as_str)
                .chain([format!("federation.bundle_endpoint.listen_address={taken}").as_str()])
                .collect::<Vec<_>>(),
            4,
            "(federation.bundle_endpoint.listen_address): ",
        ),
        set(
            "an agent that is absent",
            &["authn.enabled=true", &format!("authn.socket_path={file}-not"), "authn.startup_wait.total=1s"],
            6,
            "failed to get valid X509-SVID",
        ),
        set(
            "an SVID of another trust domain",
            &with("authn.trust_domain=b.internal").iter().map(String::as_str).collect::<Vec<_>>(),
            7,
            "authn.trust_domain is b.internal",
        ),
    ];
    rows.push(Row { vars: vec![secret.clone()], ..row("a secret that is absent", &[], 5, "cannot read") });
    let both = set("a secret that is absent, and another fault", &["authn.enabeld=true"], 4, "cannot read");
    rows.push(Row { vars: vec![secret], ..both });
    let level = ("DIRECTORY_LOGGER_LOG_LEVEL", "dir_api=loud".to_owned());
    rows.push(Row { vars: vec![level], ..row("a log level that is none", &[], 4, "is no level") });
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_that_fails_ends_as_the_page_says() {
    let dir = tempdir().unwrap();
    let api = agent::agent(dir.path(), LONG).await;
    // Taken as long as the test runs.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for row in rows(dir.path(), &taken, &api.socket_uri()) {
        let home = tempdir().unwrap();
        let port = ["--listen-address", "127.0.0.1:0"].map(str::to_owned);
        // A flag is given once; the ops port is a variable, which a flag overrides.
        let port = if row.args.contains(&port[0]) { Vec::new() } else { port.to_vec() };
        let args: Vec<&str> = port.iter().chain(&row.args).map(String::as_str).collect();
        let vars: Vec<(&str, &str)> = row.vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut node = Node::spawn_bare(home.path(), &args, &vars);
        let (code, said) = (node.wait(), node.errors());
        assert_eq!(code, Some(row.code), "{}: {said}", row.name);
        assert!(said.contains(&row.says), "{}: {:?} is not in {said}", row.name, row.says);
        assert!(PAGE.contains(&format!("| {} |", row.code)), "{} is not on the page", row.code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_does_not_end_a_server() {
    let home = tempdir().unwrap();
    // Bound and not listening: refused, as long as the test runs.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("store.oci.registry_address={}", held.local_addr().unwrap());
    let mut node = Node::start(home.path(), &["--set", &address]);
    node.wait_line("the registry does not answer; starting without it");
    assert_eq!(node.stop(), Some(0));
}
