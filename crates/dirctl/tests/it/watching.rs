//! `dirctl watch`, and records by name.

use crate::node::{Node, Ran, cid, command, record, run};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};

type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

fn start(node: &Node, args: &[&str]) -> (Child, Lines) {
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str())];
    let mut child = command(&env, &[&["watch"], args].concat()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn next(lines: &mut Lines) -> serde_json::Value {
    let line = tokio::time::timeout(std::time::Duration::from_secs(60), lines.next_line()).await;
    let line = line.expect("a line comes").unwrap().expect("it goes on");
    serde_json::from_str(&line).unwrap()
}

async fn push(node: &Node, name: &str) -> String {
    node.dirctl_with(&["push", "-"], record(name).as_bytes()).await.good().trim().to_owned()
}

#[tokio::test]
async fn changes_as_they_happen() {
    let node = Node::plain().await;
    let (_child, mut lines) = start(&node, &["--bookmarks"]);
    // The first bookmark says that it listens.
    assert_eq!(next(&mut lines).await["type"], "bookmark");
    let a = push(&node, "a").await;
    let told = next(&mut lines).await;
    assert_eq!((&told["type"], &told["cid"]), (&"pushed".into(), &a.as_str().into()), "{told}");
    assert!(told["labels"][0].as_str().unwrap().starts_with("/skills/") && told["at"].is_string(), "{told}");
    node.dirctl(&["delete", &a]).await.good();
    let gone = next(&mut lines).await;
    assert_eq!((&gone["type"], &gone["cid"]), (&"deleted".into(), &a.as_str().into()), "{gone}");
    assert!(gone["seq"].as_u64() > told["seq"].as_u64());
}

/// The changes of one run, by type and CID.
fn changes(ran: Ran) -> Vec<(String, String)> {
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let lines = ran.good();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| (text(&line["type"]), text(&line["cid"]))).collect()
}

#[tokio::test]
async fn from_a_cursor_and_from_a_file() {
    let node = Node::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cursor");
    let file = file.to_str().unwrap();
    let (a, b) = (push(&node, "a").await, push(&node, "b").await);
    let pushed = |cid: &str| ("pushed".to_owned(), cid.to_owned());
    assert_eq!(changes(node.dirctl(&["watch", "--since", "0", "--once"]).await), [pushed(&a), pushed(&b)]);
    let only = ["watch", "--since", "0", "--once", "--type", "pushed", "--cid", &b];
    assert_eq!(changes(node.dirctl(&only).await), [pushed(&b)]);
    let deleted = ["watch", "--since", "0", "--once", "--type", "deleted"];
    assert_eq!(changes(node.dirctl(&deleted).await), []);

    // Without a file it begins now; with one, behind what was told before.
    let resumed = ["watch", "--cursor-file", file, "--once"];
    assert_eq!(changes(node.dirctl(&resumed).await), []);
    let c = push(&node, "c").await;
    assert_eq!(changes(node.dirctl(&resumed).await), [pushed(&c)]);
    assert_eq!(changes(node.dirctl(&resumed).await), []);
    assert!(!Path::new(&format!("{file}.part")).exists());

    std::fs::write(file, "soon").unwrap();
    let broken = node.dirctl(&resumed).await;
    assert!(broken.code == Some(4) && broken.stderr.contains("no cursor in it"), "{broken:?}");
    let beyond = node.dirctl(&["watch", "--since", "99999999999999999", "--once"]).await;
    assert!(beyond.code == Some(1) && beyond.stderr.contains("go on with --since"), "{beyond:?}");
    for bad in [
        &["--type", "pulled"][..],
        &["--since", "x"],
        &["--since", "1", "--cursor-file", "f"],
        &["--cid", "garbage"],
    ] {
        let ran = node.dirctl(&[&["watch"], bad].concat()).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[tokio::test]
async fn an_expired_cursor_says_what_to_do_in_the_words_of_its_flag() {
    let node = Node::plain().await;
    let empty = node.dirctl(&["watch", "--since", "1", "--once"]).await;
    assert!(empty.code == Some(1) && empty.stderr.contains("has expired: no change is kept;"), "{empty:?}");
    let a = push(&node, "a").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cursor");
    let name = file.to_str().unwrap();
    let by_flag = node.dirctl(&["watch", "--since", "1", "--once"]).await;
    let since = by_flag.stderr.rsplit("go on with --since ").next().unwrap().trim().to_owned();
    assert!(by_flag.code == Some(1) && since.parse::<u64>().is_ok(), "{by_flag:?}");
    // A program that reads lines reads this one too.
    let json = node.dirctl(&["watch", "--since", "1", "--once", "--json"]).await;
    assert_eq!((json.stdout.lines().count(), &json.json()["error"]["kind"]), (1, &"precondition".into()));
    std::fs::write(&file, "1").unwrap();
    let by_file = node.dirctl(&["watch", "--cursor-file", name, "--once"]).await;
    assert_eq!(by_file.code, Some(1), "{by_file:?}");
    assert!(by_file.stderr.contains(&format!("then write {since} into {name}, or remove it")), "{by_file:?}");
    assert!(!by_file.stderr.contains("--since"), "{by_file:?}");
    // Both do what they say.
    let pushed = [("pushed".to_owned(), a)];
    assert_eq!(changes(node.dirctl(&["watch", "--since", &since, "--once"]).await), pushed);
    std::fs::write(&file, since).unwrap();
    assert_eq!(changes(node.dirctl(&["watch", "--cursor-file", name, "--once"]).await), pushed);
}

#[tokio::test]
async fn what_is_no_cid_is_refused_before_anybody_is_asked() {
    let (_held, address) = crate::node::nobody();
    let args = ["watch", "--cid", "garbage", "--server-addr", &address];
    let ran = run(&[], &args, b"").await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.starts_with("error: --cid \"garbage\": not a CID"), "{ran:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_told() {
    let (_held, address) = crate::node::nobody();
    let ran = run(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &address)], &["watch"], b"").await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[tokio::test]
async fn it_goes_on_over_broken_connections() {
    let node = Node::plain().await;
    let first = push(&node, "first").await;
    let relay = Relay::start(node.address.clone()).await;
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", relay.address.as_str())];
    let mut child = command(&env, &["watch", "--since", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut lines).await["cid"], first.as_str());
    for name in ["second", "third"] {
        relay.cut();
        let cid = push(&node, name).await;
        let told = next(&mut lines).await;
        assert_eq!(told["cid"], cid.as_str(), "nothing missing, nothing twice: {told}");
    }
    child.kill().await.unwrap();
}

/// Passes bytes on, and cuts every connection when asked to.
struct Relay {
    address: String,
    cut: tokio::sync::watch::Sender<()>,
}

impl Relay {
    async fn start(to: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, seen) = tokio::sync::watch::channel(());
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (to, mut seen) = (to.clone(), seen.clone());
                seen.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }

    fn cut(&self) {
        self.cut.send(()).unwrap();
    }
}

#[tokio::test]
async fn records_by_name() {
    let node = Node::plain().await;
    let old = record("weather").replace("v1.0.0", "v0.9.0");
    node.dirctl_with(&["push", "-"], old.as_bytes()).await.good();
    let new = push(&node, "weather").await;
    let url = push(&node, "https://example.org/agents/weather").await;
    let raw = async |text: &str| node.dirctl(&["pull", text, "--raw", "--quiet"]).await;
    assert_eq!(cid(&raw("weather:v1.0.0").await.good()), new);
    assert_eq!(cid(&raw("weather:v0.9.0").await.good()), cid(&old));
    assert_eq!(cid(&raw("https://example.org/agents/weather:v1.0.0").await.good()), url);
    assert_eq!(cid(&raw("https://example.org/agents/weather").await.good()), url);
    // Of several the newest, and that is said.
    let newest = node.dirctl(&["info", "weather", "--json"]).await;
    assert_eq!((newest.code, &newest.json()["cid"]), (Some(0), &new.as_str().into()), "{newest:?}");
    assert!(
        newest.stderr.starts_with("weather: the newest of 2 records is taken: weather:v1.0.0"),
        "{newest:?}"
    );
    // The same record by name and CID is one.
    let once = node.dirctl(&["pull", "weather:v1.0.0", &new, "--raw"]).await.good();
    assert_eq!(once.lines().count(), 1);
    for absent in ["nobody", "weather:v7"] {
        let ran = raw(absent).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(absent) && ran.stderr.contains("dirctl search --name"), "{ran:?}");
    }
}
