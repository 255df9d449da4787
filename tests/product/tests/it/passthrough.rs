//! nginx in front with SNI passthrough: the client meets our SVID, never the proxy's certificate.

use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_proto::agntcy::dir::events::v1::event_service_client::EventServiceClient;
use dir_proto::agntcy::dir::events::v1::{ListenRequest, ListenResponse};
use dir_runtime::SystemClock;
use product_tests::nginx::Nginx;
use product_tests::proc::{Ran, run};
use product_tests::server::{Auth, Records, Server, get};
use product_tests::{init, our, root, wait_until, workload};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn dirctl(socket: &str, port: u16, args: &[&str]) -> Ran {
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent");
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("api.localtest.me:{port}"));
    command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509").env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket);
    run(command.args(args)).unwrap()
}

#[test]
fn i1_i2_i3_tls_goes_end_to_end_through_nginx() {
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

/// Lines of the audit log, which a server of these tests writes to its output.
fn audited(server: &Server, event: &str) -> Vec<Value> {
    let output = server.proc.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

fn address(line: &Value, field: &str) -> SocketAddr {
    line[field].as_str().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("no {field}: {line}"))
}

const REQUIRED: &str = "listen: { proxy_protocol: required, trusted_proxies: [127.0.0.1] }\nlimits: { connections: { per_ip: 3 } }\n";

#[test]
fn i4_the_audit_log_names_the_client_behind_nginx() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let auth = Auth::X509(socket.clone());
    let server = Server::start_with(dir.path(), &auth, &Records::Layout, REQUIRED).unwrap();
    let changes = [("# proxy_protocol on;", "proxy_protocol on;")];
    let nginx = Nginx::start_with(dir.path(), server.port, &changes).unwrap();

    let port = format!("127.0.0.1:{}", nginx.port);
    let through = ["--server-addr", &port, "--tls-server-name", "api.localtest.me"];
    let record = root().join("examples/records/record_100.json");
    let push = [&through[..], &["push", record.to_str().unwrap(), "--quiet"]].concat();
    dirctl(&socket, nginx.port, &push).good().unwrap();
    wait_until("the audit line", || !audited(&server, "close").is_empty()).unwrap();
    for line in audited(&server, "close") {
        let (peer, real) = (address(&line, "peer_addr"), address(&line, "real_addr"));
        assert!(real.ip().is_loopback() && real != peer, "{line}");
        assert_eq!(line["spiffe_id"], "spiffe://example.org/ns/dir/sa/apiserver");
    }
    // Past the proxy nobody gets in: there is no header.
    let direct = format!("127.0.0.1:{}", server.port);
    let direct = ["--server-addr", &direct, "--tls-server-name", "api.localtest.me", "search", "--name", "x"];
    assert_ne!(dirctl(&socket, server.port, &direct).status.code(), Some(0));
    let refused = || audited(&server, "handshake_refused");
    wait_until("the refusal", || refused().iter().any(|l| l["reason"] == "proxy_header")).unwrap();
}

#[test]
fn i4_version_2_local_and_bad_headers_at_the_real_binary() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let auth = Auth::X509(workload.socket());
    let server = Server::start_with(dir.path(), &auth, &Records::Layout, REQUIRED).unwrap();
    let v2 = |command: u8| {
        let addresses = [198, 51, 100, 9, 10, 0, 0, 1, 0xc8, 0x22, 0x22, 0xb8];
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, 12], &addresses].concat()
    };
    // What follows is no TLS: the connection is refused for that, and the line says whose it was.
    for (what, header, reason, real) in [
        ("version 2", v2(0x21), "protocol", Some("198.51.100.9:51234")),
        ("LOCAL", v2(0x20), "protocol", None),
        ("version 1", b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n".to_vec(), "protocol", Some("[2001:db8::9]:1")),
        ("bad command", v2(0x22), "proxy_header", None),
        ("bad line", b"PROXY TCP4 1.2.3.4\r\n".to_vec(), "proxy_header", None),
    ] {
        let before = audited(&server, "handshake_refused").len();
        let mut io = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        io.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        io.write_all(&[&header[..], b"no TLS, but long enough to be seen as such"].concat()).unwrap();
        let mut rest = Vec::new();
        // An alert, or a reset because something was left unread.
        drop(io.read_to_end(&mut rest));
        wait_until(what, || audited(&server, "handshake_refused").len() > before).unwrap();
        let line = audited(&server, "handshake_refused").pop().unwrap();
        assert_eq!(
            (line["reason"].as_str(), line["real_addr"].as_str()),
            (Some(reason), real),
            "{what}: {line}"
        );
    }
    let (_, page) = get(server.ops_port, "/metrics").unwrap();
    assert!(page.contains("handshake_failures_total{reason=\"proxy_header\"} 2"), "{page}");
}

/// Passes bytes on in pieces of seven, the way a small MTU or a large key share splits a ClientHello.
fn dribble(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(std::io::copy(&mut answers, &mut back));
                drop(back.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                let (mut client, mut server, mut piece) = (client, server, [0; 7]);
                while let Ok(read @ 1..) = client.read(&mut piece) {
                    if server.write_all(&piece[..read]).is_err() {
                        break;
                    }
                }
                drop(server.shutdown(Shutdown::Write));
            });
        }
    });
    port
}

#[test]
fn i6_a_split_client_hello_finds_its_way_through_nginx() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let server = Server::start(dir.path(), &Auth::X509(socket.clone()), &Records::Layout).unwrap();
    let nginx = Nginx::start(dir.path(), server.port).unwrap();
    let port = dribble(nginx.port);
    let address = format!("127.0.0.1:{port}");
    let record = root().join("examples/records/record_100.json");
    let name = ["--server-addr", &address, "--tls-server-name", "api.localtest.me"];
    let push = [&name[..], &["push", record.to_str().unwrap(), "--quiet"]].concat();
    let cid = dirctl(&socket, port, &push).good().unwrap();
    assert_eq!(cid.trim().len(), 59, "{cid}");
}

/// A channel to a port of this machine, as everybody makes one.
async fn channel(socket: String, port: u16) -> tonic::transport::Channel {
    let config = WorkloadConfig { socket, ..WorkloadConfig::default() };
    let identity =
        Identity::obtain(config, Arc::new(SystemClock), &prometheus::Registry::new()).await.unwrap();
    let connector = Arc::new(Connector::new(identity, ServerCheck::default()));
    let service = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            let tls = connector.connect(tcp, "api.localtest.me").await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
        }
    });
    tonic::transport::Endpoint::from_static("https://localhost")
        .connect_with_connector(service)
        .await
        .unwrap()
}

/// Opens a stream of events through an nginx that cuts what is quiet for two seconds, and answers what came of it
/// when a record was pushed five seconds later.
fn quiet_stream(keepalive: &str) -> Result<Option<ListenResponse>, tonic::Status> {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let auth = Auth::X509(socket.clone());
    let more = format!("connection: {{ keepalive: {{ time: {keepalive} }} }}\n");
    let server = Server::start_with(dir.path(), &auth, &Records::Layout, &more).unwrap();
    let changes = [("proxy_timeout 1h;", "proxy_timeout 2s;")];
    let nginx = Nginx::start_with(dir.path(), server.port, &changes).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut events = runtime.block_on(async {
        let mut client = EventServiceClient::new(channel(socket.clone(), nginx.port).await);
        client.listen(ListenRequest::default()).await.unwrap().into_inner()
    });
    // Time is what this is about.
    std::thread::sleep(Duration::from_secs(5));
    let record = root().join("examples/records/record_100.json");
    let address = format!("127.0.0.1:{}", server.port);
    let push = ["--server-addr", &address, "--tls-server-name", "api.localtest.me", "push"];
    let push = [&push[..], &[record.to_str().unwrap(), "--quiet"]].concat();
    dirctl(&socket, server.port, &push).good().unwrap();
    let event = async { tokio::time::timeout(Duration::from_secs(60), events.message()).await };
    runtime.block_on(event).expect("an event, or the end")
}

#[test]
fn i5_keepalive_carries_a_quiet_stream_over_the_timeout_of_nginx() {
    assert!(quiet_stream("500ms").unwrap().is_some());
    assert!(quiet_stream("1h").is_err(), "without it, nginx cuts the stream");
}
