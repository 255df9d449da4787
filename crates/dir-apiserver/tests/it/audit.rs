//! The audit log of the real binary: refused handshakes, rotation, drain, crash.

use crate::client::{count, open_push, push, record, secure};
use crate::node::{Node, command, until};
use dir_core::chain::Verifier;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::tempdir;

fn file(home: &Path) -> PathBuf {
    home.join("audit.log")
}

/// An mTLS node with a chained audit log in a file.
fn start(home: &Path, more: &[&str]) -> Node {
    let path = format!("audit.path={}", file(home).display());
    let mut args = vec!["--embedded-identity", "--set", "audit.output=file", "--set", &path];
    args.extend(["--set", "audit.hash_chain=true"]);
    args.extend(more);
    Node::start(home, &args)
}

fn socket(home: &Path) -> String {
    format!("unix://{}", home.join(".dir/workload.sock").display())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last one may be on its way.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn events(path: &Path, event: &str) -> Vec<Value> {
    lines(path).into_iter().filter(|line| line["event"] == *event).collect()
}

fn assert_whole(verifier: &mut Verifier, path: &Path) {
    for line in std::fs::read_to_string(path).unwrap().lines() {
        assert_eq!(verifier.line(line.as_bytes()), Ok(()), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_o3_calls_refused_handshakes_and_changes_of_trust() {
    let home = tempdir().unwrap();
    let mut node = start(home.path(), &[]);
    let channel = secure(node.grpc(), &socket(home.path())).await;
    let cids = push(&channel, vec![record("one")]).await.unwrap();
    count(&channel, "one").await;
    TcpStream::connect(("127.0.0.1", node.grpc())).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let path = file(home.path());
    let refused = until("the refused handshake", || events(&path, "handshake_refused").pop());
    assert!(refused["reason"].is_string() && refused["peer_addr"].is_string(), "{refused}");
    let close = until("the end of the stream", || events(&path, "close").pop());
    assert_eq!(close["resources"][0], *cids[0]);
    assert_eq!(events(&path, "started").len(), 1);
    let svid = &events(&path, "svid_rotated")[0];
    assert_eq!(svid["spiffe_id"], "spiffe://dev.directory.internal/dir/apiserver");
    let bundle = &events(&path, "bundle_changed")[0];
    assert_eq!(
        (&bundle["trust_domain"], &bundle["change"]),
        (&"dev.directory.internal".into(), &"added".into())
    );
    assert_eq!(events(&path, "authenticated")[0]["spiffe_id"], "spiffe://dev.directory.internal/dir/client");
    let call = &events(&path, "call")[0];
    assert_eq!(call["spiffe_id"], "spiffe://dev.directory.internal/dir/client");
    drop(channel);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(lines(&path).last().unwrap()["event"], "stopped", "drained to the end");
    assert_whole(&mut Verifier::default(), &path);
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_policy_reloads_good_and_bad() {
    let home = tempdir().unwrap();
    let policy = home.path().join("policy.csv");
    std::fs::write(&policy, "p,dev.directory.internal,*\n").unwrap();
    let policy_path = format!("authz.enforcer_policy_file_path={}", policy.display());
    let node = start(home.path(), &["--set", "authz.enabled=true", "--set", &policy_path]);
    let path = file(home.path());
    let first = until("the first policy", || events(&path, "policy_reloaded").pop());
    assert_eq!(first["policy_generation"], 1);
    std::fs::write(&policy, "p,dev.directory.internal,*\np,partner.example,*\n").unwrap();
    let taken = until("the second policy", || events(&path, "policy_reloaded").get(1).cloned());
    assert_eq!((&taken["policy_generation"], &taken["rules"]), (&2.into(), &2.into()));
    std::fs::write(&policy, "nonsense\n").unwrap();
    let refused = until("the broken policy", || events(&path, "policy_refused").pop());
    assert_eq!(refused["policy_generation"], 2, "{refused}");
    assert!(!refused["reason"].as_str().unwrap().is_empty());
    assert_eq!(node.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_loses_nothing_with_or_without_a_signal() {
    let home = tempdir().unwrap();
    let mut node = start(home.path(), &[]);
    let channel = secure(node.grpc(), &socket(home.path())).await;
    let path = file(home.path());
    let mut moved = Vec::new();
    for (turn, signalled) in [true, false].into_iter().enumerate() {
        count(&channel, "one").await;
        until("the line of the call", || (events(&path, "call").len() == 1).then_some(()));
        let old = home.path().join(format!("audit.{turn}"));
        std::fs::rename(&path, &old).unwrap();
        moved.push(old);
        if signalled {
            node.signal(Signal::SIGHUP);
        }
        // Without a signal the next lines after a second notice it.
        until("the new file", || {
            let _ = TcpStream::connect(("127.0.0.1", node.grpc())).unwrap().write_all(b"no TLS");
            path.exists().then_some(())
        });
    }
    count(&channel, "one").await;
    drop(channel);
    assert_eq!(node.stop(), Some(0));
    moved.push(path);
    assert_eq!(moved.iter().map(|path| events(path, "call").len()).sum::<usize>(), 3);
    let mut chain = Verifier::default();
    for path in &moved {
        assert_whole(&mut chain, path);
    }
}

/// What a killed process had written is there, in whole lines, and the next process goes on with the chain. What it
/// had not written are at most the lines in its queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_whole_lines_and_the_chain_goes_on() {
    const QUEUE: usize = 100;
    let home = tempdir().unwrap();
    let queue = format!("audit.queue={QUEUE}");
    let limits = ["--set", &queue, "--set", "audit.when_full=refuse"];
    let mut node = start(home.path(), &limits);
    let channel = secure(node.grpc(), &socket(home.path())).await;
    let mut answered = 0;
    let (pushing, mut answers) = open_push(&channel).await;
    for number in 0..50 {
        pushing.send(record(&format!("r{number}"))).await.unwrap();
        assert!(answers.message().await.unwrap().is_some());
        count(&channel, "r*").await;
        answered += 1;
    }
    node.signal(Signal::SIGKILL);
    node.wait();
    let path = file(home.path());
    let told = events(&path, "call").len();
    assert!(told + QUEUE >= answered && told <= answered, "{told} of {answered}");
    let torn =
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write(b"{\"ts\":\"half a li").unwrap();
    assert!(torn > 0);
    let node = start(home.path(), &limits);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(events(&path, "started").len(), 2);
    assert_whole(&mut Verifier::default(), &path);
}

/// Log and audit share standard output: each line is whole, a thousand of both.
#[tokio::test(flavor = "multi_thread")]
async fn shared_standard_output_has_whole_lines() {
    let home = tempdir().unwrap();
    let mut child = command(home.path())
        .args(["serve", "--dev", "--listen-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"])
        .env("DIRECTORY_LOGGER_LOG_FORMAT", "json")
        .env("DIRECTORY_LOGGER_LOG_LEVEL", "debug")
        .env("DIRECTORY_SERVER_SHUTDOWN_LB_WAIT", "0s")
        .env("DIRECTORY_SERVER_AUDIT_HASH_CHAIN", "true")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let (told, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)) {
            let _ = told.send(line.unwrap());
        }
    });
    let mut all = Vec::new();
    let port = loop {
        let line = lines.recv().await.expect("it serves");
        let json: Value = serde_json::from_str(&line).unwrap();
        all.push(line);
        if json["message"] == "serving" {
            break json["address"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        }
    };
    let calls = (0..4).map(|_| async {
        let channel = crate::client::plain(port).await;
        for _ in 0..250 {
            count(&channel, "nothing").await;
        }
    });
    futures::future::join_all(calls).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut chain = Verifier::default();
    let (mut audited, mut logged) = (0, 0);
    for line in &all {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if json["event"].is_string() {
            assert_eq!(chain.line(line.as_bytes()), Ok(()), "{line}");
            audited += usize::from(json["event"] == "call");
        } else {
            logged += usize::from(json["message"] == "finished call");
        }
    }
    assert_eq!((audited, logged), (1000, 1000));
}
