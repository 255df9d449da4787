//! The accept and refuse matrix. Every refusal is asserted by its reason and by "no connection came out".

use crate::support::*;
use dir_core::{Clock, SpiffeId, Timestamp};
use dir_identity::devapi::{Authority, ChainForm, svid_params};
use dir_identity::{AcceptorConfig, ConnectError, Connector, MinVersion, RefuseReason, ServerCheck};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::ServerName;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Change = Box<dyn FnOnce(&mut CertificateParams)>;

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

fn in_secs(clock: &TestClock, secs: i64) -> Timestamp {
    Timestamp(clock.now().0 + secs * 1000)
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.secs()).unwrap()
}

/// A good client leaf of a trust domain, changed at will, signed by that domain's CA.
fn mint(world: &World, signer: &str, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Crooked {
    let authority = world.server_api.authority(signer).unwrap();
    mint_by(&authority, world, id, change)
}

fn mint_by(
    authority: &Authority,
    world: &World,
    id: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Crooked {
    let id: SpiffeId = id.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = svid_params(&id, &[], world.clock.now(), in_secs(&world.clock, 600)).unwrap();
    change(&mut params);
    let mut chain = vec![authority.sign(&params, &key).unwrap()];
    chain.extend(authority.intermediates().iter().cloned());
    Crooked::with(chain, key.serialize_der())
}

/// A leaf below an intermediate of our own making.
fn below(world: &World, intermediate: impl FnOnce(&mut CertificateParams)) -> Crooked {
    let authority = world.server_api.authority(OWN).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date(in_secs(&world.clock, -60));
    params.not_after = date(in_secs(&world.clock, 600));
    intermediate(&mut params);
    let middle = authority.sign(&params, &key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let id: SpiffeId = CLIENT_ID.parse().unwrap();
    let leaf = svid_params(&id, &[], world.clock.now(), in_secs(&world.clock, 600)).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec();
    Crooked::with(vec![leaf, middle], leaf_key.serialize_der())
}

async fn accepted(server: &Server, what: &str, client: Crooked) {
    let before = server.peers.lock().len();
    client.try_ping(server.addr).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(server.peers.lock().len(), before + 1, "{what}");
}

async fn refused(server: &Server, what: &str, reason: RefuseReason, client: Crooked) {
    let (before, all) = (server.refused(reason), server.refused_in_all());
    let peers = server.peers.lock().len();
    assert!(client.try_ping(server.addr).await.is_err(), "{what}: was let in");
    until(&format!("{what}: reason {reason}"), || server.refused_in_all() > all).await;
    let reasons: Vec<_> = RefuseReason::ALL.iter().filter(|r| server.refused(**r) > 0.0).collect();
    assert!((server.refused(reason) - before - 1.0).abs() < f64::EPSILON, "{what}: {reasons:?}");
    assert_eq!(server.peers.lock().len(), peers, "{what}: a connection came out");
}

#[tokio::test]
async fn accepts_what_is_good() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let good = |change: fn(&mut CertificateParams)| mint(&world, OWN, CLIENT_ID, change);
    accepted(&server, "H1", good(|_| {})).await;
    accepted(&server, "H2", mint(&world, PARTNER, "spiffe://partner.example/w", |_| {})).await;
    accepted(&server, "H3", below(&world, |_| {})).await;
    accepted(
        &server,
        "H4",
        good(|p| p.subject_alt_names.insert(0, SanType::DnsName(Ia5String::try_from("a.example").unwrap()))),
    )
    .await;
    accepted(&server, "H5", good(|p| p.distinguished_name = DistinguishedName::new())).await;
    accepted(&server, "H6", good(|p| p.extended_key_usages.clear())).await;
    let longest = format!("spiffe://{OWN}/{}", "x".repeat(2048 - "spiffe://example.org/".len()));
    accepted(&server, "2048 bytes", mint(&world, OWN, &longest, |_| {})).await;
    let peer = server.peers.lock()[0].clone();
    assert_eq!(peer.principal.spiffe_id().unwrap().as_str(), CLIENT_ID);
    assert_eq!(peer.sni.as_deref(), Some(HOST));
    assert_eq!(peer.tls_version, "TLSv1.3");
    assert_eq!(peer.serial.len(), 32);
    assert!(peer.not_before.unwrap() < peer.opened_at && peer.opened_at < peer.not_after.unwrap());
    assert!(server.refused_in_all().abs() < f64::EPSILON);
}

#[tokio::test]
async fn refuses_wrong_chains_and_domains() {
    use RefuseReason::{BadChain, NoClientCertificate, UnknownTrustDomain};
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    refused(&server, "H8", NoClientCertificate, Crooked::nobody()).await;
    refused(&server, "H9", BadChain, mint(&world, PARTNER, CLIENT_ID, |_| {})).await;
    let theirs = "spiffe://partner.example/w";
    refused(&server, "a partner's ID signed by our CA", BadChain, mint(&world, OWN, theirs, |_| {})).await;
    let stranger = Authority::new(
        &OWN.parse().unwrap(),
        world.clock.now(),
        Duration::from_secs(600),
        ChainForm::SelfSigned,
    );
    refused(&server, "H10", BadChain, mint_by(&stranger.unwrap(), &world, CLIENT_ID, |_| {})).await;
    refused(&server, "H11", UnknownTrustDomain, mint(&world, OWN, "spiffe://evil.example/a", |_| {})).await;
    let mut material = (*world.server_api.material()).clone();
    material.federated.insert("spiffe://empty.example".to_owned(), Vec::new());
    let before = server.identity.snapshot().generation();
    world.server_api.override_answer(Some(dir_identity::devapi::Answer::Material(Arc::new(material))));
    until("the empty bundle arrives", || server.identity.snapshot().generation() > before).await;
    refused(&server, "H12", UnknownTrustDomain, mint(&world, OWN, "spiffe://empty.example/a", |_| {})).await;
    accepted(&server, "the others are untouched", mint(&world, OWN, CLIENT_ID, |_| {})).await;

    let past = date(in_secs(&world.clock, -10));
    refused(&server, "H16 expired", BadChain, below(&world, |p| p.not_after = past)).await;
    refused(&server, "H16 not a CA", BadChain, below(&world, |p| p.is_ca = IsCa::ExplicitNoCa)).await;
    let crl_only = |p: &mut CertificateParams| p.key_usages = vec![KeyUsagePurpose::CrlSign];
    refused(&server, "H16 no keyCertSign", BadChain, below(&world, crl_only)).await;
    refused(&server, "H16 no KeyUsage", BadChain, below(&world, |p| p.key_usages.clear())).await;
    let mut headless = below(&world, |_| {});
    headless.chain.truncate(1);
    refused(&server, "an intermediate is missing", BadChain, headless).await;
    // permittedSubtrees with one URI constraint, as DER.
    let constraint = b"\x30\x11\xa0\x0f\x30\x0d\x86\x0bexample.org";
    let constrained = |p: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraint.to_vec());
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    };
    refused(&server, "H26", BadChain, below(&world, constrained)).await;
    let mut corrupt = mint(&world, OWN, CLIENT_ID, |_| {});
    corrupt.chain[0] = b"\x30\x03\x02\x01\x01".to_vec();
    refused(&server, "H31", BadChain, corrupt).await;
    let mut flipped = mint(&world, OWN, CLIENT_ID, |_| {});
    let last = flipped.chain[0].len() - 1;
    flipped.chain[0][last] ^= 1;
    refused(&server, "H31 flipped signature", BadChain, flipped).await;
    let mut stolen = mint(&world, OWN, CLIENT_ID, |_| {});
    stolen.key = KeyPair::generate().unwrap().serialize_der();
    refused(&server, "a certificate without its key", BadChain, stolen).await;
}

#[tokio::test]
async fn refuses_wrong_leaves() {
    use RefuseReason::{
        Expired, IdTooLong, LeafEku, LeafIsCa, LeafKeyUsage, MultipleUriSan, NoUriSan, NotYetValid,
        RootPathId,
    };
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let (past, future) = (date(in_secs(&world.clock, -5)), date(in_secs(&world.clock, 60)));
    let long = format!("spiffe://{OWN}/{}", "x".repeat(2049 - "spiffe://example.org/".len()));
    let rows: Vec<(&str, RefuseReason, Change)> = vec![
        ("H14", Expired, Box::new(move |p| p.not_after = past)),
        ("H15", NotYetValid, Box::new(move |p| p.not_before = future)),
        ("H17", NoUriSan, Box::new(|p| p.subject_alt_names.clear())),
        ("H18", MultipleUriSan, Box::new(|p| p.subject_alt_names.push(uri("spiffe://example.org/b")))),
        (
            "H18 with a web address",
            MultipleUriSan,
            Box::new(|p| p.subject_alt_names.push(uri("https://a/b"))),
        ),
        ("H19", NoUriSan, Box::new(|p| p.subject_alt_names = vec![uri("https://example.org/a")])),
        ("H19 port", NoUriSan, Box::new(|p| p.subject_alt_names = vec![uri("spiffe://example.org:1/a")])),
        ("H20", LeafIsCa, Box::new(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("H21 keyCertSign", LeafKeyUsage, Box::new(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("H21 cRLSign", LeafKeyUsage, Box::new(|p| p.key_usages.push(KeyUsagePurpose::CrlSign))),
        ("H22 none", LeafKeyUsage, Box::new(|p| p.key_usages.clear())),
        ("H22", LeafKeyUsage, Box::new(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment])),
        ("H23", LeafEku, Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("H23 any", LeafEku, Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])),
        ("H24", RootPathId, Box::new(|p| p.subject_alt_names = vec![uri("spiffe://example.org")])),
        ("H25", IdTooLong, Box::new(move |p| p.subject_alt_names = vec![uri(&long)])),
    ];
    for (what, reason, change) in rows {
        refused(&server, what, reason, mint(&world, OWN, CLIENT_ID, change)).await;
    }
    accepted(&server, "afterwards", mint(&world, OWN, CLIENT_ID, |_| {})).await;
}

#[tokio::test]
async fn protocol_rules() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let good = mint(&world, OWN, CLIENT_ID, |_| {});
    let old = Crooked { versions: TLS12, ..good.clone() };
    refused(&server, "H27", RefuseReason::Protocol, old.clone()).await;
    refused(&server, "H29 none", RefuseReason::Alpn, Crooked { alpn: vec![], ..good.clone() }).await;
    refused(&server, "H29 other", RefuseReason::Alpn, Crooked { alpn: vec![b"http/1.1"], ..good.clone() })
        .await;
    accepted(&server, "both offered", Crooked { alpn: vec![b"http/1.1", b"h2"], ..good.clone() }).await;

    let lenient = AcceptorConfig { min_version: MinVersion::Tls12, ..AcceptorConfig::default() };
    let server = world.server(lenient).await;
    accepted(&server, "H27 allowed", old.clone()).await;
    assert_eq!(server.peers.lock()[0].tls_version, "TLSv1.2");
    refused(
        &server,
        "H8 in 1.2",
        RefuseReason::NoClientCertificate,
        Crooked { versions: TLS12, ..Crooked::nobody() },
    )
    .await;
    let forged = Crooked { versions: TLS12, ..mint(&world, PARTNER, CLIENT_ID, |_| {}) };
    refused(&server, "H9 in 1.2", RefuseReason::BadChain, forged).await;
    accepted(&server, "1.3 still", good).await;
}

#[tokio::test]
async fn policy_may_exclude_a_domain_at_the_door() {
    let world = World::start().await;
    let config = AcceptorConfig {
        domain_allowed: Some(Arc::new(|domain| domain.as_str() == OWN)),
        ..AcceptorConfig::default()
    };
    let server = world.server(config).await;
    let partner = mint(&world, PARTNER, "spiffe://partner.example/w", |_| {});
    refused(&server, "H13", RefuseReason::DomainNotAllowed, partner).await;
    accepted(&server, "own", mint(&world, OWN, CLIENT_ID, |_| {})).await;
}

#[tokio::test]
async fn no_ticket_no_resumption_no_early_data() {
    let world = World::start().await;
    let server =
        world.server(AcceptorConfig { min_version: MinVersion::Tls12, ..AcceptorConfig::default() }).await;
    for versions in [TLS13, TLS12] {
        let mut config = Crooked { versions, ..mint(&world, OWN, CLIENT_ID, |_| {}) }.config();
        config.enable_early_data = true;
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..3 {
            let tcp = TcpStream::connect(server.addr).await.unwrap();
            let mut io = connector.connect(ServerName::try_from(HOST).unwrap(), tcp).await.unwrap();
            ping(&mut io).await.unwrap();
            let tls = io.get_ref().1;
            assert_eq!(tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
            assert_eq!(tls.tls13_tickets_received(), 0);
            assert!(!tls.is_early_data_accepted());
        }
    }
}

#[tokio::test]
async fn expired_own_svid_refuses_all() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    assert!(server.identity.health().is_ready());
    world.clock.shift(7200);
    // The client's certificate is good at the shifted time; only ours has run out.
    refused(&server, "H35", RefuseReason::NoServerSvid, mint(&world, OWN, CLIENT_ID, |_| {})).await;
    let health = server.identity.health();
    assert!(!health.is_ready() && health.is_live() && !health.svid_held, "{health:?}");
    let connector = Connector::new(server.identity.clone(), ServerCheck::default());
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    assert!(matches!(connector.connect(tcp, HOST).await, Err(ConnectError::OwnSvidInvalid)));
    world.server_api.rotate();
    until("ready again", || server.identity.health().is_ready()).await;
    accepted(&server, "afterwards", mint(&world, OWN, CLIENT_ID, |_| {})).await;
}

#[tokio::test]
async fn silent_and_slow_clients() {
    let world = World::start().await;
    let config =
        AcceptorConfig { handshake_timeout: Duration::from_millis(300), ..AcceptorConfig::default() };
    let server = world.server(config).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let mut byte = [0];
    let read = soon("H32: closed", silent.read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    until("H32", || server.refused(RefuseReason::Timeout) > 0.5).await;

    let server = world.server(AcceptorConfig::default()).await;
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let config = Arc::new(mint(&world, OWN, CLIENT_ID, |_| {}).config());
    let name = ServerName::try_from("unknown.example").unwrap();
    let io = TlsConnector::from(config).connect(name, Dribble(tcp)).await;
    assert!(io.is_ok(), "H33: a ClientHello in many segments is good");
    until("H34", || sample(&server.registry, "sni_not_in_svid_total", "component", "acceptor") > 0.5).await;
    assert_eq!(server.peers.lock()[0].sni.as_deref(), Some("unknown.example"));
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

#[tokio::test]
async fn caps_hold_at_their_edge_and_places_come_back() {
    let world = World::start().await;
    let one = mint(&world, OWN, CLIENT_ID, |_| {});
    let other = mint(&world, OWN, "spiffe://example.org/other", |_| {});
    for (config, reason) in [
        (AcceptorConfig { max_total: 2, ..AcceptorConfig::default() }, RefuseReason::LimitTotal),
        (AcceptorConfig { max_per_ip: 2, ..AcceptorConfig::default() }, RefuseReason::LimitPerIp),
        (AcceptorConfig { max_per_identity: 2, ..AcceptorConfig::default() }, RefuseReason::LimitPerIdentity),
    ] {
        let server = world.server(config).await;
        let first = one.try_ping(server.addr).await.unwrap();
        let _second = one.try_ping(server.addr).await.unwrap();
        refused(&server, "the third", reason, one.clone()).await;
        if reason == RefuseReason::LimitPerIdentity {
            other.try_ping(server.addr).await.unwrap();
        }
        drop(first);
        let open = || sample(&server.registry, "connections", "state", "open");
        until("the place comes back", || open() < 1.5).await;
        accepted(&server, "afterwards", one.clone()).await;
    }
}

#[tokio::test]
async fn alerts_tell_the_client_what_they_may() {
    use rustls::AlertDescription as Alert;
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let past = date(in_secs(&world.clock, -5));
    for (what, alert, client) in [
        ("none", Alert::CertificateRequired, Crooked::nobody()),
        ("expired", Alert::CertificateExpired, mint(&world, OWN, CLIENT_ID, |p| p.not_after = past)),
        ("issuer", Alert::UnknownCA, mint(&world, PARTNER, CLIENT_ID, |_| {})),
        ("domain", Alert::HandshakeFailure, mint(&world, OWN, "spiffe://evil.example/a", |_| {})),
        ("no ID", Alert::HandshakeFailure, mint(&world, OWN, CLIENT_ID, |p| p.subject_alt_names.clear())),
    ] {
        let error = client.try_ping(server.addr).await.unwrap_err();
        let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        assert_eq!(tls, Some(&rustls::Error::AlertReceived(alert)), "{what}");
    }
}
