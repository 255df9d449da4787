//! The life of a connection and of the node's own identity, through the real binary. The names of the tests carry
//! the ids of the acceptance catalogue.

use crate::agent::{LONG, OWN, PARTNER, agent, args, bare, config, domain, flags};
use crate::client::{push, record, secure};
use crate::node::{Node, get, until};
use crate::raw::{LISTEN, UNAUTHENTICATED, UNAVAILABLE, Wire, connector, soon};
use dir_core::Clock;
use dir_identity::devapi::DevWorkloadApi;
use dir_runtime::SystemClock;
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// A connection whose trust is withdrawn is closed this soon.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// A sample of the metrics page.
fn sample(ops: u16, wanted: &[&str]) -> Option<f64> {
    let (_, page) = get(ops, "/metrics")?;
    let line = page.lines().find(|l| wanted.iter().all(|w| l.contains(w)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Server, its own clients and those of a partner: three sockets over one set of CAs.
struct Federation {
    server: DevWorkloadApi,
    own: DevWorkloadApi,
    partner: DevWorkloadApi,
}

async fn federation(dir: &Path) -> Federation {
    let server = config(dir, "s", vec![domain(OWN, "node", &[PARTNER]), bare(PARTNER)], LONG);
    let server = DevWorkloadApi::start(server, Arc::new(SystemClock)).await.unwrap();
    let own = config(dir, "o", vec![domain(OWN, "client", &[])], LONG);
    let partner = config(dir, "p", vec![domain(PARTNER, "client", &[OWN]), bare(OWN)], LONG);
    let (own, partner) = (server.beside(own).await.unwrap(), server.beside(partner).await.unwrap());
    Federation { server, own, partner }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_defederation_ends_the_partners_streams_within_five_seconds_and_nobody_elses() {
    let home = tempdir().unwrap();
    let world = federation(home.path()).await;
    let mut node = Node::start(home.path(), &args(&flags(&world.server.socket_uri(), &[])));
    let (port, ops) = (node.grpc(), node.ops());
    let ((_, ours), (_, theirs)) =
        (connector(&world.own.socket_uri()).await, connector(&world.partner.socket_uri()).await);
    let mut kept = Wire::dial(&ours, port).await.unwrap();
    let untouched = tokio::spawn(kept.open(LISTEN).await.unwrap().end());
    let mut partner = Wire::dial(&theirs, port).await.unwrap();
    let stream = partner.open(LISTEN).await.unwrap();

    let begun = Instant::now();
    world.server.federate(OWN, &[]);
    let (code, message) = soon("the end of the stream", stream.end()).await.unwrap();
    assert_eq!((code.as_str(), message.as_str()), (UNAUTHENTICATED, "identity no longer trusted"));
    let _ = soon("the end of the connection", &mut partner.closed).await;
    assert!(begun.elapsed() < REVOKED_WITHIN, "{:?}", begun.elapsed());
    until("the time is measured", || {
        sample(ops, &["revocation_to_close_seconds_count"]).filter(|n| *n >= 1.0)
    });
    let slowest = sample(ops, &["revocation_to_close_seconds_sum"]).unwrap();
    assert!(slowest < REVOKED_WITHIN.as_secs_f64(), "{slowest}");
    assert_eq!(sample(ops, &["drained_total{", "\"revoked\""]), Some(1.0));

    // Refused at the door, with the reason.
    let refused = async {
        let mut wire = Wire::dial(&theirs, port).await?;
        wire.open(LISTEN).await.map(drop)
    };
    assert!(refused.await.is_err());
    let line = node.wait_line("connection refused");
    assert_eq!(line["reason"], "unknown_trust_domain");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("no bundle for trust domain b.internal"), "{line}");

    // Nobody else noticed, and the way back needs no restart.
    assert!(!untouched.is_finished() && !kept.closed.is_finished());
    kept.open(LISTEN).await.unwrap();
    world.server.federate(OWN, &[PARTNER]);
    let mut again = None;
    while again.is_none() {
        assert!(begun.elapsed() < crate::node::PATIENCE, "not federated again");
        if let Ok(mut wire) = Wire::dial(&theirs, port).await {
            again = wire.open(LISTEN).await.ok();
        }
    }
    assert!(!untouched.is_finished());
    untouched.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn e_a_connection_is_told_before_and_ends_with_an_svid_of_twenty_seconds() {
    let home = tempdir().unwrap();
    let server = agent(home.path(), LONG).await;
    let short = config(home.path(), "c", vec![domain(OWN, "client", &[])], Duration::from_secs(20));
    let client = server.beside(short).await.unwrap();
    let mut node = Node::start(home.path(), &args(&flags(&server.socket_uri(), &[])));
    let port = node.grpc();
    let (identity, connector) = connector(&client.socket_uri()).await;
    let mut wire = Wire::dial(&connector, port).await.unwrap();
    let not_after = identity.snapshot().leaf().not_after;
    let left = || not_after.0 - SystemClock.now().0;
    let stream = tokio::spawn(wire.open(LISTEN).await.unwrap().end());

    wire.goaway().await;
    let early = left();
    assert!(early > 0, "GOAWAY came {} ms after the end of the SVID", -early);
    assert!(!stream.is_finished(), "the open stream goes on inside its grace");
    let (code, message) = soon("the end of the stream", stream).await.unwrap().unwrap();
    assert_eq!((code.as_str(), message.as_str()), (UNAUTHENTICATED, "identity expired"));
    let _ = soon("the end of the connection", &mut wire.closed).await;
    // At the end at the latest; what is allowed beyond it is this process being told.
    assert!(left() > -2000, "{} ms after the end of the SVID", -left());
    assert_eq!(sample(node.ops(), &["drained_total{", "\"expiry\""]), Some(1.0));

    assert!(identity.snapshot().leaf().not_after > not_after, "the client was given a fresh SVID meanwhile");
    let mut fresh = Wire::dial(&connector, port).await.unwrap();
    fresh.open(LISTEN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn n5_streams_end_first_and_the_spiffe_source_is_closed_last() {
    let home = tempdir().unwrap();
    let api = agent(home.path(), LONG).await;
    let mut node = Node::start(home.path(), &args(&flags(&api.socket_uri(), &["shutdown.grace=1s"])));
    let (_, connector) = connector(&api.socket_uri()).await;
    let mut wire = Wire::dial(&connector, node.grpc()).await.unwrap();
    let pull = wire.open(LISTEN).await.unwrap();
    node.signal(Signal::SIGTERM);
    let (code, message) = soon("the end of the stream", pull.end()).await.unwrap();
    assert_eq!((code.as_str(), message.as_str()), (UNAVAILABLE, "connection draining"));
    assert_eq!(node.wait(), Some(0), "{}", node.errors());
    let log = node.log();
    let at =
        |step: &str| log.find(&format!("\"step\":\"{step}\"")).unwrap_or_else(|| panic!("{step}: {log}"));
    let steps = ["load-balancer-wait", "connections", "jobs", "commits", "index", "store", "identity", "ops"];
    assert!(steps.map(at).is_sorted(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn n7_an_svid_that_expires_makes_the_node_not_ready_and_refuses_handshakes_and_kills_nothing() {
    let home = tempdir().unwrap();
    // Ten seconds for the server, which then loses its agent; the clients have all the time in the world.
    let server = agent(home.path(), Duration::from_secs(10)).await;
    let clients = config(home.path(), "c", vec![domain(OWN, "client", &[])], LONG);
    let clients = server.beside(clients).await.unwrap();
    let mut node = Node::start(home.path(), &args(&flags(&server.socket_uri(), &[])));
    let (port, ops) = (node.grpc(), node.ops());
    let (_, connector) = connector(&clients.socket_uri()).await;
    let channel = secure(port, &clients.socket_uri()).await;
    push(&channel, vec![record("before")]).await.unwrap();
    server.vanish().await;
    // The agent alone is no reason: it serves until the SVID comes to its end.
    node.wait_line("lost the Workload API");
    assert_eq!(get(ops, "/readyz").unwrap().0, 200, "{}", node.log());
    let health = until("degraded", || {
        get(ops, "/healthz").map(|(_, h)| h).filter(|h| h.contains("the SPIFFE agent is gone"))
    });
    assert!(health.contains("\"ready\":true"), "{health}");
    let reason = until("not ready before the end", || {
        get(ops, "/readyz").filter(|(code, _)| *code == 503).map(|(_, reason)| reason)
    });
    assert!(reason.contains("svid: the SVID"), "{reason}");
    until("expired", || {
        get(ops, "/readyz").filter(|(_, reason)| reason.contains("the SVID is not valid (expires in -"))
    });
    assert_eq!(get(ops, "/livez").unwrap().0, 200, "a restart would not help");
    let refused = async {
        let mut wire = Wire::dial(&connector, port).await?;
        wire.open(LISTEN).await.map(drop)
    };
    assert!(refused.await.is_err());
    assert_eq!(node.wait_line("connection refused")["reason"], "no_server_svid");
    // The connection that stood keeps standing: it is bound to the peer's SVID, not to ours.
    push(&channel, vec![record("after")]).await.unwrap();

    server.appear().await.unwrap();
    node.ready();
    Wire::dial(&connector, port).await.unwrap().open(LISTEN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p_an_agent_that_is_gone_changes_nothing_and_one_that_refuses_makes_the_node_not_ready() {
    let home = tempdir().unwrap();
    let server = agent(home.path(), LONG).await;
    let clients = config(home.path(), "c", vec![domain(OWN, "client", &[])], LONG);
    let clients = server.beside(clients).await.unwrap();
    let mut node = Node::start(home.path(), &args(&flags(&server.socket_uri(), &[])));
    let (port, ops) = (node.grpc(), node.ops());
    let (_, connector) = connector(&clients.socket_uri()).await;
    server.vanish().await;
    node.wait_line("lost the Workload API");
    Wire::dial(&connector, port).await.unwrap().open(LISTEN).await.unwrap();
    assert_eq!(get(ops, "/readyz").unwrap().0, 200);

    server.override_answer(Some(dir_identity::devapi::Answer::Deny));
    server.appear().await.unwrap();
    let (_, reason) = until("not ready", || get(ops, "/readyz").filter(|(code, _)| *code == 503));
    assert!(reason.contains("no longer issues an identity"), "{reason}");
    assert_eq!(get(ops, "/livez").unwrap().0, 200);
    assert_eq!(node.wait_line("the agent has withdrawn our identity")["level"], "WARN");
    assert!(sample(ops, &["identity_updates_rejected_total{", "withdrawn"]).unwrap() >= 1.0);
    server.override_answer(None);
    node.ready();
}
