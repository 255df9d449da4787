//! Two organisations without SPIRE's help: their servers fetch each other's bundles.

use crate::federation_support::*;
use crate::support::*;
use dir_core::TrustDomain;
use dir_core::identity::IdentityStatus;
use dir_identity::federation::*;
use dir_identity::{AcceptorConfig, ConnectError, Connector, RefuseReason, ServerCheck};
use prometheus::Registry;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn caller(org: &Org, of: &str) -> Connector {
    Connector::new(org.identity.clone(), ServerCheck::TrustDomains(vec![of.parse().unwrap()]))
}

async fn server(org: &Org) -> Server {
    Server::start(org.identity.clone(), AcceptorConfig::default(), org.clock.clone(), Registry::new()).await
}

fn b() -> TrustDomain {
    B.parse().unwrap()
}

/// Two organisations, each with the other as partner.
struct Pair {
    a: Org,
    b: Org,
    a_federation: Federation,
    _b_federation: Federation,
    _a_endpoint: BundleEndpoint,
    b_endpoint: BundleEndpoint,
}

impl Pair {
    async fn start() -> Self {
        let (a, b) = tokio::join!(Org::start(A), Org::start(B));
        let (a_endpoint, b_endpoint) = (a.publish(anywhere()).await, b.publish(anywhere()).await);
        let a_federation =
            a.federate(vec![b.as_partner(b_endpoint.address(), b.bootstrap(a.dir.path(), 1))]).await;
        let b_federation =
            b.federate(vec![a.as_partner(a_endpoint.address(), a.bootstrap(b.dir.path(), 1))]).await;
        let pair =
            Self { a, b, a_federation, _b_federation: b_federation, _a_endpoint: a_endpoint, b_endpoint };
        until("fetched both ways", || {
            pair.a.source(B) == Some("federation") && pair.b.source(A) == Some("federation")
        })
        .await;
        pair
    }

    /// B moves to a new CA; the old one stays in its bundle until `retire`.
    async fn rotate_b(&self) {
        let before = self.b.identity.snapshot().leaf().serial.clone();
        assert!(self.b.api.rotate_ca(B));
        self.b.api.rotate();
        until("B has moved to its new CA", || self.b.identity.snapshot().leaf().serial != before).await;
    }

    /// The endpoint takes up a change a moment after the identity.
    async fn a_fetches_until(&self, so: impl Fn() -> bool) {
        soon("fetched", async {
            while !so() {
                refresh(&self.a_federation, B).await.unwrap();
            }
        })
        .await;
    }

    async fn retire_b(&self) {
        assert!(self.b.api.retire_cas(B));
        until("B's old CA is gone", || self.b.identity.snapshot().bundles().get(&b()).unwrap().len() == 1)
            .await;
    }
}

#[tokio::test]
async fn d0_two_servers_federate_by_our_own_endpoint_until_one_is_removed() {
    let pair = Pair::start().await;
    let (at_a, at_b) = (server(&pair.a).await, server(&pair.b).await);
    let mut from_b = dial(&caller(&pair.b, A), &at_a).await;
    ping(&mut from_b).await.unwrap();
    ping(&mut dial(&caller(&pair.a, B), &at_b).await).await.unwrap();

    let report = pair.a.identity.report().unwrap();
    let (own, partner) = (&report.bundles[0], &report.bundles[1]);
    assert_eq!((own.trust_domain.as_str(), own.source.as_str()), (A, "workload_api"));
    assert_eq!((partner.trust_domain.as_str(), partner.source.as_str()), (B, "federation"));
    assert!(partner.updated_at.0 > 0 && partner.authorities == 1);
    let status = pair.a_federation.status().remove(0);
    assert_eq!((status.source, status.failures, status.fingerprints.len()), (Some("federation"), 0, 2));
    assert!(pair.a.gauge("bundle_sequence", B) > 1e9, "the number begins at the time of day");
    assert!(pair.a.gauge("federation_last_success_timestamp_seconds", B) > 1e9);

    assert!(pair.a_federation.remove(&b()).await);
    let mut heard = [0; 7];
    soon("B's open connection is revoked", from_b.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"revoked");
    let mut refused =
        caller(&pair.b, A).connect(TcpStream::connect(at_a.addr).await.unwrap(), HOST).await.unwrap();
    assert!(ping(&mut refused).await.is_err());
    until("the reason", || at_a.refused(RefuseReason::UnknownTrustDomain) > 0.5).await;
    let unknown = caller(&pair.a, B).connect(TcpStream::connect(at_b.addr).await.unwrap(), HOST).await;
    assert!(matches!(unknown, Err(ConnectError::Refused(_))));
    assert!(!pair.a_federation.remove(&b()).await && pair.a_federation.status().is_empty());
    assert_eq!(
        std::fs::read_dir(pair.a.dir.path().join("federation")).unwrap().count(),
        0,
        "forgotten on disk"
    );
}

#[tokio::test]
async fn d0_a_new_ca_of_the_partner_is_followed() {
    let pair = Pair::start().await;
    let at_a = server(&pair.a).await;
    let first = pair.a.gauge("bundle_sequence", B);
    let mut old = dial(&caller(&pair.b, A), &at_a).await;
    ping(&mut old).await.unwrap();
    // The new root is published before it signs.
    assert!(pair.b.api.rotate_ca(B));
    until("B publishes both", || pair.b.identity.snapshot().bundles().get(&b()).unwrap().len() == 2).await;
    let held = || pair.a.identity.snapshot().bundles().get(&b()).unwrap().len();
    pair.a_fetches_until(|| held() == 2).await;
    let before = pair.b.identity.snapshot().leaf().serial.clone();
    pair.b.api.rotate();
    until("B signs with the new CA", || pair.b.identity.snapshot().leaf().serial != before).await;
    ping(&mut dial(&caller(&pair.b, A), &at_a).await).await.unwrap();
    ping(&mut old).await.unwrap();
    pair.retire_b().await;
    pair.a_fetches_until(|| held() == 1).await;
    let mut heard = [0; 7];
    soon("what the old CA signed is revoked", old.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"revoked");
    ping(&mut dial(&caller(&pair.b, A), &at_a).await).await.unwrap();
    assert!(pair.a.gauge("bundle_sequence", B) >= first + 2.0, "the number rises with each change");
}

#[tokio::test]
async fn d0_locked_out_by_a_fast_ca_change_and_let_in_by_a_new_bootstrap_file() {
    let pair = Pair::start().await;
    pair.rotate_b().await;
    pair.retire_b().await;
    let locked = refresh(&pair.a_federation, B).await.unwrap_err();
    assert!(matches!(locked, FetchError::LockedOut(_)), "{locked}");
    assert!(locked.to_string().contains("bootstrap_file"), "{locked}");
    assert!((pair.a.gauge("federation_locked_out", B) - 1.0).abs() < f64::EPSILON);
    assert_eq!(pair.a.source(B), Some("federation"), "the last good one stays");
    assert_eq!(pair.a_federation.status()[0].error.as_ref().unwrap().kind(), "locked_out");

    pair.b.bootstrap(pair.a.dir.path(), 1);
    refresh(&pair.a_federation, B).await.unwrap();
    assert!(pair.a.gauge("federation_locked_out", B).abs() < f64::EPSILON);
    let at_a = server(&pair.a).await;
    let ours = pair.b.identity.snapshot().bundles().get(&b()).unwrap().digest();
    until("the new root", || pair.a.identity.snapshot().bundles().get(&b()).unwrap().digest() == ours).await;
    ping(&mut dial(&caller(&pair.b, A), &at_a).await).await.unwrap();
}

#[tokio::test]
async fn d0_a_restart_with_every_partner_down_serves_from_disk() {
    let pair = Pair::start().await;
    let Pair { a, b: partner, a_federation, b_endpoint, .. } = pair;
    let (at, bootstrap) = (b_endpoint.address(), a.dir.path().join("b.example.bootstrap"));
    let sequence = a_federation.status()[0].sequence;
    drop((a_federation, b_endpoint));
    std::fs::remove_file(&bootstrap).unwrap();
    // A second process of the same organisation: another identity, the same disk.
    let registry = Registry::new();
    let again = dir_identity::Identity::obtain(workload(a.api.socket_uri()), a.clock.clone(), &registry);
    let again = again.await.unwrap();
    let config = FederationConfig {
        partners: vec![partner.as_partner(at, bootstrap.clone())],
        state_dir: Some(a.dir.path().join("federation")),
        ..FederationConfig::default()
    };
    let federation =
        Federation::start(config.clone(), again.clone(), a.clock.clone(), &registry).await.unwrap();
    let held =
        |identity: &dir_identity::Identity| identity.snapshot().bundles().get(&b()).map(|b| b.source());
    assert_eq!(held(&again), Some("federation"), "in force before anything is fetched");
    assert_eq!(federation.status()[0].sequence, sequence);
    let at_a = Server::start(again.clone(), AcceptorConfig::default(), a.clock.clone(), registry).await;
    ping(&mut dial(&caller(&partner, A), &at_a).await).await.unwrap();
    let down = refresh(&federation, B).await.unwrap_err();
    assert_eq!(down.kind(), "connect", "{down}");
    ping(&mut dial(&caller(&partner, A), &at_a).await).await.unwrap();

    // Damage on disk costs that bundle and nothing else.
    drop(federation);
    std::fs::write(a.dir.path().join("federation/b.example.json"), b"{\"trust_domain\":").unwrap();
    let registry = Registry::new();
    let identity = dir_identity::Identity::obtain(workload(a.api.socket_uri()), a.clock.clone(), &registry);
    let identity = identity.await.unwrap();
    let federation = Federation::start(config, identity.clone(), a.clock.clone(), &registry).await.unwrap();
    assert_eq!(held(&identity), None);
    assert!(federation.status()[0].source.is_none() && identity.health().is_ready());
}

#[tokio::test]
async fn d0_the_endpoint_must_be_exactly_the_configured_workload() {
    let (a, b) = tokio::join!(Org::start(A), Org::start(B));
    let endpoint = b.publish(anywhere()).await;
    let mut partner = b.as_partner(endpoint.address(), b.bootstrap(a.dir.path(), 1));
    let other = "spiffe://b.example/spire/server".parse().unwrap();
    partner.source.as_mut().unwrap().1 = Endpoint::HttpsSpiffe { id: other };
    let federation = a.federate(vec![partner]).await;
    let refused = refresh(&federation, B).await.unwrap_err();
    assert!(
        matches!(&refused, FetchError::Endpoint(text) if text.contains("spiffe://b.example/dir")),
        "{refused}"
    );
    assert_eq!(a.source(B), Some("bootstrap_file"), "the file counts until the first fetch");
}

#[tokio::test]
async fn d0_the_workload_api_goes_before_what_is_fetched() {
    let a = tempfile::tempdir().unwrap();
    let clock = clock();
    let domains =
        vec![domain(A, vec![svid("spiffe://a.example/dir", &[HOST])], &[B]), domain(B, vec![], &[])];
    let api =
        dir_identity::devapi::DevWorkloadApi::start(dev_config(&a.path().join("w"), domains), clock.clone());
    let api = api.await.unwrap();
    let registry = Registry::new();
    let identity =
        dir_identity::Identity::obtain(workload(api.socket_uri()), clock.clone(), &registry).await.unwrap();
    let file = a.path().join("b");
    let root = some_root(B);
    std::fs::write(&file, document([root.as_slice()].into_iter(), 1).to_string()).unwrap();
    let partners = vec![Partner { bootstrap_file: Some(file), ..Partner::new(b()) }];
    let config = FederationConfig { partners, ..FederationConfig::default() };
    let _federation = Federation::start(config, identity.clone(), clock, &registry).await.unwrap();
    let held = || identity.snapshot().bundles().get(&b()).unwrap().clone();
    assert_eq!(held().source(), "workload_api");
    assert!(held().roots().iter().all(|r| r.as_ref() != root), "never a union");
    api.federate(A, &[]);
    until("what we hold ourselves takes over", || held().source() == "bootstrap_file").await;
    assert_eq!(held().roots()[0].as_ref(), root);
    api.federate(A, &[B]);
    until("the Workload API is back", || held().source() == "workload_api").await;
}

#[tokio::test]
async fn d0_what_is_published_and_how_it_answers() {
    use tokio::io::AsyncWriteExt;
    let a = Org::start(A).await;
    let endpoint = a.publish(anywhere()).await;
    let ask = async |request: &str| {
        let tcp = TcpStream::connect(endpoint.address()).await.unwrap();
        let mut config = Crooked::nobody().config();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let mut io = tls.connect(name, tcp).await.unwrap();
        io.write_all(format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("GET /").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: application/json"),
        "{answer}"
    );
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    let published = BundleDocument::parse(text.as_bytes()).unwrap();
    assert_eq!(published.x509_roots, [a.api.material().svids[0].bundle.clone()]);
    let mut keys = a.api.jwt_keys(A).unwrap();
    assert_eq!(published.jwt_keys.len(), 1);
    for (kid, key) in &published.jwt_keys {
        assert_eq!((&key["use"], &key["kid"]), (&"jwt-svid".into(), &kid.as_str().into()));
        assert_eq!((&key["x"], &key["y"]), (&keys[0]["x"], &keys[0]["y"]));
    }
    let first = published.sequence;
    assert_eq!(ask("GET /.well-known/spiffe-bundle").await.split_once("\r\n\r\n").unwrap().1, text);
    assert!(ask("GET /other").await.starts_with("HTTP/1.1 404"));
    for method in ["POST", "HEAD", "DELETE"] {
        let answer = ask(&format!("{method} /")).await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET"), "{answer}");
    }
    // Another key beside it is another edition.
    a.api.rotate_jwt_key(A, true);
    keys = a.api.jwt_keys(A).unwrap();
    let newer = async {
        loop {
            let answer = ask("GET /").await;
            let now = BundleDocument::parse(answer.split_once("\r\n\r\n").unwrap().1.as_bytes()).unwrap();
            if now.jwt_keys.len() == keys.len() {
                break now;
            }
        }
    };
    let published = tokio::time::timeout(std::time::Duration::from_secs(30), newer).await.unwrap();
    assert!(published.sequence > first && keys.len() == 2, "{:?}", published.sequence);
    drop(endpoint);
    // A restart with unchanged keys is no new edition, not even much later.
    a.clock.shift(600);
    let endpoint = a.publish(anywhere()).await;
    let b = Org::start(B).await;
    let federation = b.federate(vec![a.as_partner(endpoint.address(), a.bootstrap(b.dir.path(), 1))]).await;
    refresh(&federation, A).await.unwrap();
    assert_eq!(federation.status()[0].sequence, published.sequence);
}
