//! What is said, and with which exit code, when it does not work.

use crate::node::{Node, cid, nobody, record, run};
use tokio::net::TcpListener;

#[tokio::test]
async fn nobody_listens() {
    let (_held, address) = nobody();
    let ran = run(&[], &["health", "--server-addr", &address], b"").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
    assert_eq!(
        ran.stderr,
        format!(
            "error: connect to {address} (from --server-addr): connection refused\n  next: check that the server \
             runs and listens on that address and port\n"
        )
    );
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", address.as_str())];
    let ran = run(&env, &["push", "-"], record("a").as_bytes()).await;
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("(from $DIRECTORY_CLIENT_SERVER_ADDRESS): connection refused"), "{ran:?}");
    assert!(ran.stderr.ends_with("stored 0 documents; the rest was not tried\n"), "{ran:?}");
    // A flag wins over the environment.
    let ran = run(&env, &["health", "--server-addr", "unix:///nowhere/s"], b"").await;
    assert!(
        ran.stderr.contains("unix:///nowhere/s (from --server-addr): there is no such socket"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn unknown_host() {
    // Longer than a label may be: no resolver is asked.
    let host = format!("{}.invalid", "x".repeat(64));
    let ran = run(&[], &["search", "--server-addr", &format!("{host}:1")], b"").await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains(&format!("the name {host} does not resolve")), "{ran:?}");
}

#[tokio::test]
async fn silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = run(&[], &["health", "--server-addr", &address, "--timeout", "200ms"], b"").await;
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(ran.stderr.contains("within 200 ms"), "{ran:?}");
    assert!(ran.stderr.contains("--timeout"), "{ran:?}");
}

#[tokio::test]
async fn wrong_usage() {
    let missing = cid("{}");
    for args in [
        &["pull"][..],
        &["pull", ""],
        &["delete", "x"],
        &["pull", &missing, "--stdin"],
        &["push"],
        &["push", "/nowhere"],
        &["search", "--filter", "x=y"],
        &["search", "--filter", "name"],
        &["search", "--count", "--limit", "3"],
        &["search", "--verified", "maybe", "--count"],
        &["search", "--scan-safe", "TRUE"],
        &["search", "--filter", "trusted=yes"],
        &["health", "--auth-mode", "quantum"],
        &["health", "--timeout", "soon"],
        &["health", "--json", "--output", "yaml"],
        &["fly"],
    ] {
        let ran = run(&[], args, b"").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {ran:?}");
    }
    let ran = run(&[], &["health", "--auth-mode", "quantum"], b"").await;
    assert!(ran.stderr.contains("unsupported auth mode: quantum"), "{ran:?}");
}

#[tokio::test]
async fn wrong_usage_is_told_with_what_is_right() {
    let (_held, address) = nobody();
    for (args, says) in [
        (
            &["search", "--limit", "-1"][..],
            "'-1' for '--limit <N>': write a whole number from 0 to 4294967295",
        ),
        (
            &["search", "--offset", "abc"],
            "'abc' for '--offset <N>': write a whole number from 0 to 4294967295",
        ),
        (
            &["watch", "--since", "-1"],
            "'-1' for '--since <SEQ>': write a whole number from 0 to 18446744073709551615",
        ),
        (&["health", "--timeout", "-1"], "--timeout"),
        (
            &["search", "--verified", "maybe"],
            "'maybe' for '--verified <BOOL>'\n  [possible values: true, false]",
        ),
        (&["search", "--filter", "owner-verified=maybe"], "owner-verified is true or false, not \"maybe\""),
        (&["search", "--filter", "version>=v1"], "write version=>=v1"),
        (&["resolve", "x"], "tip: `dirctl info` shows the newest record of a NAME"),
        (&["count"], "tip: `dirctl search --count` prints"),
        (&["events", "listen"], "tip: `dirctl watch` follows"),
    ] {
        let ran = run(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &address)], args, b"").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(says), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("unexpected argument"), "{args:?}: {ran:?}");
    }
}

#[tokio::test]
async fn wrong_configuration() {
    for (name, value, says) in [
        ("DIRECTORY_CLIENT_AUTH_MODE", "quantum", "unsupported auth mode: quantum"),
        ("DIRECTORY_CLIENT_AUTH_MODE", "oidc", "auth mode oidc is not available in this build"),
        ("DIRECTORY_CLIENT_AUTH_MODE", "x509", "no Workload API socket is named"),
        ("DIRECTORY_CLIENT_AUTH_MODE", "tls", "no authority (CA) file is named"),
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", "ftp://x", "unknown scheme \"ftp\""),
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", "https://x", "asks for TLS, but no auth mode with TLS is set"),
        ("DIRECTORY_CLIENT_TIMEOUT", "0", "out of range"),
        ("DIRECTORY_CLIENT_AUTH_TOKEN", "secret", "OIDC is not available in this build"),
    ] {
        let ran = run(&[(name, value)], &["health"], b"").await;
        assert_eq!(ran.code, Some(4), "{name}={value}: {ran:?}");
        assert!(ran.stderr.contains(says), "{name}={value}: {ran:?}");
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_service_that_the_server_does_not_know() {
    let node = Node::plain().await;
    let ran = node.dirctl(&["health", "--service", "agntcy.dir.store.v1.Store"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("knows no service \"agntcy.dir.store.v1.Store\""), "{ran:?}");
    assert!(ran.stderr.contains("next: leave --service away"), "{ran:?}");
    assert_eq!(node.dirctl(&["health"]).await.code, Some(0));
}

#[tokio::test]
async fn bad_queries_come_back_with_the_server_s_words() {
    let node = Node::plain().await;
    let ran = node.dirctl(&["search", "--skill-id", "ten"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("failed to parse skill ID \"ten\""), "{ran:?}");
}

#[tokio::test]
async fn nothing_is_coloured_in_a_pipe() {
    let ran = run(&[("TERM", "xterm")], &["delete", "x"], b"").await;
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
}

#[tokio::test]
async fn a_document_that_is_too_large_names_itself() {
    let node = Node::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let large = record("large").replace("For tests.", &"x".repeat(5 << 20));
    for (name, text) in [("1.json", record("a")), ("2.json", large), ("3.json", record("b"))] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let ran = node.dirctl(&["push", dir.path().to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(10), "{ran:?}");
    assert_eq!(ran.stdout, format!("{}\n{}\n", cid(&record("a")), cid(&record("b"))));
    assert!(ran.stderr.contains("2.json: Push to "), "{ran:?}");
    assert!(ran.stderr.contains("larger than max"), "{ran:?}");
}

#[tokio::test]
async fn l_a_private_key_that_others_may_read_is_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("token.json");
    let path = key.to_str().unwrap();
    let entry = r#"[{"x509_svid": [], "private_key": "s3cret", "root_cas": []}]"#;
    std::fs::write(&key, entry).unwrap();
    let args = ["health", "--auth-mode", "token", "--spiffe-token", path, "--server-addr", "localhost:1"];
    for (mode, told) in [(0o600, false), (0o640, true), (0o644, true)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = run(&[("DIRECTORY_LOGGER_LOG_LEVEL", "DEBUG")], &args, b"").await;
        assert_eq!(ran.code, Some(4), "{ran:?}");
        let line =
            format!("the private key in {path} can be read by others (mode {mode:o}): chmod 600 {path}");
        assert_eq!(ran.stderr.contains(&line), told, "{ran:?}");
        assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    }
}
