//! Identities that rotate, go away and come back, from a real SPIRE, under traffic.

use crate::support::{short_dir, until};
use product_tests::caller::{CallerArgs, Tally, client};
use product_tests::callers::Caller;
use product_tests::init;
use product_tests::server::{Auth, Records, Server, get};
use product_tests::spire::Spire;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const PATH: &str = "/ns/dir/sa/apiserver";

/// What the server says of its identity: serial number, end, and roots of its own domain.
struct Held {
    serial: String,
    ends: i64,
    roots: u32,
}

struct Node {
    runtime: tokio::runtime::Runtime,
    admin: dir_client::Client,
    server: Server,
}

impl Node {
    fn start(dir: &Path, socket: &str) -> Self {
        let server = Server::start(dir, &Auth::X509(socket.to_owned()), &Records::Layout).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = format!("127.0.0.1:{}", server.port);
        let admin = runtime.block_on(client(&address, "localhost", socket)).unwrap();
        Self { runtime, admin, server }
    }

    fn held(&self) -> Held {
        let said = self.runtime.block_on(self.admin.server_identity()).unwrap();
        let ends = said.svid_not_after.map_or(0, |at| at.seconds);
        Held { serial: said.svid_serial, ends, roots: said.bundles[0].authorities }
    }

    fn caller(&self, socket: &str) -> Caller {
        let args = CallerArgs {
            address: format!("127.0.0.1:{}", self.server.port),
            server_name: "localhost".to_owned(),
            socket: socket.to_owned(),
            expect: None,
            streams: 6,
            unary: 2,
            fresh: true,
        };
        Caller::start(Path::new(env!("CARGO_BIN_EXE_caller")), &args).unwrap()
    }

    fn ready(&self) -> u16 {
        get(self.server.ops_port, "/readyz").unwrap().0
    }
}

fn check(tally: &Tally) {
    println!("{tally:?}");
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.answered > 100, "{tally:?}");
}

/// The id that `localauthority` prints first under this heading, or first of all.
fn authority(said: &str, heading: &str) -> String {
    let from = said.find(heading).unwrap_or_else(|| panic!("no {heading}: {said}"));
    let line = said[from..].lines().find(|l| l.trim().starts_with("Authority ID")).unwrap();
    line.split(':').nth(1).unwrap().trim().to_owned()
}

#[test]
fn c_leaves_and_the_ca_rotate_under_traffic_and_no_call_fails() {
    init();
    let dir = short_dir();
    let spire = Spire::start(dir.path(), "example.org").unwrap();
    spire.register_with(PATH, &["localhost"], &["-x509SVIDTTL", "20"]).unwrap();
    let socket = spire.socket();
    let node = Node::start(dir.path(), &socket);
    let caller = node.caller(&socket);
    let new_leaf = |what: &str| {
        let before = node.held().serial;
        until(what, || node.held().serial != before);
    };
    new_leaf("the second SVID");
    new_leaf("the third SVID");

    let x509 = |args: &[&str]| spire.server_command(&[&["localauthority", "x509"], args].concat()).unwrap();
    let old = authority(&x509(&["show"]), "Active X.509 authority");
    let new = authority(&x509(&["prepare"]), "Prepared X.509 authority");
    until("the server knows the next CA", || node.held().roots == 2);
    let before = caller.generations();
    new_leaf("everybody had the time to take it up");
    until("the caller too", || {
        let now = caller.generations();
        before.iter().all(|(who, then)| now[who] > *then)
    });
    x509(&["activate", "-authorityID", &new]);
    new_leaf("an SVID, perhaps still of the old CA");
    let last_of_the_old = node.held().ends;
    x509(&["taint", "-authorityID", &old]);
    new_leaf("an SVID of the new CA");
    // Connections end with the SVIDs that they were made with: then nothing of the old CA is left.
    until("the old SVIDs have come to their end", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        i64::try_from(now).unwrap() > last_of_the_old + 1
    });
    x509(&["revoke", "-authorityID", &old]);
    until("the old root leaves", || node.held().roots == 1);
    new_leaf("life goes on");
    let tally = caller.finish().unwrap();
    check(&tally);
    assert!(tally.certificates.len() >= 4, "{tally:?}");
}

#[test]
fn p_an_agent_that_is_killed_and_comes_back_and_an_entry_that_is_deleted() {
    init();
    let dir = short_dir();
    let mut spire = Spire::start(dir.path(), "example.org").unwrap();
    let entry = spire.register_with(PATH, &["localhost"], &[]).unwrap();
    let socket = spire.socket();
    let mut node = Node::start(dir.path(), &socket);
    let caller = node.caller(&socket);
    let before = node.held().serial;

    spire.kill_agent().unwrap();
    node.server.proc.wait_for_output("lost the Workload API").unwrap();
    assert_eq!((node.ready(), node.held().serial.clone()), (200, before.clone()), "the SVID at hand serves");
    spire.restart_agent().unwrap();
    until("the new SVID of the agent that came back", || node.held().serial != before);
    check(&caller.finish().unwrap());

    // Deleted: the agent says so, and we say it to whoever sends us traffic. Restarting us would not help.
    spire.server_command(&["entry", "delete", "-entryID", &entry]).unwrap();
    until("not ready", || node.ready() == 503);
    let ops = node.server.ops_port;
    let (_, reason) = get(ops, "/readyz").unwrap();
    assert!(reason.contains("no longer issues an identity"), "{reason}");
    assert_eq!(get(ops, "/livez").unwrap().0, 200);
    let page = get(ops, "/metrics").unwrap().1;
    assert!(page.contains("identity_updates_rejected_total{reason=\"withdrawn\"}"), "{page}");
    assert!(!page.contains("identity_updates_rejected_total{reason=\"withdrawn\"} 0"), "{page}");
    spire.register(PATH, &["localhost"]).unwrap();
    until("ready with a new entry", || node.ready() == 200);
}
