//! The scheduled comparison of index and store in a real server: what others do to the registry shows up, an outage
//! never looks like deletion.

use crate::store_jobs::{RECORDS, plant};
use dir_core::Cid;
use dir_testkit::fake_registry::{FakeRegistry, Fault, Kind, Switches};
use product_tests::proc::run;
use product_tests::server::{Auth, Records, Server, get};
use product_tests::{init, our, wait_until};
use std::process::Command;

/// Every second.
const OFTEN: &str = "reconciler: { indexer: { interval: 1s } }\n";

struct Watched {
    server: Server,
}

impl Watched {
    /// The value of a metric without labels, or of its sample with these.
    fn metric(&self, sample: &str) -> f64 {
        let page = get(self.server.ops_port, "/metrics").unwrap().1;
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("{sample} in {page}"))
    }

    fn has(&self, cid: &Cid) -> bool {
        let mut command = Command::new(our("dirctl").unwrap());
        command.env_clear().env("HOME", "/nonexistent").args(["info", &cid.to_string()]);
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("127.0.0.1:{}", self.server.port));
        run(command.env("DIRECTORY_CLIENT_AUTH_MODE", "insecure")).unwrap().status.success()
    }

    fn records(&self) -> usize {
        let mut command = Command::new(our("dirctl").unwrap());
        command.env_clear().env("HOME", "/nonexistent").args(["search", "--count"]);
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("127.0.0.1:{}", self.server.port));
        let ran = run(command.env("DIRECTORY_CLIENT_AUTH_MODE", "insecure")).unwrap();
        ran.good().unwrap().trim().parse().unwrap()
    }

    /// When index and store were last compared completely.
    fn compared(&self) -> f64 {
        self.metric("directory_index_compared_timestamp_seconds{component=\"index\"}")
    }

    fn wait(&self, what: &str, ready: impl FnMut() -> bool) {
        wait_until(what, ready).unwrap_or_else(|error| panic!("{error}\n{}", self.server.proc.output()));
    }
}

#[test]
fn drift_is_repaired_on_schedule_and_an_outage_is_no_deletion() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let registry = runtime.block_on(FakeRegistry::start(Switches::zot())).unwrap();
    let cids = plant(&registry, 5);
    let records = Records::Registry(registry.address());
    let server = Server::start_with(dir.path(), &Auth::Insecure, &records, OFTEN).unwrap();
    let node = Watched { server };
    node.wait("everything is indexed and compared", || node.records() == RECORDS && node.compared() > 0.0);

    // Drift both ways, by hands that are not ours.
    let others = plant(&registry, 6).into_iter().filter(|cid| !cids.contains(cid)).count();
    assert!(others > 0, "another seed makes other records");
    assert!(registry.drop_tag("dir", &cids[0].to_string()));
    node.wait("drift is repaired", || node.records() == RECORDS + others - 1 && !node.has(&cids[0]));
    let before = node.compared();
    node.wait("and compared once more", || node.compared() > before);
    for missing_in in ["index", "store"] {
        let drift = node.metric(&format!("directory_index_drift{{missing_in=\"{missing_in}\"}}"));
        assert!(drift.abs() < f64::EPSILON, "{missing_in}: {drift}");
    }

    // A registry that fails, lists too little, or is empty all of a sudden: every row stays.
    let whole = RECORDS + others - 1;
    registry.fail_next(Kind::Tags, 3, Fault::Status(503));
    registry.fail_next(Kind::Tags, 1, Fault::Short(2));
    let before = node.compared();
    node.wait("compared after the outage", || {
        assert_eq!(node.records(), whole);
        node.compared() > before
    });
    registry.wipe();
    node.wait("the lost mark is noticed", || {
        assert_eq!(node.records(), whole);
        get(node.server.ops_port, "/healthz").is_ok_and(|(_, page)| page.contains("has lost its mark"))
    });
    assert_eq!(node.records(), whole);
}
