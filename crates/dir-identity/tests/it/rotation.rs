//! New SVIDs and CAs under load: nothing fails, nothing is dropped.

use crate::support::{World, dial, ping, sample, soon, until};
use dir_identity::AcceptorConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_rotations_fail_no_handshake_and_drop_no_connection() {
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
        let before = server.identity.snapshot().generation();
        if round % 4 == 3 {
            // Everybody knows the new root before anything is signed by it: the order in which SPIRE does it.
            let client_before = client.snapshot().generation();
            assert!(world.server_api.rotate_ca(crate::support::OWN));
            until("the server knows the new root", || server.identity.snapshot().generation() > before).await;
            until("the client knows it", || client.snapshot().generation() > client_before).await;
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
async fn unchanged_content_is_no_rotation() {
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
