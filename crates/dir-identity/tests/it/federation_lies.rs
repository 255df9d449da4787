//! Partners that are down, slow, lying or rolled back: the last good bundle stays, and nobody else notices.

use crate::federation_support::*;
use crate::support::*;
use dir_identity::federation::*;
use serde_json::json;
use std::time::Duration;

const LIAR: &str = "liar.example";

/// A node with one honest partner (a file) and a liar that was honest once, with sequence 5.
async fn deceived() -> (Org, Liar, Federation, serde_json::Value) {
    let (a, b, liar) = tokio::join!(Org::start(A), Org::start(B), Liar::start());
    let root = some_root(LIAR);
    let honest = document([root.as_slice()].into_iter(), 5);
    let said = ok(&honest);
    liar.say(move |_| said.clone());
    let partner =
        Partner { bootstrap_file: Some(b.bootstrap(a.dir.path(), 1)), ..Partner::new(B.parse().unwrap()) };
    let config = FederationConfig {
        partners: vec![partner, liar.as_partner(LIAR)],
        state_dir: Some(a.dir.path().join("federation")),
        tick: Duration::from_millis(5),
        fetch_limit: Duration::from_secs(5),
        ..FederationConfig::default()
    };
    let federation = a.federate_with(config).await.unwrap();
    refresh(&federation, LIAR).await.unwrap();
    until("fetched", || a.source(LIAR) == Some("federation")).await;
    (a, liar, federation, honest)
}

fn with_body_of(len: usize) -> Vec<u8> {
    let mut body = b"{\"keys\":[],\"spiffe_sequence\":5}".to_vec();
    body.resize(len, b' ');
    http("200 OK", "", &body)
}

#[tokio::test]
async fn d0_no_lie_changes_what_is_held() {
    let (a, liar, federation, honest) = deceived().await;
    let held = || a.identity.snapshot().bundles().get(&LIAR.parse().unwrap()).unwrap().digest();
    let (good, generation) = (held(), a.identity.snapshot().generation());
    let foreign = some_root("other.example");
    let own = a.api.material().svids[0].bundle.clone();
    let older = {
        let mut d = honest.clone();
        d["spiffe_sequence"] = 4.into();
        d
    };
    let unnumbered = json!({"keys": honest["keys"]});
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("document", http("200 OK", "", b"<html>hello</html>")),
        ("document", http("200 OK", "", b"{\"keys\":[],\"keys\":[]}")),
        ("document", http("200 OK", "", b"")),
        ("status", http("500 Internal Server Error", "", b"")),
        ("status", http("204 No Content", "", b"")),
        ("status", http("302 Found", "", b"")),
        ("sequence", ok(&older)),
        ("sequence", ok(&unnumbered)),
        ("other_domain", ok(&document([foreign.as_slice()].into_iter(), 9))),
        ("other_domain", ok(&document([own.as_slice()].into_iter(), 9))),
        ("too_long", with_body_of(DOCUMENT_MAX + 1)),
        ("redirects", http("302 Found", "location: /again\r\n", b"")),
        ("url", http("302 Found", "location: http://localhost/\r\n", b"")),
        ("url", http("302 Found", "location: https://u:p@localhost/\r\n", b"")),
        ("address", http("302 Found", "location: https://169.254.169.254/latest\r\n", b"")),
        ("address", http("307 Temporary Redirect", "location: https://[fe80::1]/\r\n", b"")),
        ("protocol", b"SSH-2.0-hello\r\n\r\n".to_vec()),
        ("protocol", b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"keys\":[".to_vec()),
    ];
    for (count, (kind, lie)) in (1_u32..).zip(lies) {
        let shown = String::from_utf8_lossy(&lie[..lie.len().min(120)]).into_owned();
        liar.say(move |_| lie.clone());
        let error = refresh(&federation, LIAR).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert!(!error.to_string().contains("u:p"), "no password in an error: {error}");
        assert_eq!(held(), good, "{shown}");
        let status = federation.status().remove(1);
        assert_eq!((status.failures, status.sequence), (count, Some(5)));
    }
    assert_eq!(a.identity.snapshot().generation(), generation, "nobody noticed");
    assert_eq!(a.source(B), Some("bootstrap_file"));
    assert!(a.identity.health().is_ready(), "no partner touches readiness");
    assert!(a.gauge("federation_failures", LIAR) > 17.5);

    // At its edge the limit lets through; what it says (no keys) counts: the domain is trusted no more.
    liar.say(|_| with_body_of(DOCUMENT_MAX));
    refresh(&federation, LIAR).await.unwrap();
    until("no keys left", || a.identity.snapshot().bundles().get(&LIAR.parse().unwrap()).unwrap().is_empty())
        .await;
    assert_eq!(federation.status()[1].failures, 0);
}

#[tokio::test]
async fn d0_redirects_are_followed_three_times() {
    let (_a, liar, federation, honest) = deceived().await;
    let hops = |last: &'static str| {
        let found = ok(&honest);
        move |path: &str| match path {
            "/bundle" => http("301 Moved", "location: /1\r\n", b""),
            "/1" => http("302 Found", "location: 2\r\n", b""),
            "/2" => http("308 Permanent", "location: /3\r\n", b""),
            path if path == last => found.clone(),
            _ => http("307 Temporary", "location: /4\r\n", b""),
        }
    };
    liar.say(hops("/3"));
    refresh(&federation, LIAR).await.unwrap();
    liar.say(hops("/4"));
    assert_eq!(refresh(&federation, LIAR).await, Err(FetchError::Redirects(3)));
}

#[tokio::test]
async fn d0_a_slow_partner_is_given_up_and_others_are_fetched_meanwhile() {
    let (a, slow, quick) = tokio::join!(Org::start(A), Liar::start(), Liar::start());
    slow.say(|_| Vec::new());
    let root = some_root(B);
    let said = ok(&document([root.as_slice()].into_iter(), 1));
    quick.say(move |_| said.clone());
    let limit = Duration::from_millis(300);
    let config = FederationConfig {
        partners: vec![slow.as_partner(LIAR), quick.as_partner(B)],
        fetch_limit: limit,
        tick: Duration::from_millis(5),
        ..FederationConfig::default()
    };
    let federation = a.federate_with(config).await.unwrap();
    until("the quick one is there", || a.source(B) == Some("federation")).await;
    assert_eq!(refresh(&federation, LIAR).await, Err(FetchError::Timeout(limit)));
}

#[tokio::test]
async fn d0_the_clock_decides_when_to_look_and_when_a_bundle_is_stale() {
    let (a, liar, federation, honest) = deceived().await;
    let asked = liar.times_asked();
    // The hint is 60 s, give or take a tenth.
    a.clock.shift(67);
    until("looked again", || liar.times_asked() > asked).await;
    until("noted", || federation.status()[1].next_fetch.secs() > dir_core::Clock::now(&*a.clock).secs() + 50)
        .await;
    liar.say(|_| http("503 Away", "", b""));
    let (day, week) = (24 * 3600, 7 * 24 * 3600);
    a.clock.shift(week - day);
    until("failing", || federation.status()[1].failures > 0).await;
    assert_eq!(a.source(LIAR), Some("federation"), "the last good one serves");
    assert!(a.gauge("bundle_age_seconds", LIAR) > 5.0 * 24.0 * 3600.0, "its age shows");
    a.clock.shift(week + 100);
    until("untrusted", || a.source(LIAR).is_none()).await;
    assert!(federation.status()[1].stale && a.gauge("federation_stale", LIAR) > 0.5);
    let newer = {
        let mut d = honest;
        d["spiffe_sequence"] = 6.into();
        ok(&d)
    };
    liar.say(move |_| newer.clone());
    refresh(&federation, LIAR).await.unwrap();
    until("trusted again", || a.source(LIAR) == Some("federation")).await;
    assert!(a.gauge("federation_stale", LIAR) < 0.5);
}

#[tokio::test]
async fn d0_a_stranger_with_another_certificate_is_not_believed() {
    let (a, honest, stranger) = tokio::join!(Org::start(A), Liar::start(), Liar::start());
    stranger.say(|_| ok(&json!({"keys": []})));
    let mut partner = stranger.as_partner(LIAR);
    partner.source.as_mut().unwrap().1 = Endpoint::HttpsWeb { ca_file: Some(honest.ca_file.clone()) };
    let federation = a.federate(vec![partner]).await;
    assert_eq!(refresh(&federation, LIAR).await.unwrap_err().kind(), "endpoint");
    assert_eq!(stranger.times_asked(), 0);
}

#[tokio::test]
async fn d0_what_the_configuration_is_refused_for() {
    let a = Org::start(A).await;
    let partner = |name: &str, url: &str| Partner {
        source: Some((url.parse().unwrap(), Endpoint::HttpsWeb { ca_file: None })),
        ..Partner::new(name.parse().unwrap())
    };
    let good = "https://x.example/";
    for (partners, wanted) in [
        (vec![partner(A, good)], "our own trust domain"),
        (vec![partner(B, good), partner(B, good)], "twice"),
        (vec![Partner::new(B.parse().unwrap())], "needs a url"),
        (vec![partner(B, "http://x.example/")], "only https"),
        (vec![partner(B, "https://user:word@x.example/")], "a user or password"),
    ] {
        let config = FederationConfig { partners, ..FederationConfig::default() };
        let error = a.federate_with(config).await.unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("word@"), "{error}");
    }
    // A link-local address is no fault of the text, but it is never dialled.
    let federation = a.federate(vec![partner(B, "https://169.254.169.254/latest/meta-data")]).await;
    assert_eq!(refresh(&federation, B).await.unwrap_err().kind(), "address");
}

#[tokio::test]
async fn d0_a_dozen_partners() {
    let a = Org::start(A).await;
    let partners: Vec<Partner> = (0..12)
        .map(|n| {
            let name = format!("p{n}.example");
            let file = a.dir.path().join(&name);
            let root = some_root(&name);
            std::fs::write(&file, document([root.as_slice()].into_iter(), 1).to_string()).unwrap();
            Partner { bootstrap_file: Some(file), ..Partner::new(name.parse().unwrap()) }
        })
        .collect();
    let federation = a.federate(partners).await;
    assert_eq!(a.identity.snapshot().bundles().len(), 13, "in force when the start returns");
    assert_eq!(federation.status().len(), 12);
}
