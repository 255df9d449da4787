//! Our federation manager against SPIRE's bundle endpoint, and SPIRE against ours.

use dir_core::{Clock, TrustDomain};
use dir_identity::federation::{
    BundleEndpoint, Endpoint, Federation, FederationConfig, FetchError, Partner, PublishConfig,
};
use dir_identity::{
    AcceptorConfig, Connector, Identity, ServerCheck, StartupWait, WorkloadConfig, accept_loop,
};
use dir_runtime::SystemClock;
use product_tests::init;
use product_tests::spire::Spire;
use prometheus::Registry;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const OURS: &str = "example.org";
const THEIRS: &str = "partner.example";

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

async fn identity(spire: &Spire) -> Identity {
    let startup_wait = StartupWait { initial: Duration::from_millis(200), ..StartupWait::default() };
    let config = WorkloadConfig { socket: spire.socket(), startup_wait, ..WorkloadConfig::default() };
    Identity::obtain(config, clock(), &Registry::new()).await.unwrap()
}

/// The bundle of a SPIRE server in a file.
fn bundle_file(spire: &Spire, path: &Path) {
    std::fs::write(path, spire.server_command(&["bundle", "show", "-format", "spiffe"]).unwrap()).unwrap();
}

/// `spire` as a partner, over its own endpoint.
fn partner(spire: &Spire, bootstrap: &Path, endpoint: &str) -> Partner {
    let url = format!("https://127.0.0.1:{}/", spire.bundle_port).parse().unwrap();
    Partner {
        source: Some((url, Endpoint::HttpsSpiffe { id: endpoint.parse().unwrap() })),
        bootstrap_file: Some(bootstrap.to_owned()),
        ..Partner::new(THEIRS.parse().unwrap())
    }
}

async fn federate(identity: &Identity, partners: Vec<Partner>) -> Federation {
    let config = FederationConfig { partners, ..FederationConfig::default() };
    Federation::start(config, identity.clone(), clock(), &Registry::new()).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn dirs() -> (tempfile::TempDir, tempfile::TempDir) {
    let one = || tempfile::Builder::new().prefix("df").tempdir_in("/tmp").unwrap();
    (one(), one())
}

#[test]
fn d0_our_manager_follows_a_real_spire_bundle_endpoint() {
    init();
    let (here, there) = dirs();
    let ours = Spire::start(here.path(), OURS).unwrap();
    let theirs = Spire::start(there.path(), THEIRS).unwrap();
    ours.register("/ns/dir/sa/apiserver", &["localhost"]).unwrap();
    theirs.register("/ns/dir/sa/client", &[]).unwrap();
    let bootstrap = here.path().join("b.json");
    bundle_file(&theirs, &bootstrap);
    runtime().block_on(async {
        let node = identity(&ours).await;
        let domain: TrustDomain = THEIRS.parse().unwrap();
        let wrong =
            federate(&node, vec![partner(&theirs, &bootstrap, "spiffe://partner.example/other")]).await;
        let refused = wrong.refresh(&domain).await.unwrap();
        assert!(matches!(refused, Err(FetchError::Endpoint(_))), "{refused:?}");
        drop(wrong);

        let id = "spiffe://partner.example/spire/server";
        let federation = federate(&node, vec![partner(&theirs, &bootstrap, id)]).await;
        federation.refresh(&domain).await.unwrap().unwrap();
        let status = federation.status().remove(0);
        assert_eq!(status.source, Some("federation"));
        let (sequence, keys) = (status.sequence.unwrap(), status.fingerprints.len());
        caller_is_accepted(&node, &theirs, &ours, there.path()).await;

        // A CA that is prepared at the partner arrives here with a higher number.
        theirs.server_command(&["localauthority", "x509", "prepare"]).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while federation.status()[0].fingerprints.len() == keys {
            assert!(tokio::time::Instant::now() < deadline, "the new CA does not arrive");
            federation.refresh(&domain).await.unwrap().unwrap();
        }
        assert!(federation.status()[0].sequence.unwrap() > sequence);
    });
}

/// A workload of the partner's SPIRE, which has our bundle from a file, is let in.
async fn caller_is_accepted(node: &Identity, theirs: &Spire, ours: &Spire, dir: &Path) {
    let file = dir.join("a.json");
    bundle_file(ours, &file);
    let caller = identity(theirs).await;
    let us = Partner { bootstrap_file: Some(file), ..Partner::new(OURS.parse().unwrap()) };
    let _federation = federate(&caller, vec![us]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let config = AcceptorConfig::default();
    let mut accepted = accept_loop(listener, node.clone(), config, clock(), &Registry::new(), stop.clone());
    let check = ServerCheck::TrustDomains(vec![OURS.parse().unwrap()]);
    let tcp = TcpStream::connect(address).await.unwrap();
    let _io = Connector::new(caller, check).connect(tcp, "localhost").await.unwrap();
    let next = futures::StreamExt::next(&mut accepted);
    let peer = tokio::time::timeout(Duration::from_secs(20), next).await.unwrap().unwrap().peer;
    let id = peer.principal.spiffe_id().unwrap().to_string();
    assert_eq!(id, "spiffe://partner.example/ns/dir/sa/client");
    stop.cancel();
}

#[test]
fn d0_a_real_spire_server_fetches_the_bundle_that_we_publish() {
    init();
    let (here, there) = dirs();
    let ours = Spire::start(here.path(), OURS).unwrap();
    let theirs = Spire::start(there.path(), THEIRS).unwrap();
    ours.register("/ns/dir/sa/apiserver", &["localhost"]).unwrap();
    let file = there.path().join("a.json");
    bundle_file(&ours, &file);
    runtime().block_on(async {
        let node = identity(&ours).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Registry::new();
        let endpoint =
            BundleEndpoint::start(listener, PublishConfig::default(), &node, clock(), &registry).unwrap();
        let url = format!("https://{}/", endpoint.address());
        let created = tokio::task::spawn_blocking(move || {
            let file = file.display().to_string();
            theirs
                .server_command(&[
                    "federation",
                    "create",
                    "-trustDomain",
                    OURS,
                    "-bundleEndpointURL",
                    &url,
                    "-bundleEndpointProfile",
                    "https_spiffe",
                    "-endpointSpiffeID",
                    "spiffe://example.org/ns/dir/sa/apiserver",
                    "-trustDomainBundlePath",
                    &file,
                    "-trustDomainBundleFormat",
                    "spiffe",
                ])
                .unwrap();
            let refreshed = theirs.server_command(&["federation", "refresh", "-id", OURS]).unwrap();
            let id = format!("spiffe://{OURS}");
            let held = theirs.server_command(&["bundle", "list", "-id", &id, "-format", "spiffe"]).unwrap();
            (refreshed, held, ours.server_command(&["bundle", "show", "-format", "spiffe"]).unwrap())
        });
        let (refreshed, held, own) = created.await.unwrap();
        assert!(refreshed.contains("refreshed"), "{refreshed}");
        // Roots and keys of JWT-SVIDs: SPIRE over there holds what SPIRE here has.
        let keys = |text: &str| {
            let document: serde_json::Value = serde_json::from_str(text).unwrap();
            let keys = document["keys"].as_array().unwrap().iter();
            let name =
                |k: &serde_json::Value| (k["use"].to_string(), k["kid"].to_string(), k["x"].to_string());
            keys.map(name).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(keys(&own).iter().any(|(used, ..)| used == "\"jwt-svid\""), "{own}");
        assert_eq!(keys(&held), keys(&own));
        let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(page.contains("federation_bundle_requests_total{code=\"200\"}"), "{page}");
    });
}
