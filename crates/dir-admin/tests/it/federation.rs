//! `federation check`, each way it can end.

use crate::world::{ID, Node, World, run};
use std::time::Instant;
use tokio::net::{TcpListener, TcpSocket};

const LONG: i64 = 30 * 24 * 3600;
const SHORT: i64 = 12 * 3600;

#[tokio::test]
async fn a_healthy_node_makes_one_line_and_code_0() {
    let world = World::start(Node::Holds { root_left: LONG }).await;
    let ran = world.check(&[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let start = format!("federation ok: {} is {ID}, 1 bundle", world.address);
    assert!(ran.stdout.starts_with(&start), "{ran:?}");
    assert_eq!(ran.stderr, "");
}

#[tokio::test]
async fn roots_that_expire_soon_are_warned_of() {
    let world = World::start(Node::Holds { root_left: SHORT }).await;
    let ran = world.check(&["--output", "json", "--warn-root-expiry", "72h"]).await;
    assert_eq!(ran.code, Some(10), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["status"], &json["own_id"]), (&"warning".into(), &ID.into()), "{json}");
    assert_eq!(json["bundles"][0]["trust_domain"], "example.org");
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1, "{json}");
    let ran = world.check(&[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test]
async fn another_identity_than_expected_is_code_7() {
    let world = World::start(Node::Holds { root_left: LONG }).await;
    for expected in ["spiffe://example.org/other", "elsewhere.example"] {
        let ran = world.check(&["--expected-server-id", expected]).await;
        assert_eq!(ran.code, Some(7), "{ran:?}");
        assert!(ran.stdout.starts_with("federation failed: connect to "), "{ran:?}");
        assert!(ran.stderr.starts_with("next: "), "{ran:?}");
    }
}

#[tokio::test]
async fn refused_by_policy_is_code_8() {
    let world = World::start(Node::Denies).await;
    let ran = world.check(&["--output", "json"]).await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["status"], &json["kind"]), (&"failed".into(), &"denied".into()));
}

#[tokio::test]
async fn no_svid_is_code_6_and_never_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/absent.sock", dir.path().display());
    let started = Instant::now();
    let args = ["federation", "check", "--timeout", "300ms", "--spiffe-socket-path", &socket];
    let ran = run(&[], &args).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stdout.contains("socket absent"), "{ran:?} after {:?}", started.elapsed());
}

#[tokio::test]
async fn unreachable_is_code_3_and_silence_code_75() {
    let world = World::start(Node::Holds { root_left: LONG }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = world.check(&["--server-addr", &address, "--timeout", "300ms"]).await;
    assert_eq!(ran.code, Some(75), "{ran:?}");
    // Bound and never listening: refused for as long as it is kept.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap().to_string();
    let ran = world.check(&["--server-addr", &address]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains(&format!("{address} (from --server-addr): connection refused")), "{ran:?}");
}

#[tokio::test]
async fn wrong_usage_and_wrong_configuration() {
    assert_eq!(run(&[], &["federation", "check", "--warn-root-expiry", "soon"]).await.code, Some(2));
    assert_eq!(run(&[], &["federation", "check", "--auth-mode", "x"]).await.code, Some(2));
    assert_eq!(run(&[("DIRECTORY_CLIENT_AUTH_MODE", "x")], &["federation", "check"]).await.code, Some(4));
    let ran = run(&[], &["federation", "check"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stdout.contains("no Workload API socket is named"), "{ran:?}");
}

#[tokio::test]
async fn version_and_completion() {
    let ran = run(&[], &["version"]).await;
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.starts_with(&format!("dir-admin {} (", env!("CARGO_PKG_VERSION"))), "{ran:?}");
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&[], &["completion", shell]).await;
        assert!(ran.code == Some(0) && ran.stdout.contains("max-bundle-age"), "{shell}");
    }
}
