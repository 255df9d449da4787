//! The operator's jobs on the store: real server, real client, cut off in the middle from both sides.

use dir_core::json::Doc;
use dir_core::oci::{EMPTY_CONFIG_BYTES, Subject, record_manifest, referrer_manifest};
use dir_core::store::Referrer;
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use dir_testkit::generate::Generator;
use product_tests::proc::{Proc, Ran, run};
use product_tests::server::{Auth, Records, Server, get};
use product_tests::workload::{self, Workload};
use product_tests::{init, our, root, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const RECORDS: usize = 60;

/// A client of a server behind a Workload API.
struct Admin {
    socket: String,
    port: u16,
}

impl Admin {
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(our(program).unwrap());
        command.env_clear().env("HOME", "/nonexistent").args(args);
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{}", self.port));
        command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509");
        command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", &self.socket);
        command
    }

    /// `dir-admin store …`.
    fn store(&self, args: &[&str]) -> Ran {
        run(&mut self.command("dir-admin", &[&["store"], args].concat())).unwrap()
    }

    /// The same with its one document, and its exit code.
    fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let ran = self.store(&[args, &["--output", "json"]].concat());
        let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        (ran.status.code(), json)
    }

    /// Nothing is wrong in the store, and the index agrees. What has just been rebuilt or cut off gets its time.
    fn wait_clean(&self, records: usize) {
        let mut last = String::new();
        let clean = wait_until("a clean audit", || {
            let (code, json) = self.json(&["audit", "--contents"]);
            last = json.to_string();
            code == Some(0) && json["records"] == records && json["drift"]["rows"] == records
        });
        clean.unwrap_or_else(|error| panic!("{error}: {last}"));
    }
}

fn identity(dir: &Path) -> (Workload, Auth) {
    init();
    let workload = workload::start(dir).unwrap();
    let auth = Auth::X509(workload.socket());
    (workload, auth)
}

/// Records as another node put them into one repository.
pub(crate) fn plant(registry: &FakeRegistry, seed: u64) -> Vec<Cid> {
    let mut generator = Generator::new(seed);
    let facts = std::iter::repeat_with(move || generator.facts());
    let decodable = facts.filter(|facts: &RecordFacts| facts.schema_version.starts_with("1."));
    let mut cids = Vec::new();
    for (n, facts) in decodable.enumerate() {
        let doc = Doc::parse(Generator::record_json(&facts).to_string().as_bytes()).unwrap();
        let record = Record::from_doc(&doc).unwrap();
        let (cid, bytes) = (record.cid(), record.bytes().clone());
        if cids.contains(&cid) {
            continue;
        }
        let at = Timestamp::from_secs(1_735_689_600 + i64::try_from(n).unwrap());
        let manifest = record_manifest(&cid, bytes.len() as u64, &facts, at);
        let blobs = [bytes, EMPTY_CONFIG_BYTES.into()];
        registry.plant("dir", manifest, &blobs, Some(&cid.to_string()));
        cids.push(cid);
        if cids.len() == RECORDS {
            break;
        }
    }
    cids
}

/// A signature of a record that is gone.
fn plant_orphan(registry: &FakeRegistry) {
    let bytes = bytes::Bytes::from_static(b"{\"type\":\"agntcy.dir.sign.v1.PublicKey\"}");
    let referrer = Referrer {
        cid: Cid::of(&bytes),
        bytes: bytes.clone(),
        api_type: "agntcy.dir.sign.v1.PublicKey".into(),
        created_at: String::new(),
        annotations: BTreeMap::new(),
    };
    let subject = Subject { digest: Cid::of(b"gone").oci_digest(), size: 1 };
    let manifest = referrer_manifest(&referrer, &subject, Timestamp::from_secs(1));
    let blobs = [bytes, EMPTY_CONFIG_BYTES.into()];
    registry.plant("dir", manifest, &blobs, Some(&referrer.cid.to_string()));
}

/// The registry answers as slowly as one repository with very many records makes it.
fn slow_down(registry: &FakeRegistry) {
    registry.fail_next(Kind::ManifestPut, 100_000, Fault::Slow(Duration::from_millis(1500)));
}

/// Starts a conversion that is not waited for, and waits until it is well under way.
fn reshard_under_way(admin: &Admin, registry: &FakeRegistry, dir: &Path, name: &str) -> Proc {
    let before = registry.repositories().len();
    let mut command = admin.command("dir-admin", &["store", "reshard", "--to", "sharded"]);
    let mut job = Proc::start(name, dir, &mut command).unwrap();
    job.wait_for("records move", |job| {
        registry.repositories().len() > before + 4 && job.output().contains("move: ")
    })
    .unwrap();
    job
}

#[test]
fn a_directory_is_audited_and_has_no_layout_to_convert() {
    let dir = tempfile::tempdir().unwrap();
    let (workload, auth) = identity(dir.path());
    let server = Server::start(dir.path(), &auth, &Records::Layout).unwrap();
    let admin = Admin { socket: workload.socket(), port: server.port };
    let file = root().join("examples/records/record_100.json");
    run(&mut admin.command("dirctl", &["push", file.to_str().unwrap()])).unwrap().good().unwrap();
    let ran = admin.store(&["audit"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let line = "store audit ok: 1 record(s) and 0 referrer(s) as they should be, index agrees (1 rows), in ";
    assert!(ran.stdout.starts_with(line), "{ran:?}");
    assert!(ran.stderr.lines().any(|line| line.starts_with("inspect: 1")), "progress on stderr: {ran:?}");
    assert_eq!(admin.store(&["repair", "--yes"]).status.code(), Some(0));
    let refused = admin.store(&["reshard", "--to", "sharded"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stdout.contains("only a registry is laid out sharded or single"), "{refused:?}");
    assert!(refused.stdout.contains("(precondition)"), "{refused:?}");
    assert!(refused.stderr.contains("next: nothing is to be done"), "{refused:?}");
    let refused = admin.store(&["audit", "--from", "nonsense"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("next: start without --from"), "{refused:?}");
    // Repairing takes a word; a policy decides over jobs as over every call.
    assert_eq!(admin.store(&["repair"]).status.code(), Some(2));
    assert_eq!(admin.store(&["reshard", "--to", "round"]).status.code(), Some(2));
}

#[test]
fn jobs_on_a_registry_survive_the_end_of_client_and_server() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let registry = runtime.block_on(FakeRegistry::start(Switches::zot())).unwrap();
    let cids = plant(&registry, 5);
    let (workload, auth) = identity(dir.path());
    let records = Records::Registry(registry.address());
    let server = Server::start(dir.path(), &auth, &records).unwrap();
    let admin = Admin { socket: workload.socket(), port: server.port };
    admin.wait_clean(RECORDS);

    // Looking changes nothing, a dry run neither, a repair does, and then nothing is left.
    plant_orphan(&registry);
    let tags = registry.tags("dir").len();
    for args in [&["audit"][..], &["repair", "--dry-run"]] {
        let (code, json) = admin.json(args);
        assert_eq!((code, &json["status"]), (Some(10), &"warning".into()), "{json}");
        assert_eq!(json["troubles"]["orphan"]["found"], 1, "{json}");
        assert_eq!(json["findings"][0]["trouble"], "orphan", "{json}");
        assert_eq!(registry.tags("dir").len(), tags);
    }
    let (code, json) = admin.json(&["repair", "--yes"]);
    assert_eq!((code, &json["troubles"]["orphan"]["repaired"]), (Some(0), &1.into()), "{json}");
    assert_eq!(registry.tags("dir").len(), tags - 1);
    let (code, json) = admin.json(&["reshard", "--to", "sharded", "--dry-run"]);
    assert_eq!((code, &json["moved"], &json["dry_run"]), (Some(0), &RECORDS.into(), &true.into()), "{json}");
    assert_eq!(registry.repositories(), ["dir"]);
    let (code, json) = admin.json(&["reshard", "--to", "sharded", "--limit", "10"]);
    assert_eq!((code, &json["moved"], &json["done"]), (Some(10), &10.into(), &false.into()), "{json}");

    // The client is killed: its job stops, and until then another one is told whose it is.
    slow_down(&registry);
    let mut job = reshard_under_way(&admin, &registry, dir.path(), "first");
    let busy = admin.store(&["audit"]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    assert!(busy.stdout.contains("another job is running: store reshard, begun 20"), "{busy:?}");
    assert!(busy.stdout.contains("by spiffe://example.org/ns/dir/sa/apiserver"), "{busy:?}");
    job.signal("KILL").unwrap();
    job.wait_end().unwrap();
    let mut last = None;
    wait_until("the job of a client that is gone stops", || {
        let ran = admin.store(&["audit"]);
        let over = !ran.stdout.contains("another job");
        last = Some(ran);
        over
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}"));
    assert!(registry.tags("dir").len() > 1, "it stopped before its end");

    // The server is killed: the next one serves what is in both places and goes on.
    let mut job = reshard_under_way(&admin, &registry, dir.path(), "second");
    server.proc.signal("KILL").unwrap();
    let end = job.wait_end().unwrap();
    assert!(matches!(end.code(), Some(3 | 75)), "{end:?}: {}", job.output());
    assert!(job.output().contains("run it again"), "{}", job.output());
    drop(server);
    registry.heal();
    assert!(registry.tags("dir").len() > 1, "it was cut off before its end");
    let server = Server::start(dir.path(), &auth, &records).unwrap();
    let admin = Admin { port: server.port, ..admin };
    for cid in &cids {
        run(&mut admin.command("dirctl", &["pull", &cid.to_string()])).unwrap().good().unwrap();
    }
    let mut last = None;
    wait_until("the conversion is done", || {
        let (code, json) = admin.json(&["reshard", "--to", "sharded"]);
        last = Some(json);
        code == Some(0)
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}"));
    assert_eq!(registry.tags("dir"), ["directory.layout"]);
    admin.wait_clean(RECORDS);
}

#[test]
fn an_audit_that_is_interrupted_says_where_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let registry = runtime.block_on(FakeRegistry::start(Switches::zot())).unwrap();
    let (workload, auth) = identity(dir.path());
    let server = Server::start(dir.path(), &auth, &Records::Registry(registry.address())).unwrap();
    let admin = Admin { socket: workload.socket(), port: server.port };
    // An empty registry is served as 4,096 repositories; each takes its time.
    admin.wait_clean(0);
    for (signal, code) in [("INT", 130), ("TERM", 75)] {
        // The server notices soon, and not at once, that nobody waits for a job any more.
        wait_until("no job runs", || !admin.store(&["audit"]).stdout.contains("another job")).unwrap();
        registry.fail_next(Kind::Tags, 100_000, Fault::Slow(Duration::from_millis(50)));
        let mut command = admin.command("dir-admin", &["store", "audit", "--output", "json"]);
        let mut job = Proc::start(signal, dir.path(), &mut command).unwrap();
        job.wait_for("it is well under way", |job| job.output().contains("inspect: ")).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        job.signal(signal).unwrap();
        let end = job.wait_end().unwrap();
        assert_eq!(end.code(), Some(code), "{}", job.output());
        let output = job.output();
        let json = output.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{output}"));
        let json: Value = serde_json::from_str(json).unwrap();
        let mark = json["mark"].as_str().unwrap_or_else(|| panic!("{json}"));
        assert!(output.contains(&format!("next: to go on where it was: --from {mark}")), "{output}");
        assert!(mark.starts_with("shard:"), "{json}");
        registry.heal();
    }
}

#[test]
fn what_an_operator_finds_and_repairs_is_on_health_and_metrics_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let registry = runtime.block_on(FakeRegistry::start(Switches::zot())).unwrap();
    let cids = plant(&registry, 7);
    let (workload, auth) = identity(dir.path());
    let records = Records::Registry(registry.address());
    let server = Server::start(dir.path(), &auth, &records).unwrap();
    let admin = Admin { socket: workload.socket(), port: server.port };
    admin.wait_clean(RECORDS);
    let page = |path: &str| get(server.ops_port, path).unwrap().1;
    let has = |line: &str| page("/metrics").lines().any(|has| has == line);

    // A record that was read is in the cache of this server; its bytes in the registry are looked at all the same.
    run(&mut admin.command("dirctl", &["pull", &cids[0].to_string()])).unwrap().good().unwrap();
    assert!(has("directory_store_corrupt_total{source=\"backend\"} 0"), "{}", page("/metrics"));
    assert!(registry.corrupt_blob("dir", &cids[0], bytes::Bytes::from_static(b"{}")));
    let (code, json) = admin.json(&["audit", "--contents"]);
    assert_eq!((code, &json["troubles"]["broken"]["found"]), (Some(10), &1.into()), "{json}");
    assert!(has("directory_store_corrupt_total{source=\"backend\"} 1"), "{}", page("/metrics"));

    for cid in &cids {
        registry.drop_tag("dir", &cid.to_string());
    }
    let (_, json) = admin.json(&["repair", "--dry-run"]);
    assert_eq!((&json["drift"]["missing_in_store"], &json["drift"]["held"]), (&RECORDS.into(), &true.into()));
    // The content of all but one is there.
    assert_eq!(json["troubles"]["lost_tag"]["found"], RECORDS - 1, "{json}");
    assert!(has(&format!("directory_index_drift{{missing_in=\"store\"}} {RECORDS}")), "{}", page("/metrics"));
    assert!(has("directory_index_removals_held{component=\"index\"} 1"), "{}", page("/metrics"));
    let text = format!("{RECORDS} of {RECORDS} rows have no record in the store");
    wait_until("health says so", || page("/healthz").contains(&text)).unwrap();

    let (code, json) = admin.json(&["repair", "--yes", "--max-removal-percent", "100"]);
    assert_eq!((code, &json["drift"]["removed"]), (Some(0), &RECORDS.into()), "{json}");
    assert!(has("directory_index_drift{missing_in=\"store\"} 0"), "{}", page("/metrics"));
    assert!(has("directory_index_removals_held{component=\"index\"} 0"), "{}", page("/metrics"));
    wait_until("health is well", || !page("/healthz").contains("rows have no record")).unwrap();
}
