//! `dirctl verify tls`: each fault made for real, and its name.

use crate::node::{Node, Ran, nobody, run, workload_api};
use dir_identity::devapi::DevWorkloadApi;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A workload of a trust domain, and its folder.
async fn workload(domain: &str) -> (tempfile::TempDir, DevWorkloadApi) {
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), domain, &format!("spiffe://{domain}/node")).await;
    (dir, api)
}

async fn verify(socket: Option<&str>, args: &[&str]) -> Ran {
    let env: Vec<_> = socket.map(|s| ("SPIFFE_ENDPOINT_SOCKET", s)).into_iter().collect();
    run(&env, &[&["verify", "tls", "--json"], args].concat(), b"").await
}

/// Exit code and cause; a cause that is no health has a next step.
fn cause(ran: &Ran) -> (Option<i32>, String) {
    let verdict = &ran.json()["verdict"];
    assert_eq!(verdict["cause"] == "healthy", verdict["next"] == "", "{ran:?}");
    (ran.code, verdict["cause"].as_str().unwrap().to_owned())
}

/// A TLS server that knows HTTP/1 only and answers everything with this status.
struct Web<'a> {
    uri: Option<&'a str>,
    dns: &'a str,
    status: u16,
    expired: bool,
}

impl Web<'_> {
    async fn start(self) -> String {
        let mut params = rcgen::CertificateParams::new(vec![self.dns.to_owned()]).unwrap();
        let uri = self.uri.map(|uri| rcgen::SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uri);
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        if self.expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let status = self.status;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut asked = [0; 512];
                    let _read = stream.read(&mut asked).await.ok()?;
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
        address
    }
}

fn web(dns: &str, status: u16) -> Web<'_> {
    Web { uri: None, dns, status, expired: false }
}

#[tokio::test]
async fn a_healthy_server() {
    let (_dir, api) = workload("example.org").await;
    let socket = api.socket_uri();
    let node = Node::x509(socket.clone()).await;
    let ran = verify(Some(&socket), &["--endpoint", &node.address, "--server-name", "localhost"]).await;
    assert_eq!(cause(&ran), (Some(0), "healthy".into()), "{ran:?}");
    let seen = ran.json();
    assert_eq!(seen["certificate"]["spiffe_id"], "spiffe://example.org/node");
    assert_eq!((&seen["tls"]["alpn"], &seen["tls"]["ended_by"]), (&"h2".into(), &"server".into()), "{seen}");
    assert!(seen["checks"].as_array().unwrap().iter().all(|c| c["state"] != "fault"), "{seen}");
    assert!(seen.get("chain").is_none(), "{seen}");

    // For people, with the chain; by name; without a name: our server does not care for it.
    let port = node.address.rsplit_once(':').unwrap().1;
    let by_name = format!("elsewhere.invalid:{port}");
    let env = [("SPIFFE_ENDPOINT_SOCKET", socket.as_str())];
    let args =
        ["verify", "tls", "--endpoint", &by_name, "--resolve", "127.0.0.1", "--no-sni", "--show-chain"];
    let human = run(&env, &args, b"").await.good();
    for start in
        ["chain ", "dns          -", "tls          ok        TLSv1.3, SNI none, ALPN h2", "verdict      ok "]
    {
        assert!(human.lines().any(|l| l.starts_with(start)), "{start}: {human}");
    }

    node.ready.send(false).unwrap();
    let ran = verify(Some(&socket), &["--endpoint", &node.address]).await;
    assert_eq!(cause(&ran), (Some(75), "not-serving".into()));
}

#[tokio::test]
async fn without_an_svid_the_certificate_is_shown_all_the_same() {
    let (_dir, api) = workload("example.org").await;
    let node = Node::x509(api.socket_uri()).await;
    let ran = verify(None, &["--endpoint", &node.address]).await;
    assert_eq!(cause(&ran), (Some(6), "no-identity".into()));
    assert_eq!(ran.json()["certificate"]["spiffe_id"], "spiffe://example.org/node");
}

#[tokio::test]
async fn servers_of_others() {
    let (_dir, api) = workload("example.org").await;
    let (_other_dir, other) = workload("partner.example").await;
    let node = Node::x509(api.socket_uri()).await;
    let ran = verify(Some(&other.socket_uri()), &["--endpoint", &node.address]).await;
    assert_eq!(cause(&ran), (Some(7), "foreign-trust-domain".into()));
    let args = ["--endpoint", &node.address, "--expected-server-id", "spiffe://example.org/other"];
    let ran = verify(Some(&api.socket_uri()), &args).await;
    assert_eq!(cause(&ran), (Some(7), "unexpected-server".into()));

    let uri = Some("spiffe://example.org/forged");
    let forged = Web { uri, ..web("localhost", 200) }.start().await;
    let ran = verify(Some(&api.socket_uri()), &["--endpoint", &forged]).await;
    assert_eq!(cause(&ran), (Some(7), "untrusted".into()));
    let ran = verify(None, &["--endpoint", &forged]).await;
    assert_eq!(cause(&ran), (Some(7), "wrong-alpn".into()));
    let expired = Web { uri, expired: true, ..web("localhost", 200) }.start().await;
    for socket in [None, Some(api.socket_uri())] {
        let ran = verify(socket.as_deref(), &["--endpoint", &expired]).await;
        assert_eq!(cause(&ran), (Some(7), "expired".into()));
    }
}

#[tokio::test]
async fn proxies_that_end_tls() {
    for (dns, status, expected) in [
        ("ingress.local", 404, "host-not-routed"),
        ("ingress.local", 502, "ingress-default-certificate"),
        ("api.example.org", 200, "passthrough-off"),
        ("api.example.org", 404, "host-not-routed"),
    ] {
        let address = web(dns, status).start().await;
        let ran = verify(None, &["--endpoint", &address, "--server-name", "api.example.org"]).await;
        assert_eq!(cause(&ran), (Some(7), expected.to_owned()), "{dns} {status}");
        let seen = ran.json();
        assert!(seen["verdict"]["text"].as_str().unwrap().contains(dns), "{seen}");
        assert_eq!(seen["tls"]["ended_by"], "proxy");
    }
    let address = web("ingress.local", 404).start().await;
    let ran = verify(None, &["--endpoint", &address, "--no-sni"]).await;
    assert_eq!(cause(&ran), (Some(7), "ingress-default-certificate".into()));
    assert!(ran.json()["verdict"]["text"].as_str().unwrap().starts_with("without a name"));
}

/// A server that reads, answers with these bytes and closes.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address
}

#[tokio::test]
async fn servers_without_tls() {
    let node = Node::plain().await;
    let ran = verify(None, &["--endpoint", &node.address]).await;
    assert_eq!(cause(&ran), (Some(7), "plaintext-server".into()));
    let web = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let ran = verify(None, &["--endpoint", &web]).await;
    assert_eq!(cause(&ran), (Some(7), "http-proxy".into()));
    assert!(ran.json()["verdict"]["text"].as_str().unwrap().contains("400"), "{ran:?}");
    let ssh = answering(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert_eq!(cause(&verify(None, &["--endpoint", &ssh]).await), (Some(7), "not-tls".into()));
    let mute = answering(b"").await;
    assert_eq!(cause(&verify(None, &["--endpoint", &mute]).await), (Some(7), "closed".into()));
    // A fatal alert: handshake_failure.
    let strict = answering(&[21, 3, 3, 0, 2, 2, 40]).await;
    assert_eq!(cause(&verify(None, &["--endpoint", &strict]).await), (Some(7), "handshake-refused".into()));
}

#[tokio::test]
async fn servers_that_are_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It listens, and nobody accepts.
    let ran = verify(None, &["--endpoint", &address, "--timeout", "300ms"]).await;
    assert_eq!(cause(&ran), (Some(75), "timeout".into()));
    let (_held, address) = nobody();
    assert_eq!(cause(&verify(None, &["--endpoint", &address]).await), (Some(3), "refused".into()));
    let host = format!("{}.invalid:1", "x".repeat(64));
    assert_eq!(cause(&verify(None, &["--endpoint", &host]).await), (Some(3), "dns".into()));
    for bad in ["unix:///s", "ftp://x", "h:0"] {
        assert_eq!(verify(None, &["--endpoint", bad]).await.code, Some(2), "{bad}");
    }
}
