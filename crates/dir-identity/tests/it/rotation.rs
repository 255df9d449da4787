//! New SVIDs and CAs under load: nothing fails, nothing is dropped.

use crate::support::{HOST, OWN, World, dial, ping, sample, soon, until};
use dir_identity::AcceptorConfig;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_forty_rotations_fail_no_handshake_and_drop_no_connection() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig { max_per_ip: 0, ..AcceptorConfig::default() }).await;
    let client = world.identity(&world.client_api, &prometheus::Registry::new()).await;
    let connector = dir_identity::Connector::new(client.clone(), dir_identity::ServerCheck::default());
    let mut old = dial(&connector, &server).await;
    let done = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicUsize::new(0));
    // Fresh connections without pause.
    let (d, m, c, addr) = (done.clone(), made.clone(), connector.clone(), server.addr);
    let dialler = tokio::spawn(async move {
        let mut failures = Vec::new();
        while !d.load(Ordering::SeqCst) {
            let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
            match c.connect(tcp, crate::support::HOST).await {
                Ok(mut io) => {
                    if let Err(e) = ping(&mut io).await {
                        failures.push(e.to_string());
                    }
                }
                Err(e) => failures.push(e.to_string()),
            }
            m.fetch_add(1, Ordering::SeqCst);
        }
        failures
    });
    let first = server.identity.snapshot().leaf().serial.clone();
    for round in 0..40 {
        if round % 4 == 3 {
            // Everybody knows the new root before anything is signed by it: the order in which SPIRE does it.
            let known = |identity: &dir_identity::Identity| {
                identity.snapshot().bundles().get(&OWN.parse().unwrap()).map_or(0, |bundle| bundle.len())
            };
            let before = known(&server.identity);
            assert!(world.server_api.rotate_ca(OWN));
            until("the server knows the new root", || known(&server.identity) > before).await;
            until("the client knows it", || known(&client) > before).await;
        }
        let before = server.identity.snapshot().leaf().serial.clone();
        world.server_api.rotate();
        world.client_api.rotate();
        until("the new SVID is used", || server.identity.snapshot().leaf().serial != before).await;
        soon("the old connection works", ping(&mut old)).await.unwrap();
        let at = made.load(Ordering::SeqCst);
        until("fresh connections go on", || made.load(Ordering::SeqCst) > at).await;
    }
    done.store(true, Ordering::SeqCst);
    let failures = dialler.await.unwrap();
    assert!(failures.is_empty(), "{} of {}: {failures:?}", failures.len(), made.load(Ordering::SeqCst));
    assert!((server.refused_in_all()).abs() < f64::EPSILON);
    assert_ne!(server.identity.snapshot().leaf().serial, first);
    assert!(sample(&server.registry, "svid_rotations_total", "trust_domain", "example.org") >= 40.0);
    // Nobody whose root is still in the bundle was revoked.
    assert!(sample(&server.registry, "revoked_connections_total", "trust_domain", "example.org").abs() < 0.5);
}

#[tokio::test]
async fn c_unchanged_content_is_no_rotation() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let generation = server.identity.snapshot().generation();
    // The same material twice more, then something new: it must be the very next generation.
    world.server_api.override_answer(None);
    world.server_api.override_answer(None);
    world.server_api.rotate();
    until("a new snapshot", || server.identity.snapshot().generation() > generation).await;
    assert_eq!(server.identity.snapshot().generation(), generation + 1);
    let rotations = sample(&server.registry, "svid_rotations_total", "trust_domain", "example.org");
    assert!((rotations - 1.0).abs() < f64::EPSILON, "{rotations}");
}

#[tokio::test]
async fn c_a_handshake_is_judged_by_the_trust_of_its_own_moment() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let client = world.identity(&world.client_api, &prometheus::Registry::new()).await;
    // What a handshake holds that began before the root came.
    let begun = TlsConnector::from(client.snapshot().client_config());
    let connect = async || {
        let tcp = TcpStream::connect(server.addr).await.unwrap();
        begun.connect(ServerName::try_from(HOST).unwrap(), tcp).await
    };
    let serial = server.identity.snapshot().leaf().serial.clone();
    assert!(world.server_api.rotate_ca(OWN));
    until("the client knows the new root", || client.snapshot().generation() > 1).await;
    world.server_api.rotate();
    until("the server uses it", || server.identity.snapshot().leaf().serial != serial).await;
    assert!(connect().await.is_ok(), "the root arrived before the certificate did");

    // And the other way round: a root that has left is not believed by what began before.
    let stale = world.server_api.authority(OWN).unwrap();
    let before = client.snapshot().generation();
    assert!(world.client_api.rotate_ca(OWN));
    assert!(world.client_api.retire_cas(OWN));
    let roots = || client.snapshot().bundles().get(&OWN.parse().unwrap()).map_or(0, |b| b.len());
    until("only the newest root is left", || client.snapshot().generation() > before && roots() == 1).await;
    assert_ne!(stale.root(), world.server_api.authority(OWN).unwrap().root());
    assert!(connect().await.is_err(), "the server's certificate has no root any more");
}
