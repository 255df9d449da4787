//! Dialling: which servers are believed, and what is said about the others.

use crate::support::*;
use dir_identity::devapi::{ChainForm, DevWorkloadApi};
use dir_identity::{AcceptorConfig, ConnectError, Connector, RefuseReason, ServerCheck};
use prometheus::Registry;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn chains_below_an_upstream_root() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let domains = vec![domain(OWN, vec![svid(SERVER_ID, &[HOST])], &[])];
    let config = dev_config(&dir.path().join("s"), domains);
    let api = DevWorkloadApi::prepare_with(config, clock.clone(), ChainForm::Upstream).unwrap();
    api.appear().await.unwrap();
    assert_eq!(api.material().svids[0].chain.len(), 2);
    let registry = Registry::new();
    let obtain = dir_identity::Identity::obtain(workload(api.socket_uri()), clock.clone(), &registry);
    let identity = obtain.await.unwrap();
    let server = Server::start(identity.clone(), AcceptorConfig::default(), clock, registry).await;
    let connector = Connector::new(identity, ServerCheck::Exact(SERVER_ID.parse().unwrap()));
    ping(&mut dial(&connector, &server).await).await.unwrap();
}

#[tokio::test]
async fn the_connector_names_what_it_refuses() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let client = world.identity(&world.client_api, &Registry::new()).await;
    let partner = world.identity(&world.partner_api, &Registry::new()).await;
    let attempt = async |identity: &dir_identity::Identity, check| {
        let tcp = TcpStream::connect(server.addr).await.unwrap();
        Connector::new(identity.clone(), check).connect(tcp, HOST).await
    };
    let own = || vec![OWN.parse().unwrap()];
    assert!(attempt(&client, ServerCheck::Exact(SERVER_ID.parse().unwrap())).await.is_ok());
    assert!(attempt(&client, ServerCheck::AnyKnown).await.is_ok());
    assert!(attempt(&partner, ServerCheck::TrustDomains(own())).await.is_ok());
    for (identity, check) in [
        (&client, ServerCheck::Exact(CLIENT_ID.parse().unwrap())),
        (&client, ServerCheck::TrustDomains(vec![PARTNER.parse().unwrap()])),
        (&partner, ServerCheck::default()),
    ] {
        match attempt(identity, check).await {
            Err(ConnectError::Refused(refusal)) => {
                assert_eq!(refusal.reason, RefuseReason::UnexpectedId);
                assert!(refusal.detail.contains(SERVER_ID), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
    }
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let connector = Connector::new(client.clone(), ServerCheck::default());
    assert!(matches!(connector.connect(tcp, "no host").await, Err(ConnectError::ServerName(_))));

    // A proxy that terminates TLS with the certificate of an ingress controller.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["ingress.local".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Kubernetes Ingress Controller Fake Certificate");
    let fake = params.self_signed(&key).unwrap();
    for (alpn, found) in [(b"h2".as_slice(), "ingress.local"), (b"http/1.1".as_slice(), "HTTP/2")] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![fake.der().clone()],
                rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let edge = tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(io).await.is_ok()
        });
        let error = connector.connect(TcpStream::connect(addr).await.unwrap(), HOST).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(found) && text.contains(HOST), "{text}");
        if let ConnectError::NotSpiffe { presented, .. } = error {
            assert!(presented.subject.contains("Fake Certificate"), "{presented}");
        }
        assert!(!edge.await.unwrap());
    }
}
