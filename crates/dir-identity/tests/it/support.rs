//! What every test here needs: a world, a server that echoes, clients of our own make and crooked ones.

use dir_core::{Clock, Timestamp};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{
    Accepted, AcceptorConfig, Connector, Identity, RefuseReason, ServerCheck, StartupWait, WorkloadConfig,
    accept_loop,
};
use futures::StreamExt;
use parking_lot::Mutex;
use prometheus::Registry;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub(crate) const OWN: &str = "example.org";
pub(crate) const PARTNER: &str = "partner.example";
pub(crate) const SERVER_ID: &str = "spiffe://example.org/ns/dir/sa/apiserver";
pub(crate) const CLIENT_ID: &str = "spiffe://example.org/ns/dir/sa/client";
pub(crate) const HOST: &str = "api.localtest.me";
const PATIENCE: Duration = Duration::from_secs(20);

/// The system's time, shifted at will.
#[derive(Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn shift(&self, secs: i64) {
        self.0.store(secs * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Timestamp(i64::try_from(real).unwrap() + self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::default())
}

pub(crate) fn svid(id: &str, dns: &[&str]) -> DevSvid {
    let dns_names = dns.iter().map(|d| (*d).to_owned()).collect();
    DevSvid { spiffe_id: id.to_owned(), dns_names, hint: String::new() }
}

pub(crate) fn domain(name: &str, svids: Vec<DevSvid>, with: &[&str]) -> DevDomain {
    let federates_with = with.iter().map(|w| (*w).to_owned()).collect();
    DevDomain { name: name.to_owned(), svids, federates_with }
}

pub(crate) fn dev_config(socket: &Path, trust_domains: Vec<DevDomain>) -> DevConfig {
    let hour = Duration::from_secs(3600);
    DevConfig { socket: socket.to_owned(), trust_domains, svid_ttl: hour, ca_ttl: hour * 24 }
}

pub(crate) fn workload(socket: String) -> WorkloadConfig {
    let startup_wait = StartupWait {
        initial: Duration::from_millis(20),
        max: Duration::from_millis(200),
        total: Duration::from_secs(20),
    };
    WorkloadConfig {
        socket,
        startup_wait,
        public_hostnames: vec![HOST.to_owned()],
        ..WorkloadConfig::default()
    }
}

/// Waits until something is so, or fails the test.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bounds a wait that has no bound of its own.
pub(crate) async fn soon<F: Future>(what: &str, f: F) -> F::Output {
    tokio::time::timeout(PATIENCE, f).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Own domain with server and client sockets, a partner domain with a socket of its own, all by one set of CAs.
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) server_api: DevWorkloadApi,
    pub(crate) client_api: DevWorkloadApi,
    pub(crate) partner_api: DevWorkloadApi,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        crate::logs::keep();
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let server = vec![
            domain(OWN, vec![svid(SERVER_ID, &[HOST, "localhost"])], &[PARTNER, "empty.example"]),
            domain(PARTNER, vec![], &[]),
        ];
        let client = vec![domain(OWN, vec![svid(CLIENT_ID, &[])], &[PARTNER]), domain(PARTNER, vec![], &[])];
        let partner = vec![domain(PARTNER, vec![svid("spiffe://partner.example/w", &[])], &[OWN])];
        let path = |name: &str| dir.path().join(name);
        let server_api = DevWorkloadApi::start(dev_config(&path("s"), server), clock.clone()).await.unwrap();
        let client_api = server_api.beside(dev_config(&path("c"), client)).await.unwrap();
        let partner_api = server_api.beside(dev_config(&path("p"), partner)).await.unwrap();
        Self { clock, server_api, client_api, partner_api, dir }
    }

    pub(crate) async fn identity(&self, api: &DevWorkloadApi, registry: &Registry) -> Identity {
        Identity::obtain(workload(api.socket_uri()), self.clock.clone(), registry).await.unwrap()
    }

    pub(crate) async fn server(&self, config: AcceptorConfig) -> Server {
        let registry = Registry::new();
        let identity = self.identity(&self.server_api, &registry).await;
        Server::start(identity, config, self.clock.clone(), registry).await
    }

    pub(crate) async fn connector(&self) -> Connector {
        Connector::new(self.identity(&self.client_api, &Registry::new()).await, ServerCheck::default())
    }
}

/// A server that echoes until the peer is done or revoked.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) identity: Identity,
    pub(crate) peers: Arc<Mutex<Vec<Arc<dir_core::Peer>>>>,
    pub(crate) stop: CancellationToken,
}

impl Server {
    pub(crate) async fn start(
        identity: Identity,
        config: AcceptorConfig,
        clock: Arc<TestClock>,
        registry: Registry,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut accepted = accept_loop(listener, identity.clone(), config, clock, &registry, stop.clone());
        let peers = Arc::new(Mutex::new(Vec::new()));
        let seen = peers.clone();
        tokio::spawn(async move {
            while let Some(connection) = accepted.next().await {
                seen.lock().push(connection.peer.clone());
                tokio::spawn(echo(connection));
            }
        });
        Self { addr, registry, identity, peers, stop }
    }

    pub(crate) fn refused(&self, reason: RefuseReason) -> f64 {
        sample(&self.registry, "handshake_failures_total", "reason", reason.as_str())
    }

    pub(crate) fn refused_in_all(&self) -> f64 {
        RefuseReason::ALL.iter().map(|r| self.refused(*r)).sum()
    }
}

async fn echo(mut connection: Accepted) {
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            () = &mut connection.revoked => {
                let _ = connection.io.write_all(b"revoked").await;
                let _ = connection.io.shutdown().await;
                return;
            }
            read = connection.io.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if connection.io.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}

/// The value of one sample, 0 if it is not there.
pub(crate) fn sample(registry: &Registry, family: &str, label: &str, value: &str) -> f64 {
    for found in registry.gather().iter().filter(|f| f.name() == family) {
        for metric in found.get_metric() {
            if metric.get_label().iter().any(|l| l.name() == label && l.value() == value) {
                return if metric.get_counter().get_value() == 0.0 {
                    metric.get_gauge().get_value()
                } else {
                    metric.get_counter().get_value()
                };
            }
        }
    }
    0.0
}

/// Says a word and hears it back.
pub(crate) async fn ping(io: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    io.write_all(b"ping").await?;
    let mut answer = [0; 4];
    io.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

pub(crate) async fn dial(connector: &Connector, server: &Server) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    connector.connect(tcp, HOST).await.unwrap()
}

/// A client that presents whatever it is given and believes every server.
#[derive(Clone)]
pub(crate) struct Crooked {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Vec<u8>,
    pub(crate) alpn: Vec<&'static [u8]>,
    pub(crate) versions: &'static [&'static rustls::SupportedProtocolVersion],
}

pub(crate) static TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
pub(crate) static TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

impl Crooked {
    pub(crate) fn with(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        Self { chain, key, alpn: vec![b"h2"], versions: TLS13 }
    }

    pub(crate) fn nobody() -> Self {
        Self::with(Vec::new(), Vec::new())
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible(provider)));
        let mut config = if self.chain.is_empty() {
            builder.with_no_client_auth()
        } else {
            let chain = self.chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
            let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
            // Not `with_client_auth_cert`: that one looks whether key and certificate are sound.
            let signer = provider_key(&key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                rustls::sign::CertifiedKey::new(chain, signer),
            )))
        };
        config.alpn_protocols = self.alpn.iter().map(|a| (*a).to_vec()).collect();
        config
    }

    /// Dials and says a word: with TLS 1.3 a refusal is only noticed then.
    pub(crate) async fn try_ping(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.try_ping_from(addr).await.1
    }

    /// The same, and the address it came from.
    pub(crate) async fn try_ping_from(
        &self,
        addr: SocketAddr,
    ) -> (SocketAddr, std::io::Result<TlsStream<TcpStream>>) {
        let tcp = TcpStream::connect(addr).await.unwrap();
        (tcp.local_addr().unwrap(), self.try_ping_on(tcp).await)
    }

    async fn try_ping_on(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(HOST).unwrap();
        let mut io = TlsConnector::from(Arc::new(self.config())).connect(name, tcp).await?;
        ping(&mut io).await?;
        Ok(io)
    }
}

fn provider_key(key: &PrivateKeyDer<'static>) -> Arc<dyn rustls::sign::SigningKey> {
    rustls::crypto::ring::sign::any_supported_type(key).unwrap()
}

#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
