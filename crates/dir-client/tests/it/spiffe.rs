//! mTLS with SVIDs of the development Workload API: what works, and what each mismatch is called.

use crate::fake::{Conn, Fake, stored};
use dir_client::{AuthMode, Client, ClientConfig, ClientError, Document, ExpectedServer, Kind, Source};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{AcceptorConfig, Identity, StartupWait, WorkloadConfig, accept_loop};
use dir_runtime::SystemClock;
use futures::StreamExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn svid(id: &str) -> DevSvid {
    DevSvid { spiffe_id: id.into(), dns_names: vec!["localhost".into()], hint: String::new() }
}

fn config(socket: &Path, domain: &str, id: &str, federates_with: &[&str], others: &[&str]) -> DevConfig {
    let mut trust_domains = vec![DevDomain {
        name: domain.into(),
        svids: vec![svid(id)],
        federates_with: federates_with.iter().map(ToString::to_string).collect(),
    }];
    trust_domains
        .extend(others.iter().map(|name| DevDomain { name: (*name).into(), ..DevDomain::default() }));
    DevConfig {
        socket: socket.to_owned(),
        trust_domains,
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(24 * 3600),
    }
}

/// A server with an identity, and the serials of the clients it accepted.
struct World {
    _dir: tempfile::TempDir,
    api: DevWorkloadApi,
    fake: Fake,
    serials: Arc<Mutex<Vec<String>>>,
}

const SERVER: &str = "spiffe://example.org/server";

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let others = ["partner.example"];
    let socket = dir.path().join("s.sock");
    let api = DevWorkloadApi::start(config(&socket, "example.org", SERVER, &[], &others), clock.clone());
    let api = api.await.unwrap();
    let registry = prometheus::Registry::new();
    let workload = WorkloadConfig {
        socket: api.socket_uri(),
        startup_wait: StartupWait::default(),
        ..WorkloadConfig::default()
    };
    let identity = Identity::obtain(workload, clock.clone(), &registry).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let accepted = accept_loop(listener, identity, AcceptorConfig::default(), clock, &registry, stop);
    let serials = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&serials);
    let incoming = accepted.map(move |accepted| {
        noted.lock().unwrap().push(accepted.peer.serial.clone());
        std::io::Result::Ok(Conn { io: accepted.io, _held: accepted.revoked })
    });
    let fake = Fake::over(address, incoming, |_, _, message| stored(message));
    World { _dir: dir, api, fake, serials }
}

fn settings(socket: &str, address: &str) -> ClientConfig {
    ClientConfig {
        server_addr: address.to_owned(),
        server_addr_source: Source::Flag("--server-addr"),
        auth_mode: AuthMode::X509,
        spiffe_socket: Some(socket.to_owned()),
        identity_timeout: Duration::from_millis(800),
        ..ClientConfig::default()
    }
}

async fn push(config: ClientConfig) -> Result<(), ClientError> {
    let client = Client::new(config, Arc::new(SystemClock)).await?;
    client.push_one(Document::from_json(b"{}").unwrap()).await.map(drop)
}

#[tokio::test]
async fn a_workload_talks_to_its_server() {
    let world = world().await;
    let config = settings(&world.api.socket_uri(), &world.fake.address);
    let client = Client::new(config, Arc::new(SystemClock)).await.unwrap();
    assert_eq!(client.identity().unwrap().id.as_str(), SERVER);
    client.push_one(Document::from_json(b"{}").unwrap()).await.unwrap();
    for expected in
        [SERVER, "example.org", "spiffe://example.org", "spiffe://example.org/**", "spiffe://example.org/*"]
    {
        let expected_server = expected.parse().unwrap();
        let config = settings(&world.api.socket_uri(), &world.fake.address);
        push(ClientConfig { expected_server, ..config }).await.unwrap();
    }
}

#[tokio::test]
async fn new_connections_use_the_newest_svid() {
    let world = world().await;
    let config = settings(&world.api.socket_uri(), &world.fake.address);
    let client = Client::new(config, Arc::new(SystemClock)).await.unwrap();
    let before = client.identity().unwrap();
    world.api.rotate();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while client.identity().unwrap().generation == before.generation {
        assert!(tokio::time::Instant::now() < deadline, "the rotation arrives");
        tokio::task::yield_now().await;
    }
    client.push_one(Document::from_json(b"{}").unwrap()).await.unwrap();
    let serials = world.serials.lock().unwrap().clone();
    assert_eq!(serials, [client.identity().unwrap().serial]);
    assert_ne!(serials, [before.serial]);
}

#[tokio::test]
async fn another_server_than_expected() {
    let world = world().await;
    let config = || settings(&world.api.socket_uri(), &world.fake.address);
    let expected_server = ExpectedServer::Id("spiffe://example.org/other".parse().unwrap());
    let error = push(ClientConfig { expected_server, ..config() }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongIdentity, "{error}");
    assert!(error.cause().contains(SERVER) && error.cause().contains("/other"), "{error}");
    let expected_server = ExpectedServer::TrustDomain("elsewhere.example".parse().unwrap());
    let error = push(ClientConfig { expected_server, ..config() }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongTrustDomain, "{error}");
    // Patterns are about the whole ID.
    for look_alike in
        ["spiffe://example.org/server/**", "spiffe://*.example.org/server", "spiffe://example.org/*/server"]
    {
        let expected_server = look_alike.parse().unwrap();
        let error = push(ClientConfig { expected_server, ..config() }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::WrongIdentity, "{error}");
        assert!(error.cause().contains(SERVER) && error.cause().contains(look_alike), "{error}");
    }
}

#[tokio::test]
async fn trust_domains_that_do_not_know_each_other() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let id = "spiffe://partner.example/client";
    let socket = dir.path().join("p.sock");
    // Same CAs, but this workload holds no bundle of the server's domain.
    let stranger =
        world.api.beside(config(&socket, "partner.example", id, &[], &["example.org"])).await.unwrap();
    let config = || settings(&stranger.socket_uri(), &world.fake.address);
    let error = push(config()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongTrustDomain, "{error}");

    // Now it trusts the server, and the server does not know it: in TLS 1.3 that shows at the first read.
    stranger.federate("partner.example", &["example.org"]);
    let expected_server = ExpectedServer::TrustDomain("example.org".parse().unwrap());
    let error = push(ClientConfig { expected_server, ..config() }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TlsRefused, "{error}");
    assert_eq!(error.exit_code(), 7);
}

#[tokio::test]
async fn no_svid_in_time_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", dir.path().join("absent.sock").display());
    let error = push(settings(&socket, "localhost:1")).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::NoSvid, 6));
    assert!(error.cause().starts_with("none within 800 ms: socket absent"), "{error}");

    let error = push(settings("nonsense", "localhost:1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    let none = ClientConfig { spiffe_socket: None, ..settings("", "localhost:1") };
    assert_eq!(push(none).await.unwrap_err().kind(), Kind::Config);
}

/// A TLS server with the certificate of a proxy: a host name and no SPIFFE ID.
async fn proxy(alpn: Vec<Vec<u8>>) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["ingress.local".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_that_ends_tls_is_named() {
    let world = world().await;
    for (alpn, kind) in [(vec![b"h2".to_vec()], Kind::NoUriSan), (vec![b"http/1.1".to_vec()], Kind::Protocol)]
    {
        let address = proxy(alpn).await;
        let error = push(settings(&world.api.socket_uri(), &address)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.next_step().contains("passthrough"), "{}", error.next_step());
    }
    let address = proxy(vec![b"h2".to_vec()]).await;
    let error = push(settings(&world.api.socket_uri(), &address)).await.unwrap_err();
    assert!(error.cause().contains("ingress.local"), "{error}");
}

#[tokio::test]
async fn a_plaintext_server_met_with_tls_and_the_other_way_round() {
    let world = world().await;
    let plain = Fake::start(|_, _, message| stored(message)).await;
    let error = push(settings(&world.api.socket_uri(), &plain.address)).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Protocol | Kind::Disconnected), "{error}");

    let config = ClientConfig { auth_mode: AuthMode::Insecure, ..settings("", &world.fake.address) };
    let error = push(config).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol, "{error}");
    assert!(error.next_step().contains("--auth-mode x509"), "{}", error.next_step());
}
