//! The accept and refuse matrix, a test for each row: a real certificate, a real TLS client, the word in the log and the
//! counter, and whether a connection came out.

use crate::minting::*;
use crate::support::*;
use dir_identity::devapi::{Answer, Authority, ChainForm};
use dir_identity::{AcceptorConfig, ConnectError, Connector, MinVersion, RefuseReason, ServerCheck};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::ServerName;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn world() -> (World, Server) {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    (world, server)
}

/// A client of our own domain with one thing changed.
fn own(world: &World, change: impl FnOnce(&mut CertificateParams)) -> Crooked {
    mint(world, OWN, CLIENT_ID, change)
}

/// Rows that are accepted.
macro_rules! accepts {
    ($($name:ident: |$world:ident| $client:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let ($world, server) = world().await;
            accepted(&server, stringify!($name), $client).await;
        }
    )+};
}

/// Rows that are refused: the reason, and clients that meet it.
macro_rules! refuses {
    ($($name:ident: $reason:ident, |$world:ident| [$($client:expr),+ $(,)?];)+) => {$(
        #[tokio::test]
        async fn $name() {
            let ($world, server) = world().await;
            $(refused(&server, stringify!($name), RefuseReason::$reason, $client).await;)+
            accepted(&server, "an honest client afterwards", own(&$world, |_| {})).await;
        }
    )+};
}

accepts! {
    h1_own_domain: |world| own(&world, |_| {});
    h2_federated_domain: |world| mint(&world, PARTNER, "spiffe://partner.example/w", |_| {});
    h3_chain_with_intermediate: |world| below(&world, |_| {});
    h4_dns_names_beside_the_uri: |world| own(&world, |p| {
        p.subject_alt_names.insert(0, SanType::DnsName(Ia5String::try_from("a.example").unwrap()));
    });
    h5_empty_subject: |world| own(&world, |p| p.distinguished_name = DistinguishedName::new());
    h6_no_extended_key_usage: |world| own(&world, |p| p.extended_key_usages.clear());
    h25_longest_id: |world| mint(&world, OWN, &long_id(2048), |_| {});
}

refuses! {
    h8_no_certificate: NoClientCertificate, |world| [Crooked::nobody()];
    h9_own_id_by_a_federated_ca: BadChain, |world| [
        mint(&world, PARTNER, CLIENT_ID, |_| {}),
        mint(&world, OWN, "spiffe://partner.example/w", |_| {}),
    ];
    h10_unknown_ca: BadChain, |world| [mint_by(&stranger(&world, ChainForm::SelfSigned), &world, CLIENT_ID, |_| {})];
    h16_bad_intermediate: BadChain, |world| [
        below(&world, |p| p.not_after = date(in_secs(&world.clock, -10))),
        below(&world, |p| p.is_ca = IsCa::ExplicitNoCa),
        below(&world, |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        below(&world, |p| p.key_usages.clear()),
        headless(&world),
    ];
    h18_two_uris: MultipleUriSan, |world| [
        own(&world, |p| p.subject_alt_names.push(uri("spiffe://example.org/b"))),
        own(&world, |p| p.subject_alt_names.push(uri("https://a/b"))),
    ];
    h19_uri_that_is_no_spiffe_id: NoUriSan, |world| [
        own(&world, |p| p.subject_alt_names = vec![uri("https://example.org/a")]),
        own(&world, |p| p.subject_alt_names = vec![uri("spiffe://example.org:1/a")]),
    ];
    h20_leaf_is_a_ca: LeafIsCa, |world| [own(&world, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))];
    h21_leaf_may_sign: LeafKeyUsage, |world| [
        own(&world, |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        own(&world, |p| p.key_usages.push(KeyUsagePurpose::CrlSign)),
    ];
    h22_leaf_without_digital_signature: LeafKeyUsage, |world| [
        own(&world, |p| p.key_usages.clear()),
        own(&world, |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
    ];
    h23_extended_key_usage_without_client: LeafEku, |world| [
        own(&world, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        own(&world, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
    ];
    h24_root_path: RootPathId, |world| [own(&world, |p| p.subject_alt_names = vec![uri("spiffe://example.org")])];
    h25_id_too_long: IdTooLong, |world| [own(&world, |p| p.subject_alt_names = vec![uri(&long_id(2049))])];
    h26_name_constraints: BadChain, |world| [below(&world, constrain)];
    h27_tls_12: Protocol, |world| [Crooked { versions: TLS12, ..own(&world, |_| {}) }];
    h29_no_h2: Alpn, |world| [
        Crooked { alpn: vec![], ..own(&world, |_| {}) },
        Crooked { alpn: vec![b"http/1.1"], ..own(&world, |_| {}) },
    ];
    h31_corrupt: BadChain, |world| [corrupt(&world), flipped(&world), stolen(&world)];
}

fn long_id(len: usize) -> String {
    let domain = format!("spiffe://{OWN}/");
    format!("{domain}{}", "x".repeat(len - domain.len()))
}

/// A CA that nobody trusts.
fn stranger(world: &World, form: ChainForm) -> Authority {
    let now = dir_core::Clock::now(world.clock.as_ref());
    Authority::new(&OWN.parse().unwrap(), now, Duration::from_secs(600), form).unwrap()
}

/// Its intermediate is missing.
fn headless(world: &World) -> Crooked {
    let mut client = below(world, |_| {});
    client.chain.truncate(1);
    client
}

fn constrain(params: &mut CertificateParams) {
    // permittedSubtrees with one URI constraint, as DER.
    let constraint = b"\x30\x11\xa0\x0f\x30\x0d\x86\x0bexample.org";
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraint.to_vec());
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

/// DER, and no certificate.
fn corrupt(world: &World) -> Crooked {
    let mut client = own(world, |_| {});
    client.chain[0] = b"\x30\x03\x02\x01\x01".to_vec();
    client
}

/// One bit of the signature is another.
fn flipped(world: &World) -> Crooked {
    let mut client = own(world, |_| {});
    let last = client.chain[0].len() - 1;
    client.chain[0][last] ^= 1;
    client
}

/// Its key is another's.
fn stolen(world: &World) -> Crooked {
    Crooked { key: KeyPair::generate().unwrap().serialize_der(), ..own(world, |_| {}) }
}

/// Gives the server one more federated bundle.
async fn federate(world: &World, server: &Server, domain: &str, bundle: Vec<u8>) {
    let mut material = (*world.server_api.material()).clone();
    material.federated.insert(format!("spiffe://{domain}"), bundle);
    let before = server.identity.snapshot().generation();
    world.server_api.override_answer(Some(Answer::Material(Arc::new(material))));
    until("the bundle arrives", || server.identity.snapshot().generation() > before).await;
}

#[tokio::test]
async fn h7_ca_without_a_spiffe_uri() {
    let (world, server) = world().await;
    let now = dir_core::Clock::now(world.clock.as_ref());
    let upstream =
        Authority::new(&"third.example".parse().unwrap(), now, Duration::from_secs(600), ChainForm::Upstream);
    let upstream = upstream.unwrap();
    assert!(!upstream.root().windows(9).any(|bytes| bytes == b"spiffe://"));
    federate(&world, &server, "third.example", upstream.root().to_vec()).await;
    accepted(&server, "H7", mint_by(&upstream, &world, "spiffe://third.example/w", |_| {})).await;
}

#[tokio::test]
async fn h11_domain_without_bundle() {
    let (world, server) = world().await;
    let client = mint(&world, OWN, "spiffe://evil.example/a", |_| {});
    let line = refused(&server, "H11", RefuseReason::UnknownTrustDomain, client).await;
    assert!(line.contains("no bundle for trust domain evil.example"), "{line}");
}

#[tokio::test]
async fn h12_domain_with_an_empty_bundle() {
    let (world, server) = world().await;
    federate(&world, &server, "empty.example", Vec::new()).await;
    let client = mint(&world, OWN, "spiffe://empty.example/a", |_| {});
    refused(&server, "H12", RefuseReason::UnknownTrustDomain, client).await;
}

#[tokio::test]
async fn h13_domain_that_no_rule_names() {
    let world = World::start().await;
    let config = AcceptorConfig {
        domain_allowed: Some(Arc::new(|domain| domain.as_str() == OWN)),
        ..AcceptorConfig::default()
    };
    let server = world.server(config).await;
    let partner = mint(&world, PARTNER, "spiffe://partner.example/w", |_| {});
    refused(&server, "H13", RefuseReason::DomainNotAllowed, partner).await;
    accepted(&server, "own", own(&world, |_| {})).await;
}

#[tokio::test]
async fn h14_expired() {
    let (world, server) = world().await;
    let past = date(in_secs(&world.clock, -5));
    refused(&server, "H14", RefuseReason::Expired, own(&world, |p| p.not_after = past)).await;
}

#[tokio::test]
async fn h15_not_yet_valid() {
    let (world, server) = world().await;
    let future = date(in_secs(&world.clock, 60));
    let line =
        refused(&server, "H15", RefuseReason::NotYetValid, own(&world, |p| p.not_before = future)).await;
    assert!((55..=60).any(|secs| line.contains(&format!("in {secs} seconds"))), "how many seconds: {line}");
}

#[tokio::test]
async fn h17_no_uri() {
    let (world, server) = world().await;
    let client = own(&world, |p| p.subject_alt_names.clear());
    let line = refused(&server, "H17", RefuseReason::NoUriSan, client).await;
    for part in ["subject=C=US, O=SPIRE", "issuer=C=US, O=SPIFFE"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[tokio::test]
async fn h27_tls_12_by_switch() {
    let world = World::start().await;
    let lenient = AcceptorConfig { min_version: MinVersion::Tls12, ..AcceptorConfig::default() };
    let server = world.server(lenient).await;
    accepted(&server, "H27", Crooked { versions: TLS12, ..own(&world, |_| {}) }).await;
    assert_eq!(server.peers.lock()[0].tls_version, "TLSv1.2");
    let nobody = Crooked { versions: TLS12, ..Crooked::nobody() };
    refused(&server, "H8 in 1.2", RefuseReason::NoClientCertificate, nobody).await;
    let forged = Crooked { versions: TLS12, ..mint(&world, PARTNER, CLIENT_ID, |_| {}) };
    refused(&server, "H9 in 1.2", RefuseReason::BadChain, forged).await;
    accepted(&server, "1.3 still", own(&world, |_| {})).await;
}

#[tokio::test]
async fn h29_h2_among_others() {
    let (world, server) = world().await;
    accepted(&server, "H29", Crooked { alpn: vec![b"http/1.1", b"h2"], ..own(&world, |_| {}) }).await;
}

#[tokio::test]
async fn h30_no_ticket_no_resumption_no_early_data() {
    let world = World::start().await;
    let lenient = AcceptorConfig { min_version: MinVersion::Tls12, ..AcceptorConfig::default() };
    let server = world.server(lenient).await;
    for versions in [TLS13, TLS12] {
        let mut config = Crooked { versions, ..own(&world, |_| {}) }.config();
        config.enable_early_data = true;
        // One configuration, so that what a connection was given serves the next.
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..3 {
            let tcp = TcpStream::connect(server.addr).await.unwrap();
            let mut io = connector.connect(ServerName::try_from(HOST).unwrap(), tcp).await.unwrap();
            ping(&mut io).await.unwrap();
            let tls = io.get_ref().1;
            assert_eq!(tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
            assert_eq!(tls.tls13_tickets_received(), 0);
            assert!(!tls.is_early_data_accepted());
            assert!(io.get_mut().1.early_data().is_none(), "nothing to send early data with");
        }
    }
}

#[tokio::test]
async fn h32_no_bytes_and_dripped_bytes() {
    let world = World::start().await;
    let config =
        AcceptorConfig { handshake_timeout: Duration::from_millis(300), ..AcceptorConfig::default() };
    let server = world.server(config).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let mut dripping = TcpStream::connect(server.addr).await.unwrap();
    dripping.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    for io in [&mut silent, &mut dripping] {
        let local = io.local_addr().unwrap();
        let read = soon("closed", io.read(&mut [0])).await;
        assert!(matches!(read, Ok(0) | Err(_)));
        let line = crate::logs::line(&format!("addr={local} ")).await;
        assert!(line.contains("reason=\"timeout\""), "{line}");
    }
    assert!((server.refused(RefuseReason::Timeout) - 2.0).abs() < f64::EPSILON);
    assert!(server.peers.lock().is_empty());
}

#[tokio::test]
async fn h33_split_client_hello() {
    let (world, server) = world().await;
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let config = Arc::new(own(&world, |_| {}).config());
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(config).connect(name, Dribble(tcp)).await.expect("many segments are good");
    until("accepted", || server.peers.lock().len() == 1).await;
}

#[tokio::test]
async fn h34_host_that_the_svid_does_not_have() {
    let (world, server) = world().await;
    let connector = TlsConnector::from(Arc::new(own(&world, |_| {}).config()));
    for _ in 0..2 {
        let tcp = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from("h34.unknown.example").unwrap();
        ping(&mut connector.connect(name, tcp).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.peers.lock()[0].sni.as_deref(), Some("h34.unknown.example"));
    let counted = sample(&server.registry, "sni_not_in_svid_total", "component", "acceptor");
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
    let line = crate::logs::line("h34.unknown.example").await;
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(crate::logs::lines("h34.unknown.example").len(), 1, "one line for a host");
}

#[tokio::test]
async fn h35_own_svid_expired() {
    let (world, server) = world().await;
    assert!(server.identity.health().is_ready());
    world.clock.shift(7200);
    // The client's certificate is good at the shifted time; only ours has run out.
    refused(&server, "H35", RefuseReason::NoServerSvid, own(&world, |_| {})).await;
    let health = server.identity.health();
    assert!(!health.is_ready() && health.is_live() && !health.svid_held, "{health:?}");
    let connector = Connector::new(server.identity.clone(), ServerCheck::default());
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    assert!(matches!(connector.connect(tcp, HOST).await, Err(ConnectError::OwnSvidInvalid)));
    world.server_api.rotate();
    until("ready again", || server.identity.health().is_ready()).await;
    accepted(&server, "afterwards", own(&world, |_| {})).await;
}

/// Sends seven bytes at a time.
struct Dribble(TcpStream);

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(7)])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
