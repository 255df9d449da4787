//! The whole way: SVIDs from SPIRE, records in Zot, nginx in front.

use crate::support::short_dir;
use product_tests::nginx::Nginx;
use product_tests::proc::{Ran, run};
use product_tests::server::{Auth, Records, Server, get};
use product_tests::spire::Spire;
use product_tests::zot::Zot;
use product_tests::{init, our, root};
use std::path::Path;
use std::process::Command;

struct Client<'a> {
    socket: &'a str,
    address: String,
}

impl Client<'_> {
    fn dirctl(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(our("dirctl").unwrap());
        command.env_clear().env("HOME", "/nonexistent");
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", &self.address);
        command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509");
        command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", self.socket);
        command.args(["--tls-server-name", "api.localtest.me"]).args(args);
        run(&mut command).unwrap()
    }
}

fn records() -> Vec<String> {
    let dir = root().join("examples/records");
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path().display().to_string()).collect();
    files.retain(|f| Path::new(f).extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}

#[test]
fn records_travel_from_a_spire_client_through_nginx_into_zot_and_back() {
    init();
    let dir = short_dir();
    let spire = Spire::start(dir.path(), "example.org").unwrap();
    spire.register("/ns/dir/sa/apiserver", &["api.localtest.me", "localhost"]).unwrap();
    let zot = Zot::start(dir.path()).unwrap();
    let socket = spire.socket();
    let auth = Auth::X509(socket.clone());
    let records = Records::Registry(zot.address());
    let server = Server::start(dir.path(), &auth, &records).unwrap();
    assert!(
        server.proc.output().contains("Successfully obtained valid X509-SVID"),
        "{}",
        server.proc.output()
    );
    let nginx = Nginx::start(dir.path(), server.port).unwrap();
    assert_eq!(nginx.subject(Some("api.localtest.me")).unwrap(), "subject=C=US,O=SPIRE,CN=api.localtest.me");
    assert_eq!(nginx.subject(Some("elsewhere.example")).unwrap(), "subject=O=AcmeCo,CN=FallbackCertificate");

    let client = Client { socket: &socket, address: format!("127.0.0.1:{}", nginx.port) };
    let files = self::records();
    assert!(files.len() >= 5, "real records of all schema versions: {files:?}");
    let mut push = vec!["push", "--quiet"];
    push.extend(files.iter().map(String::as_str));
    let cids = client.dirctl(&push).good().unwrap();
    let cids: Vec<&str> = cids.lines().collect();
    assert_eq!(cids.len(), files.len());

    // The artifact is in Zot, tagged by CID, in the shard that its digest names.
    let catalog = get(zot.port, "/v2/_catalog?n=100").unwrap().1;
    assert!(catalog.contains("dir-"), "sharded repositories: {catalog}");

    for cid in &cids {
        let pulled = client.dirctl(&["pull", cid]).good().unwrap();
        assert!(pulled.contains("schema_version"), "{pulled}");
    }
    let found = client.dirctl(&["search", "--name", "burger_seller_agent"]).good().unwrap();
    assert_eq!(found.lines().filter(|l| cids.contains(&l.trim())).count(), 1, "{found}");
    client.dirctl(&["delete", "--yes", cids[0]]).good().unwrap();
    let gone = client.dirctl(&["pull", cids[0]]);
    assert!(!gone.status.success() && gone.stderr.contains("not found"), "{}", gone.stderr);

    // A second server with an empty index adopts the registry as it is.
    drop(server);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let server = Server::start(dir.path(), &auth, &records).unwrap();
    let client = Client { socket: &socket, address: format!("127.0.0.1:{}", server.port) };
    let mut last = String::new();
    let rebuilt = product_tests::wait_until("the index is rebuilt from Zot", || {
        let count = client.dirctl(&["search", "--count"]);
        last = format!("{}{}", count.stdout, count.stderr);
        count.stdout.trim() == (cids.len() - 1).to_string()
    });
    rebuilt.unwrap_or_else(|error| panic!("{error}: {last}\n{}", server.proc.output()));
}

#[test]
fn the_federation_check_reports_bundles_of_a_real_trust_domain() {
    init();
    let dir = short_dir();
    let spire = Spire::start(dir.path(), "example.org").unwrap();
    spire.register("/ns/dir/sa/apiserver", &["api.localtest.me", "localhost"]).unwrap();
    let socket = spire.socket();
    let server = Server::start(dir.path(), &Auth::X509(socket.clone()), &Records::Layout).unwrap();
    let mut check = Command::new(our("dir-admin").unwrap());
    check.env_clear().args(["federation", "check", "--output", "json"]);
    check.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{}", server.port));
    check.env("DIRECTORY_CLIENT_AUTH_MODE", "x509").env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", &socket);
    let report = run(&mut check).unwrap();
    let text = format!("{}{}", report.stdout, report.stderr);
    // SPIRE's CA here lives 24 hours, less than the check likes: the report says so (exit code 10).
    assert!(matches!(report.status.code(), Some(0 | 10)), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.stdout).expect(&text);
    assert!(json.to_string().contains("example.org"), "{json}");
}

#[test]
fn a_server_waits_for_its_registration_entry_and_says_why() {
    init();
    let dir = short_dir();
    let spire = Spire::start(dir.path(), "example.org").unwrap();
    let auth = Auth::X509(spire.socket());
    let mut server = Server::spawn(dir.path(), &auth, &Records::Layout).unwrap();
    server.proc.wait_for("ops listener", |_| true).unwrap();
    let ops = server.ops_port;
    server
        .proc
        .wait_for("alive and not ready", |_| {
            get(ops, "/livez").is_ok_and(|(s, _)| s == 200)
                && get(ops, "/readyz").is_ok_and(|(s, _)| s == 503)
        })
        .unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err(), "no API port before the SVID");
    server.proc.wait_for_output("no identity issued").unwrap();
    spire.register("/ns/dir/sa/apiserver", &["localhost"]).unwrap();
    server.wait_ready().unwrap();
}
