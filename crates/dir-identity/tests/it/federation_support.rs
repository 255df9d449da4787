//! Partner trust domains with CAs of their own, and endpoints that lie on command.

use crate::support::*;
use data_encoding::BASE64;
use dir_identity::Identity;
use dir_identity::devapi::{Authority, ChainForm, DevWorkloadApi};
use dir_identity::federation::*;
use parking_lot::Mutex;
use prometheus::Registry;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) const A: &str = "a.example";
pub(crate) const B: &str = "b.example";

/// One organisation: a Workload API with its own CAs, and an identity of it.
pub(crate) struct Org {
    pub(crate) name: &'static str,
    pub(crate) api: DevWorkloadApi,
    pub(crate) identity: Identity,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) dir: tempfile::TempDir,
}

impl Org {
    pub(crate) async fn start(name: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let server = svid(&format!("spiffe://{name}/dir"), &[HOST, "localhost"]);
        let config = dev_config(&dir.path().join("w"), vec![domain(name, vec![server], &[])]);
        let api = DevWorkloadApi::start(config, clock.clone()).await.unwrap();
        let registry = Registry::new();
        let identity = Identity::obtain(workload(api.socket_uri()), clock.clone(), &registry).await.unwrap();
        Self { name, api, identity, registry, clock, dir }
    }

    /// The roots of this moment as a bundle document.
    pub(crate) fn document(&self, sequence: u64) -> Value {
        let snapshot = self.identity.snapshot();
        let bundle = snapshot.bundles().get(&self.name.parse().unwrap()).unwrap();
        document(bundle.roots().iter().map(AsRef::as_ref), sequence)
    }

    /// The same, in a file.
    pub(crate) fn bootstrap(&self, to: &Path, sequence: u64) -> PathBuf {
        let path = to.join(format!("{}.bootstrap", self.name));
        std::fs::write(&path, self.document(sequence).to_string()).unwrap();
        path
    }

    pub(crate) async fn publish(&self, at: SocketAddr) -> BundleEndpoint {
        let listener = TcpListener::bind(at).await.unwrap();
        let state_file = Some(self.dir.path().join("published.json"));
        let config = PublishConfig { state_file, ..PublishConfig::default() };
        BundleEndpoint::start(listener, config, &self.identity, self.clock.clone(), &Registry::new()).unwrap()
    }

    /// `self` as a partner of somebody, over our own endpoint.
    pub(crate) fn as_partner(&self, at: SocketAddr, bootstrap: PathBuf) -> Partner {
        let id = format!("spiffe://{}/dir", self.name).parse().unwrap();
        let url = format!("https://{at}/").parse().unwrap();
        Partner {
            source: Some((url, Endpoint::HttpsSpiffe { id })),
            bootstrap_file: Some(bootstrap),
            ..Partner::new(self.name.parse().unwrap())
        }
    }

    /// Federates, with its state on disk.
    pub(crate) async fn federate(&self, partners: Vec<Partner>) -> Federation {
        let config = FederationConfig {
            partners,
            state_dir: Some(self.dir.path().join("federation")),
            tick: Duration::from_millis(5),
            ..FederationConfig::default()
        };
        self.federate_with(config).await.unwrap()
    }

    pub(crate) async fn federate_with(
        &self,
        config: FederationConfig,
    ) -> Result<Federation, FederationError> {
        Federation::start(config, self.identity.clone(), self.clock.clone(), &self.registry).await
    }

    /// Where the bundle of a domain comes from now.
    pub(crate) fn source(&self, domain: &str) -> Option<&'static str> {
        self.identity.snapshot().bundles().get(&domain.parse().unwrap()).map(|b| b.source())
    }

    pub(crate) fn gauge(&self, family: &str, domain: &str) -> f64 {
        sample(&self.registry, family, "trust_domain", domain)
    }
}

pub(crate) fn document<'a>(roots: impl Iterator<Item = &'a [u8]>, sequence: u64) -> Value {
    let keys: Vec<Value> =
        roots.map(|der| json!({"kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(der)]})).collect();
    json!({"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": 60})
}

/// A CA of some trust domain, for documents.
pub(crate) fn some_root(domain: &str) -> Vec<u8> {
    let hour = Duration::from_secs(3600);
    let now = dir_core::Clock::now(&*clock());
    Authority::new(&domain.parse().unwrap(), now, hour, ChainForm::SelfSigned).unwrap().root().to_vec()
}

pub(crate) async fn refresh(federation: &Federation, domain: &str) -> Result<(), FetchError> {
    soon("a fetch", federation.refresh(&domain.parse().unwrap())).await.unwrap()
}

pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

type Script = Box<dyn Fn(&str) -> Vec<u8> + Send>;

/// An `https_web` endpoint that says whatever it is told to.
pub(crate) struct Liar {
    pub(crate) addr: SocketAddr,
    pub(crate) ca_file: PathBuf,
    pub(crate) asked: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
    _dir: tempfile::TempDir,
}

/// An HTTP answer.
pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn ok(body: &Value) -> Vec<u8> {
    http("200 OK", "content-type: application/json\r\n", body.to_string().as_bytes())
}

impl Liar {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(cert.der().to_vec())],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind(anywhere()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_| http("404 Not Found", "", b""))));
        let asked = Arc::new(AtomicUsize::new(0));
        tokio::spawn(lie(listener, TlsAcceptor::from(Arc::new(tls)), script.clone(), asked.clone()));
        Self { addr, ca_file, asked, script, _dir: dir }
    }

    /// What to answer from now on, by path; nothing at all when empty.
    pub(crate) fn say(&self, script: impl Fn(&str) -> Vec<u8> + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn as_partner(&self, name: &str) -> Partner {
        let url = format!("https://{}/bundle", self.addr).parse().unwrap();
        let ca_file = Some(self.ca_file.clone());
        Partner { source: Some((url, Endpoint::HttpsWeb { ca_file })), ..Partner::new(name.parse().unwrap()) }
    }
}

async fn lie(listener: TcpListener, tls: TlsAcceptor, script: Arc<Mutex<Script>>, asked: Arc<AtomicUsize>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, script, asked) = (tls.clone(), script.clone(), asked.clone());
        tokio::spawn(async move {
            let Ok(mut io) = tls.accept(tcp).await else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if io.read_exact(&mut byte).await.is_err() {
                    return;
                }
                head.push(byte[0]);
            }
            asked.fetch_add(1, Ordering::SeqCst);
            let head = String::from_utf8(head).unwrap();
            let answer = script.lock()(head.split(' ').nth(1).unwrap());
            if answer.is_empty() {
                // Silent until the other side gives up.
                let _ = io.read(&mut [0]).await;
                return;
            }
            let _ = io.write_all(&answer).await;
            let _ = io.shutdown().await;
        });
    }
}
