//! How a node gets its identity before it serves, and what it says while it has none. The names of the tests carry
//! the ids of the acceptance catalogue.

use crate::agent::{LONG, agent, args, flags, late};
use crate::client::{push, record, secure};
use crate::node::{Node, command, get, until};
use dir_identity::devapi::Answer;
use serde_json::Value;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::net::{TcpListener, UnixStream};

/// Everything that a node answers while it waits for its SVID.
fn waits(node: &mut Node, ops: u16) {
    assert_eq!(get(ops, "/livez").unwrap().0, 200, "alive while it waits");
    assert_eq!(get(ops, "/readyz").unwrap().0, 503, "and not ready");
    assert!(node.line("serving").is_none(), "the API port is not bound: {}", node.log());
    assert!(node.ended().is_none(), "{}", node.errors());
}

fn lines(node: &Node, message: &str) -> Vec<Value> {
    let log = node.log();
    let parsed = log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    parsed.filter(|l| l["message"].as_str().is_some_and(|m| m.starts_with(message))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a6_a_socket_that_comes_five_seconds_late_is_waited_for_without_an_api_port() {
    let home = tempdir().unwrap();
    let api = late(home.path(), LONG);
    // A port of our choice, so that "not bound" can be asked of the kernel.
    let port = dir_runtime::free_port().unwrap();
    let flags = flags(&api.socket_uri(), &[&format!("listen_address=127.0.0.1:{port}")]);
    let mut node = Node::spawn_bare(home.path(), &args(&flags), &[]);
    let ops = node.ops();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        waits(&mut node, ops);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "bound before the SVID");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, reason) = get(ops, "/readyz").unwrap();
    assert!(reason.contains("waiting for an SVID"), "{reason}");
    api.appear().await.unwrap();
    node.ready();
    let channel = secure(port, &api.socket_uri()).await;
    assert_eq!(push(&channel, vec![record("one")]).await.unwrap().len(), 1);
}

#[test]
fn a2_without_an_svid_it_ends_with_6_and_a_reason() {
    let home = tempdir().unwrap();
    let socket = format!("unix://{}", home.path().join("none.sock").display());
    let flags = flags(&socket, &["authn.startup_wait.total=3s"]);
    let mut node = Node::spawn(home.path(), &args(&flags), &[]);
    let ops = node.ops();
    waits(&mut node, ops);
    assert_eq!(node.wait(), Some(6));
    let errors = node.errors();
    let wanted = "failed to get valid X509-SVID for server (SPIRE entry may not be synced yet): failed to get valid \
                  X509-SVID after ";
    assert!(errors.contains(wanted) && errors.contains(" retries: socket absent"), "{errors}");
    let line = node.line("Failed to get valid X509-SVID for server after retries").unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().unwrap().contains("socket absent"), "{line}");
    assert!(line["max_retries"].as_u64().unwrap() >= 2, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a2b_a3_a_total_of_0_waits_and_every_ten_seconds_says_what_is_missing() {
    let home = tempdir().unwrap();
    let api = agent(home.path(), LONG).await;
    api.override_answer(Some(Answer::Deny));
    let flags = flags(&api.socket_uri(), &["authn.startup_wait.total=0s", "authn.startup_wait.max=1s"]);
    let mut node = Node::spawn(home.path(), &args(&flags), &[]);
    let ops = node.ops();
    let warned = until("two warnings", || {
        let warned = lines(&node, "Failed to get X509-SVID");
        (warned.len() >= 2).then_some(warned)
    });
    waits(&mut node, ops);
    for (line, elapsed) in warned.iter().zip([10, 20]) {
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["elapsed_s"], elapsed, "{line}");
        assert_eq!(line["socket"], api.socket_uri(), "{line}");
        let reason = line["reason"].as_str().unwrap();
        for part in ["no identity issued", "registration entry", "unix:uid:", "pid ", "className"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }
    api.override_answer(None);
    node.ready();
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_one_success_line_for_each_svid() {
    let home = tempdir().unwrap();
    let api = agent(home.path(), LONG).await;
    let mut node = Node::start(home.path(), &args(&flags(&api.socket_uri(), &[])));
    let obtained = |node: &Node| lines(node, "Successfully obtained valid X509-SVID with SPIFFE ID");
    for rotations in 1..=3 {
        api.rotate();
        until("the line of the new SVID", || (obtained(&node).len() > rotations).then_some(()));
    }
    // Handshakes print nothing.
    let channel = secure(node.grpc(), &api.socket_uri()).await;
    push(&channel, vec![record("one")]).await.unwrap();
    let mut serials: Vec<_> = obtained(&node).iter().map(|l| l["serial"].to_string()).collect();
    assert!(
        obtained(&node).iter().all(|l| l["spiffe_id"] == "spiffe://a.internal/node" && l["attempt"] == 1)
    );
    assert_eq!(lines(&node, "Successfully obtained valid X509-SVID for server").len(), 1);
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 4, "{}", node.log());
}

/// The agent on a TCP port as well.
async fn on_tcp(socket: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, socket) = (listener.local_addr().unwrap().port(), socket.to_owned());
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let mut agent = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut io, &mut agent).await });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_every_spelling_of_the_socket_but_one_with_a_host() {
    let agents = tempdir().unwrap();
    let api = agent(agents.path(), LONG).await;
    let path = agents.path().join("agent.sock");
    let port = on_tcp(&path).await;
    let path = path.display();
    for socket in [
        format!("{path}"),
        format!("unix:{path}"),
        api.socket_uri(),
        format!("tcp://127.0.0.1:{port}"),
        format!("tcp:127.0.0.1:{port}"),
    ] {
        let home = tempdir().unwrap();
        let node = Node::start(home.path(), &args(&flags(&socket, &[])));
        assert_eq!(node.stop(), Some(0), "{socket}");
    }
    for socket in ["unix://host/path", "relative/path", "tcp://localhost:1", "tcp://127.0.0.1"] {
        let home = tempdir().unwrap();
        let mut node = Node::spawn(home.path(), &args(&flags(socket, &[])), &[]);
        assert_eq!(node.wait(), Some(4), "{socket}: {}", node.errors());
        let errors = node.errors();
        let wanted = "is not unix:///abs/path, /abs/path or tcp://IP:port";
        assert!(errors.contains(wanted) && errors.contains(socket), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_public_hostname_that_the_svid_lacks_is_named() {
    let home = tempdir().unwrap();
    let api = agent(home.path(), LONG).await;
    let flags = flags(&api.socket_uri(), &["authn.public_hostnames=localhost,api.example.org"]);
    let node = Node::start(home.path(), &args(&flags));
    let warned = lines(&node, "the X509-SVID lacks a public hostname");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!((&warned[0]["level"], &warned[0]["host"]), (&"WARN".into(), &"api.example.org".into()));
}

/// How `serve` with these flags and variables ends, and what it prints.
fn refusal(settings: &[&str], vars: &[(&str, &str)]) -> (Option<i32>, String) {
    let home = tempdir().unwrap();
    let flags: Vec<_> = settings.iter().flat_map(|s| ["--set", s]).collect();
    let mut serve = command(home.path());
    serve.args(["serve", "--listen-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]);
    let output = serve.args(flags).envs(vars.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a8_what_contradicts_itself_is_refused_in_these_words() {
    let socket = "authn.socket_path=/s";
    let rows: [(&[&str], &str); 4] = [
        (&["authn.enabled=true"], "invalid authn config: socket path is required"),
        (
            &["authn.enabled=true", socket, "authn.mode=jwt"],
            "invalid authn config: at least one audience is required for JWT mode",
        ),
        (
            &["authn.enabled=true", socket, "authn.mode=oidc"],
            "invalid authn config: invalid auth mode: oidc (must be 'jwt', 'jwt-tls', or 'x509')",
        ),
        (
            &["authz.enabled=true", "authz.enforcer_policy_file_path="],
            "invalid authz config: enforcer policy file path is required",
        ),
    ];
    for (settings, wanted) in rows {
        let (code, errors) = refusal(settings, &[]);
        assert_eq!(code, Some(4), "{settings:?}: {errors}");
        assert!(errors.contains(wanted), "{settings:?}: {errors}");
    }
}

#[test]
fn a8_variables_that_charts_set_and_nobody_reads_are_accepted() {
    let home = tempdir().unwrap();
    let vars = [("DIRECTORY_SERVER_AUTHZ_SOCKET_PATH", "/s"), ("DIRECTORY_SERVER_AUTHZ_TRUST_DOMAIN", "a.x")];
    let mut node = Node::spawn(home.path(), &["--dev"], &vars);
    node.ready();
    for (name, _) in vars {
        assert_eq!(lines(&node, &format!("ignored legacy variable {name}")).len(), 1, "{}", node.log());
    }
}

#[test]
fn a9_jwt_tls_is_no_mode_of_a_server() {
    let settings =
        ["authn.enabled=true", "authn.socket_path=/s", "authn.mode=jwt-tls", "authn.audiences=dir"];
    let (code, errors) = refusal(&settings, &[]);
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("mode 'jwt-tls' is for clients only"), "{errors}");
}

#[test]
fn a10_plaintext_for_other_machines_needs_consent() {
    let home = tempdir().unwrap();
    let serve = |args: &[&str]| {
        let mut serve = command(home.path());
        serve.args(["serve", "--metrics-address", "127.0.0.1:0"]).args(args).output().unwrap()
    };
    for address in ["0.0.0.0:0", "[::]:0", ":0"] {
        let output = serve(&["--listen-address", address]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{address}: {errors}");
        assert!(errors.contains("plaintext") && errors.contains("--allow-insecure"), "{address}: {errors}");
    }
    let args = ["--allow-insecure", "--listen-address", "0.0.0.0:0"];
    let mut node = Node::spawn_bare(home.path(), &args, &[]);
    node.ready();
    assert_eq!(node.stop(), Some(0));
}
