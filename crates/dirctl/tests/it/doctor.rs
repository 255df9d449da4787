//! `dirctl doctor`: what a client can see of its own side.

use crate::node::{Node, Ran, nobody, run, workload_api};
use std::os::unix::fs::PermissionsExt;

async fn doctor(env: &[(&str, &str)], args: &[&str]) -> Ran {
    run(env, &[&["doctor", "--json"], args].concat(), b"").await
}

/// State and text of a check.
fn check(ran: &Ran, name: &str) -> (String, String) {
    let document = ran.json();
    let found = document["checks"].as_array().unwrap().iter().find(|c| c["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name}: {document}"));
    let state = found["state"].as_str().unwrap().to_owned();
    assert_eq!(["fault", "warning"].contains(&&*state), found["next"].is_string(), "{found}");
    (state, found["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn all_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let socket = api.socket_uri();
    let node = Node::x509(socket.clone()).await;
    let env = [
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str()),
        ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
        ("SPIFFE_ENDPOINT_SOCKET", socket.as_str()),
    ];
    let ran = doctor(&env, &[]).await;
    assert_eq!((ran.code, &ran.json()["healthy"]), (Some(0), &true.into()), "{ran:?}");
    for name in ["profile", "settings", "socket", "dns", "svid", "bundles", "clock", "server", "skew"] {
        assert_eq!(check(&ran, name).0, "ok", "{name}: {ran:?}");
    }
    assert!(check(&ran, "svid").1.starts_with("spiffe://example.org/node, until "), "{ran:?}");
    assert_eq!(check(&ran, "bundles").1, "example.org (1 authorities)");
    let offline = doctor(&env, &["--offline"]).await;
    assert_eq!((offline.code, check(&offline, "server").0), (Some(0), "skipped".into()));
    let human = run(&env, &["doctor"], b"").await.good();
    assert!(human.lines().any(|l| l.starts_with("svid         ok        spiffe://")), "{human}");
}

#[tokio::test]
async fn plaintext_needs_little() {
    let node = Node::plain().await;
    let ran = doctor(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &node.address)], &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!((check(&ran, "socket").0, check(&ran, "svid").0), ("skipped".into(), "skipped".into()));
    assert_eq!(check(&ran, "server").0, "ok");
}

#[tokio::test]
async fn faults_of_the_workload_api() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("file"), "").unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("dead.sock")).unwrap());
    let silent = std::os::unix::net::UnixListener::bind(path("silent.sock")).unwrap();
    let at = async |socket: &str| {
        let env = [("DIRECTORY_CLIENT_AUTH_MODE", "x509"), ("SPIFFE_ENDPOINT_SOCKET", socket)];
        doctor(&env, &["--offline", "--timeout", "500ms"]).await
    };
    for (name, says) in
        [("absent.sock", "does not exist"), ("file", "is no socket"), ("dead.sock", "Connection refused")]
    {
        let ran = at(&format!("unix://{}", path(name))).await;
        assert_eq!(ran.code, Some(6), "{ran:?}");
        let (state, detail) = check(&ran, "socket");
        assert!(state == "fault" && detail.contains(says), "{detail}");
        assert_eq!(check(&ran, "svid").0, "fault");
        assert_eq!(ran.stderr, "", "everything is in the report");
    }
    // It takes connections and does not speak.
    let ran = at(&path("silent.sock")).await;
    assert_eq!((ran.code, check(&ran, "socket").0), (Some(6), "ok".into()), "{ran:?}");
    assert_eq!(check(&ran, "svid").0, "fault");
    drop(silent);
    let none = doctor(&[("DIRECTORY_CLIENT_AUTH_MODE", "x509")], &["--offline"]).await;
    assert_eq!((none.code, check(&none, "socket").0), (Some(4), "fault".into()));
}

#[tokio::test]
async fn faults_of_settings_and_server() {
    let ran = doctor(&[("DIRECTORY_CLIENT_AUTH_MODE", "quantum")], &[]).await;
    assert_eq!((ran.code, check(&ran, "settings").0), (Some(4), "fault".into()));
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dirctl");
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("config.yaml");
    std::fs::write(&file, "contexts: {a: {sever: x}}").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let env = [("XDG_CONFIG_HOME", home.path().to_str().unwrap())];
    let ran = doctor(&env, &["--profile", "a", "--offline"]).await;
    assert_eq!((check(&ran, "profile").0, check(&ran, "profiles").0), ("warning".into(), "warning".into()));
    let ran = doctor(&env, &["--profile", "b", "--offline"]).await;
    assert_eq!((ran.code, check(&ran, "profile").0), (Some(4), "fault".into()));

    let host = format!("{}.invalid:1", "x".repeat(64));
    let ran = doctor(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &host)], &[]).await;
    assert_eq!((ran.code, check(&ran, "dns").0), (Some(3), "fault".into()));
    let (_held, address) = nobody();
    let ran = doctor(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &address)], &[]).await;
    assert_eq!((ran.code, check(&ran, "server").0), (Some(3), "fault".into()), "{ran:?}");
}
