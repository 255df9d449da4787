//! The acceptor beside the matrix: what it tells of a peer, its caps, its alerts.

use crate::minting::*;
use crate::support::*;
use dir_identity::{AcceptorConfig, RefuseReason};

#[tokio::test]
async fn a_peer_is_what_its_certificate_says() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    accepted(&server, "good", mint(&world, OWN, CLIENT_ID, |_| {})).await;
    let peer = server.peers.lock()[0].clone();
    assert_eq!(peer.principal.spiffe_id().unwrap().as_str(), CLIENT_ID);
    assert_eq!(peer.sni.as_deref(), Some(HOST));
    assert_eq!(peer.tls_version, "TLSv1.3");
    assert_eq!(peer.serial.len(), 32);
    assert!(peer.not_before.unwrap() < peer.opened_at && peer.opened_at < peer.not_after.unwrap());
    assert!(server.refused_in_all().abs() < f64::EPSILON);
}

#[tokio::test]
async fn g_caps_hold_at_their_edge_and_places_come_back() {
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
        let open = || sample(&server.registry, "peer_connections", "trust_domain", OWN);
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
