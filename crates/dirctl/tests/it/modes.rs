//! `doctor` and `verify tls` in the modes that check servers by name: tls, token and jwt-tls, through a proxy that ends TLS.

use crate::node::{Node, Ran, run, workload_api};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// An authority, its proxy for `localhost`, and files of a client.
struct World {
    dir: tempfile::TempDir,
    address: String,
    issuer: Issuer<'static, KeyPair>,
    _node: Node,
}

impl World {
    /// The proxy asks for a certificate, or does not.
    async fn start(certificate: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        std::fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();

        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let clients = if certificate {
            clients.build().unwrap()
        } else {
            rustls::server::WebPkiClientVerifier::no_client_auth()
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let node = Node::plain().await;
        let (acceptor, behind) = (tokio_rustls::TlsAcceptor::from(Arc::new(config)), node.address.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let mut front = acceptor.accept(tcp).await.ok()?;
                    let mut back = TcpStream::connect(behind).await.ok()?;
                    tokio::io::copy_bidirectional(&mut front, &mut back).await.ok()
                });
            }
        });
        Self { dir, address, issuer, _node: node }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A certificate and its key in files of these names; `days` old and as long valid from now.
    fn client(&self, name: &str, expired: bool) -> (PathBuf, PathBuf, Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        }
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let (cert, secret) =
            (self.dir.path().join(format!("{name}.pem")), self.dir.path().join(format!("{name}.key")));
        std::fs::write(&cert, leaf.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        private(&secret);
        (cert, secret, leaf.der().to_vec(), key.serialize_der())
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", self.address.as_str())];
        run(&env, &[args, &["--json"]].concat(), b"").await
    }
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// State and text of a check.
fn check(ran: &Ran, name: &str) -> (String, String) {
    let document = ran.json();
    let found = document["checks"].as_array().unwrap().iter().find(|c| c["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name}: {document}"));
    (found["state"].as_str().unwrap().to_owned(), found["detail"].as_str().unwrap().to_owned())
}

fn cause(ran: &Ran) -> (Option<i32>, String) {
    (ran.code, ran.json()["verdict"]["cause"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn mode_tls() {
    let world = World::start(true).await;
    let (ca, good) = (world.path("ca.pem"), world.client("good", false));
    let files = |cert: &Path, key: &Path| {
        let text = |path: &Path| path.display().to_string();
        [
            "--tls-ca-file".to_owned(),
            ca.clone(),
            "--tls-cert-file".to_owned(),
            text(cert),
            "--tls-key-file".to_owned(),
            text(key),
        ]
    };
    let with = async |command: &[&str], files: &[String]| {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        world.run(&[command, &["--auth-mode", "tls"], &files].concat()).await
    };
    let ran = with(&["doctor"], &files(&good.0, &good.1)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["certificate", "authorities", "server"] {
        assert_eq!(check(&ran, name).0, "ok", "{ran:?}");
    }
    let ran = with(&["verify", "tls"], &files(&good.0, &good.1)).await;
    assert_eq!(cause(&ran), (Some(0), "healthy".into()), "{ran:?}");
    // Learnt from what there is, where no mode is set.
    let plain: Vec<String> = files(&good.0, &good.1).to_vec();
    let ran =
        world.run(&[&["status"], &plain.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat()).await;
    assert_eq!((ran.code, &ran.json()["auth_mode"]), (Some(0), &"tls".into()), "{ran:?}");

    // A key that others may read.
    std::fs::set_permissions(&good.1, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = with(&["doctor"], &files(&good.0, &good.1)).await;
    assert!(check(&ran, "key").1.contains("mode 644"), "{ran:?}");
    private(&good.1);
    // A key of another certificate, an expired one, a file that is none.
    let (old, other) = (world.client("old", true), world.client("other", false));
    let ran = with(&["doctor", "--offline"], &files(&good.0, &other.1)).await;
    assert_eq!((ran.code, check(&ran, "client").0), (Some(4), "fault".into()), "{ran:?}");
    let ran = with(&["doctor"], &files(&old.0, &old.1)).await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(
        check(&ran, "certificate").1.contains("expired") && check(&ran, "server").0 == "fault",
        "{ran:?}"
    );
    let ran = with(&["verify", "tls"], &files(&old.0, &old.1)).await;
    assert_eq!(cause(&ran), (Some(7), "client-refused".into()), "{ran:?}");
    let ran = with(&["doctor", "--offline"], &files(&good.1, &good.1)).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");

    // Another authority, another name.
    let stranger = World::start(true).await;
    let args = ["verify", "tls", "--endpoint", &stranger.address];
    let ran = with(&args, &files(&good.0, &good.1)).await;
    assert_eq!(cause(&ran), (Some(7), "untrusted".into()), "{ran:?}");
    let ran = with(&["verify", "tls", "--server-name", "elsewhere.example"], &files(&good.0, &good.1)).await;
    assert_eq!(cause(&ran), (Some(7), "wrong-name".into()), "{ran:?}");
    assert!(ran.json()["verdict"]["next"].as_str().unwrap().contains("--tls-server-name"), "{ran:?}");
}

#[tokio::test]
async fn mode_token() {
    let world = World::start(true).await;
    let base64 = |der: &[u8]| data_encoding::BASE64.encode(der);
    let pem = std::fs::read_to_string(world.path("ca.pem")).unwrap();
    let root: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let file = world.dir.path().join("token.json");
    let write = |expired: bool| {
        let (_, _, leaf, key) = world.client("t", expired);
        let text = format!(
            r#"[{{"x509_svid":["{}"],"private_key":"{}","root_cas":["{root}"]}}]"#,
            base64(&leaf),
            base64(&key)
        );
        std::fs::write(&file, text).unwrap();
        private(&file);
    };
    let token = ["--auth-mode", "token", "--spiffe-token", file.to_str().unwrap()];
    write(false);
    let ran = world.run(&[&["doctor"], &token[..]].concat()).await;
    assert_eq!((ran.code, check(&ran, "certificate").0), (Some(0), "ok".into()), "{ran:?}");
    let ran = world.run(&[&["verify", "tls"], &token[..]].concat()).await;
    assert_eq!(cause(&ran), (Some(0), "healthy".into()), "{ran:?}");
    write(true);
    let ran = world.run(&[&["doctor", "--offline"], &token[..]].concat()).await;
    assert_eq!((ran.code, check(&ran, "certificate").0), (Some(7), "fault".into()), "{ran:?}");
    std::fs::write(&file, "[]").unwrap();
    let ran = world.run(&[&["doctor", "--offline"], &token[..]].concat()).await;
    assert_eq!((ran.code, check(&ran, "certificate").0), (Some(4), "fault".into()), "{ran:?}");
}

#[tokio::test]
async fn mode_jwt_tls() {
    let world = World::start(false).await;
    let api = workload_api(world.dir.path(), "example.org", "spiffe://example.org/w").await;
    let (socket, ca) = (api.socket_uri(), world.path("ca.pem"));
    let args =
        ["--auth-mode", "jwt-tls", "--jwt-audience", "https://dir.example", "--spiffe-socket-path", &socket];
    let trusted = [&args[..], &["--tls-ca-file", &ca]].concat();
    let ran = world.run(&[&["doctor"], &trusted[..]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        (check(&ran, "token").0, check(&ran, "jwt keys").0),
        ("ok".into(), "skipped".into()),
        "{ran:?}"
    );
    assert!(check(&ran, "token").1.starts_with("spiffe://example.org/w for https://dir.example"), "{ran:?}");
    let ran = world.run(&[&["verify", "tls"], &trusted[..]].concat()).await;
    assert_eq!(cause(&ran), (Some(0), "healthy".into()), "{ran:?}");
    let ran = world.run(&[&["doctor", "--offline"], &trusted[..]].concat()).await;
    assert_eq!((ran.code, check(&ran, "authorities").0), (Some(0), "ok".into()), "{ran:?}");
    api.vanish().await;
    let ran = world.run(&[&["doctor", "--timeout", "500ms"], &trusted[..]].concat()).await;
    assert_eq!((ran.code, check(&ran, "socket").0), (Some(6), "fault".into()), "{ran:?}");
}
