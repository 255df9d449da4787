//! nginx in front with SNI passthrough: the client meets our SVID, never the proxy's certificate.

use product_tests::nginx::Nginx;
use product_tests::proc::{Ran, run};
use product_tests::server::{Auth, Records, Server};
use product_tests::{init, our, root, workload};
use std::process::Command;

fn dirctl(socket: &str, port: u16, args: &[&str]) -> Ran {
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent");
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("api.localtest.me:{port}"));
    command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509").env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket);
    run(command.args(args)).unwrap()
}

#[test]
fn tls_goes_end_to_end_through_nginx() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let server = Server::start(dir.path(), &Auth::X509(socket.clone()), &Records::Layout).unwrap();
    let nginx = Nginx::start(dir.path(), server.port).unwrap();

    // The certificate that operators see with openssl, for the right name, a wrong one, and none.
    assert_eq!(nginx.subject(Some("api.localtest.me")).unwrap(), "subject=C=US,O=SPIRE,CN=api.localtest.me");
    assert_eq!(nginx.subject(Some("other.localtest.me")).unwrap(), "subject=O=AcmeCo,CN=FallbackCertificate");
    assert_eq!(nginx.subject(None).unwrap(), "subject=O=AcmeCo,CN=FallbackCertificate");

    // A SPIFFE client through the proxy. The name need not resolve: the address is given beside it.
    let port = nginx.port;
    let record = root().join("examples/records/record_100.json");
    let address = format!("127.0.0.1:{port}");
    let through = ["--server-addr", &address, "--tls-server-name", "api.localtest.me"];
    let with = |args: &[&str]| dirctl(&socket, port, &[&through[..], args].concat());
    let cid = with(&["push", record.to_str().unwrap(), "--quiet"]).good().unwrap();
    let cid = cid.trim();
    assert_eq!(cid.len(), 59, "{cid}");
    let found = with(&["search", "--name", "burger_seller_agent"]).good().unwrap();
    assert!(found.contains(cid), "{found}");
    let pulled = with(&["pull", cid]).good().unwrap();
    assert!(pulled.contains("burger_seller_agent"), "{pulled}");

    // A name that is not routed to us meets the proxy's own certificate, and the client says so.
    let astray = ["--server-addr", &address, "--tls-server-name", "other.localtest.me", "pull", cid];
    let astray = dirctl(&socket, port, &astray);
    assert_eq!(astray.status.code(), Some(7), "{}", astray.stderr);
}
