//! Auth mode tls: certificates from PEM files on both sides.

use crate::fake::{Conn, Fake, stored};
use dir_client::{AuthMode, Client, ClientConfig, ClientError, Document, Kind, TlsFiles};
use dir_runtime::SystemClock;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// An authority, and leaves signed by it.
pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self { pem: made.pem(), der: made.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A server for `localhost` that wants a client certificate of the same authority, or none.
pub(crate) async fn server(authority: &Authority, certificate: bool) -> Fake {
    let (leaf, key) = authority.leaf("localhost");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
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
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let incoming = TcpListenerStream::new(listener).filter_map(move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream.unwrap()).await.ok().map(|io| Ok(Conn { io, _held: () })) }
    });
    Fake::over(address, incoming, |_, _, message| stored(message))
}

/// Writes the files of a client of `trusted` with a certificate of `own`.
fn files(dir: &Path, trusted: &Authority, own: &Authority) -> TlsFiles {
    let (leaf, key) = own.leaf("client");
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    TlsFiles {
        ca: write("ca.pem", trusted.pem.clone()),
        cert: write("cert.pem", leaf.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}

pub(crate) async fn push(config: ClientConfig) -> Result<(), ClientError> {
    let client = Client::new(config, Arc::new(SystemClock)).await?;
    client.push_one(Document::from_json(b"{}").unwrap()).await.map(drop)
}

#[tokio::test]
async fn files_of_one_authority_work_and_others_do_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let fake = server(&ours, true).await;
    let dir = tempfile::tempdir().unwrap();
    let config = |tls, address: &str| ClientConfig {
        server_addr: address.to_owned(),
        auth_mode: AuthMode::Tls,
        tls,
        ..ClientConfig::default()
    };
    push(config(files(dir.path(), &ours, &ours), &fake.address)).await.unwrap();
    push(config(files(dir.path(), &ours, &ours), &format!("https://{}", fake.address))).await.unwrap();

    let error = push(config(files(dir.path(), &theirs, &ours), &fake.address)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TlsUntrusted, "{error}");
    let error = push(config(files(dir.path(), &ours, &theirs), &fake.address)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TlsRefused, "{error}");

    // By address the certificate does not fit, unless the name is given.
    let by_address = fake.address.replace("localhost", "127.0.0.1");
    let error = push(config(files(dir.path(), &ours, &ours), &by_address)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TlsName, "{error}");
    let named = config(files(dir.path(), &ours, &ours), &by_address);
    push(ClientConfig { server_name: Some("localhost".into()), ..named }).await.unwrap();
}
