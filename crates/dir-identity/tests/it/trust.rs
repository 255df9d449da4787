//! What changes of trust do to connections, and what damaged updates do not do.

use crate::support::*;
use dir_identity::devapi::{Answer, Material};
use dir_identity::{AcceptorConfig, Connector, RefuseReason, ServerCheck};
use prometheus::Registry;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

type Damage = Box<dyn FnOnce(&mut Material)>;

fn tamper(world: &World, change: impl FnOnce(&mut Material)) {
    let mut material = (*world.server_api.material()).clone();
    change(&mut material);
    world.server_api.override_answer(Some(Answer::Material(Arc::new(material))));
}

#[tokio::test]
async fn d_defederation_ends_the_partners_connections_and_nobody_elses() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let connector = world.connector().await;
    let partner = world.identity(&world.partner_api, &Registry::new()).await;
    let theirs = Connector::new(partner, ServerCheck::TrustDomains(vec![OWN.parse().unwrap()]));
    let mut ours = dial(&connector, &server).await;
    let mut foreign = dial(&theirs, &server).await;
    ping(&mut foreign).await.unwrap();
    ping(&mut ours).await.unwrap();

    world.server_api.federate(OWN, &[]);
    let mut heard = [0; 7];
    soon("the partner is told", foreign.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"revoked");
    ping(&mut ours).await.unwrap();
    let mut refused = theirs.connect(TcpStream::connect(server.addr).await.unwrap(), HOST).await.unwrap();
    assert!(ping(&mut refused).await.is_err());
    until("the reason", || server.refused(RefuseReason::UnknownTrustDomain) > 0.5).await;
    let revoked = sample(&server.registry, "revoked_connections_total", "trust_domain", PARTNER);
    assert!((revoked - 1.0).abs() < f64::EPSILON);

    let before = server.identity.snapshot().generation();
    world.server_api.federate(OWN, &[PARTNER]);
    until("federated again", || server.identity.snapshot().generation() > before).await;
    ping(&mut dial(&theirs, &server).await).await.unwrap();
}

#[tokio::test]
async fn d_a_root_that_leaves_the_bundle_takes_its_connections_with_it() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let connector = world.connector().await;
    let mut old = dial(&connector, &server).await;
    ping(&mut old).await.unwrap();
    let before = server.identity.snapshot().leaf().serial.clone();
    assert!(world.server_api.rotate_ca(OWN));
    world.server_api.rotate();
    until("the server has moved to the new CA", || server.identity.snapshot().leaf().serial != before).await;
    ping(&mut old).await.unwrap();
    assert!(world.server_api.retire_cas(OWN));
    let mut heard = [0; 7];
    soon("the old client is told", old.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"revoked");
}

#[tokio::test]
async fn one_bad_bundle_does_not_discard_the_rest() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let snapshot = server.identity.snapshot();
    let good = snapshot.bundles().get(&PARTNER.parse().unwrap()).unwrap().digest();
    world.server_api.rotate();
    until("rotated", || server.identity.snapshot().leaf().serial != snapshot.leaf().serial).await;
    let before = server.identity.snapshot();
    world.clock.shift(100);
    tamper(&world, |material| {
        material.federated.insert(format!("spiffe://{PARTNER}"), b"junk".to_vec());
        material.federated.insert("https://nonsense".to_owned(), b"junk".to_vec());
        let root = material.svids[0].bundle.clone();
        material.federated.insert("spiffe://third.example".to_owned(), root);
    });
    let third = "third.example".parse().unwrap();
    until("the third bundle is there", || server.identity.snapshot().bundles().get(&third).is_some()).await;
    let after = server.identity.snapshot();
    assert_eq!(after.leaf().serial, before.leaf().serial);
    assert_eq!(
        after.bundles().get(&PARTNER.parse().unwrap()).unwrap().digest(),
        good,
        "the last good one stays"
    );
    assert!(sample(&server.registry, "identity_update_faults_total", "component", "workload_api") > 1.5);
    let age = |domain| sample(&server.registry, "bundle_age_seconds", "trust_domain", domain);
    assert!(age(PARTNER) >= 100.0 && age(OWN) < 50.0, "what was not readable was not received");
}

#[tokio::test]
async fn one_bad_svid_does_not_discard_the_bundles() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let before = server.identity.snapshot();
    let partner = PARTNER.parse().unwrap();
    let stranger = rcgen::KeyPair::generate().unwrap().serialize_der();
    let damages: Vec<(&str, Damage)> = vec![
        ("garbage", Box::new(|m| m.svids[0].chain = vec![b"junk".to_vec()])),
        ("another's key", Box::new(move |m| m.svids[0].key = stranger)),
        ("no key", Box::new(|m| m.svids[0].key.clear())),
    ];
    for (count, (what, damage)) in (1_u32..).zip(damages) {
        tamper(&world, |material| {
            damage(material);
            material.federated.clear();
        });
        let rejected = || sample(&server.registry, "identity_updates_rejected_total", "reason", "svid");
        until(what, || rejected() > f64::from(count) - 0.5).await;
        until("the partner's bundle goes", || server.identity.snapshot().bundles().get(&partner).is_none())
            .await;
        assert_eq!(
            server.identity.snapshot().leaf().serial,
            before.leaf().serial,
            "{what}: the last good one stays"
        );
        assert!(server.identity.health().is_ready(), "{what}");
        world.server_api.override_answer(None);
        until("the partner is back", || server.identity.snapshot().bundles().get(&partner).is_some()).await;
    }
}

#[tokio::test]
async fn n7_a_withdrawn_identity_is_not_ready_and_an_absent_agent_is() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let connector = world.connector().await;
    world.server_api.vanish().await;
    until("the loss is seen", || !server.identity.health().source_connected).await;
    assert!(server.identity.health().is_ready());
    ping(&mut dial(&connector, &server).await).await.unwrap();
    world.server_api.appear().await.unwrap();
    until("the agent is back", || server.identity.health().source_connected).await;
    assert_eq!(server.identity.snapshot().generation(), 1, "the same content again is no news");

    world.server_api.override_answer(Some(Answer::Deny));
    until("the withdrawal is seen", || server.identity.health().withdrawn).await;
    assert!(!server.identity.health().is_ready());
    assert!(server.identity.health().reason().unwrap().contains("no longer issues"));
    assert!(sample(&server.registry, "identity_updates_rejected_total", "reason", "withdrawn") > 0.5);
    world.server_api.override_answer(None);
    until("ready again", || server.identity.health().is_ready()).await;
}

#[tokio::test]
async fn what_is_reported_and_measured() {
    use dir_core::identity::IdentityStatus;
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let report = server.identity.report().unwrap();
    assert_eq!(report.id.as_str(), SERVER_ID);
    assert_eq!(report.dns_names, [HOST, "localhost"]);
    let names: Vec<_> = report.bundles.iter().map(|b| b.trust_domain.as_str()).collect();
    assert_eq!(names, [OWN, PARTNER]);
    assert!(report.bundles.iter().all(|b| b.authorities == 1 && b.source == "workload_api"));
    assert!(report.bundles.iter().all(|b| b.earliest_expiry.is_some() && b.updated_at.0 > 0));
    let left = sample(&server.registry, "svid_expiry_seconds", "trust_domain", OWN);
    assert!((3500.0..=3600.0).contains(&left), "{left}");
    for family in server.registry.gather() {
        for metric in family.get_metric() {
            assert!(!metric.get_label().is_empty(), "{} has no label", family.name());
        }
    }
    let debug = format!("{:?} {:?}", server.identity, server.identity.snapshot());
    assert!(debug.contains(SERVER_ID) && !debug.to_lowercase().contains("key"), "{debug}");
}

#[tokio::test]
async fn d_a_stopped_listener_takes_nobody_and_still_watches_over_its_connections() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let partner = world.identity(&world.partner_api, &Registry::new()).await;
    let theirs = Connector::new(partner, ServerCheck::TrustDomains(vec![OWN.parse().unwrap()]));
    let mut open = dial(&theirs, &server).await;
    ping(&mut open).await.unwrap();
    server.stop.cancel();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while TcpStream::connect(server.addr).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the port is still open");
    }
    ping(&mut open).await.unwrap();
    world.server_api.federate(OWN, &[]);
    let mut heard = [0; 7];
    soon("the partner is told", open.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"revoked");
}
