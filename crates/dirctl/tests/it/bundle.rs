//! `dirctl bundle fetch` against our own endpoint, and against one that lies.

use crate::node::{Ran, nobody, run, workload_api};
use dir_identity::devapi::DevWorkloadApi;
use dir_identity::federation::{BundleEndpoint, PublishConfig, root_fingerprint};
use dir_identity::{Identity, WorkloadConfig};
use dir_runtime::SystemClock;
use prometheus::Registry;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DOMAIN: &str = "partner.example";
const ID: &str = "spiffe://partner.example/dir";

/// A partner that publishes its bundle.
struct Partner {
    url: String,
    fingerprint: String,
    _api: DevWorkloadApi,
    _endpoint: BundleEndpoint,
}

async fn partner(dir: &Path) -> Partner {
    let api = workload_api(dir, DOMAIN, ID).await;
    let workload = WorkloadConfig { socket: api.socket_uri(), ..WorkloadConfig::default() };
    let identity = Identity::obtain(workload, Arc::new(SystemClock), &Registry::new()).await.unwrap();
    let root = identity.snapshot().bundles().get(&DOMAIN.parse().unwrap()).unwrap().roots()[0].clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let endpoint = BundleEndpoint::start(
        listener,
        PublishConfig::default(),
        &identity,
        Arc::new(SystemClock),
        &Registry::new(),
    );
    Partner { url, fingerprint: root_fingerprint(&root), _api: api, _endpoint: endpoint.unwrap() }
}

async fn fetch(args: &[&str]) -> Ran {
    run(&[], &[&["bundle", "fetch"], args].concat(), b"").await
}

/// As people read it to each other.
fn spelled(fingerprint: &str) -> String {
    let pairs: Vec<_> =
        fingerprint.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).to_uppercase()).collect();
    pairs.join(":")
}

#[tokio::test]
async fn a_bundle_is_written_once_its_fingerprint_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let partner = partner(dir.path()).await;
    let base = [partner.url.as_str(), "--endpoint-id", ID];
    let file = dir.path().join("their bundle.json");
    let out = ["--out", file.to_str().unwrap()];

    // Nothing is known: shown, and never written.
    let ran = fetch(&base).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(&format!("sha256:{}", partner.fingerprint)), "{ran:?}");
    assert!(ran.stdout.contains("confirmed by   nothing") && ran.stderr.contains("not confirmed"), "{ran:?}");
    let ran = fetch(&[&base[..], &out].concat()).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("--fingerprint"), "{ran:?}");
    assert!(!file.exists());

    // Another fingerprint: somebody else may be answering.
    let wrong = "0".repeat(64);
    let ran = fetch(&[&base[..], &out, &["--fingerprint", &wrong, "--json"]].concat()).await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert_eq!(ran.json()["error"]["kind"], "wrong-identity", "{ran:?}");
    assert!(ran.stderr.contains(&wrong) && ran.stderr.contains(&partner.fingerprint), "{ran:?}");
    let both = ["--fingerprint", &partner.fingerprint, "--fingerprint", &wrong];
    assert_eq!(fetch(&[&base[..], &out, &both].concat()).await.code, Some(7));
    assert!(!file.exists());

    let known = spelled(&partner.fingerprint);
    let ran = fetch(&[&base[..], &out, &["--fingerprint", &known, "--json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    assert_eq!(
        (&told["confirmed_by"], &told["trust_domain"]),
        (&"fingerprint".into(), &DOMAIN.into()),
        "{told}"
    );
    assert_eq!(told["authorities"][0]["sha256"], partner.fingerprint, "{told}");
    assert_eq!(told["authorities"][0]["confirmed"], true, "{told}");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(document["keys"][0]["use"], "x509-svid", "{document}");

    // What was confirmed once judges the endpoint from then on, in either form.
    let pem = dir.path().join("roots.pem");
    let args =
        ["--bootstrap-file", file.to_str().unwrap(), "--format", "pem", "--out", pem.to_str().unwrap()];
    assert_eq!(fetch(&[&base[..], &args].concat()).await.code, Some(0));
    let args = ["--bootstrap-file", pem.to_str().unwrap(), "--out", "-"];
    let ran = fetch(&[&base[..], &args].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()["keys"], document["keys"]);
    assert!(ran.stderr.contains("confirmed by   bootstrap"), "{ran:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "no leftovers: the socket and both files");
}

/// An endpoint of the web that says what it is told to. Its certificate is for 127.0.0.1, in the file that is named.
async fn liar(dir: &Path, answer: String) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let ca = dir.join(format!("ca-{}.pem", answer.len()));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/bundle", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut io) = acceptor.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && io.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
            if answer.is_empty() {
                // Silent until the other side gives up.
                let _ = io.read(&mut [0]).await;
                continue;
            }
            let _ = io.write_all(answer.as_bytes()).await;
            let _ = io.shutdown().await;
        }
    });
    (url, ca.to_str().unwrap().to_owned())
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_impostor_with_the_right_document_has_no_right_svid() {
    let dir = tempfile::tempdir().unwrap();
    let partner = partner(dir.path()).await;
    let base =
        [partner.url.as_str(), "--endpoint-id", ID, "--fingerprint", &partner.fingerprint, "--out", "-"];
    let document = fetch(&base).await.stdout;
    let (url, _) = liar(dir.path(), http("200 OK", &document)).await;
    // What it shows has the right fingerprint, and it cannot prove itself by that authority.
    let ran = fetch(&[&[url.as_str()], &base[1..]].concat()).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
    // The right authority and another workload than the one that is named.
    let args = ["--endpoint-id", "spiffe://partner.example/other", "--fingerprint", &partner.fingerprint];
    let ran = fetch(&[&[partner.url.as_str()], &args[..]].concat()).await;
    assert!(ran.code == Some(7) && ran.stderr.contains("spiffe://partner.example/dir"), "{ran:?}");
    // The bundle of other authorities.
    let other = tempfile::tempdir().unwrap();
    let stranger = self::partner(other.path()).await;
    let file = other.path().join("b.json");
    let args = [&stranger.url, "--endpoint-id", ID, "--fingerprint", &stranger.fingerprint, "--out"];
    assert_eq!(fetch(&[&args[..], &[file.to_str().unwrap()]].concat()).await.code, Some(0));
    let ran = fetch(&[&partner.url, "--endpoint-id", ID, "--bootstrap-file", file.to_str().unwrap()]).await;
    assert!(ran.code == Some(7) && ran.stderr.contains("--fingerprint"), "{ran:?}");
}

#[tokio::test]
async fn endpoints_of_the_web_and_everything_that_is_no_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let web = async |answer: String| {
        let (url, ca) = liar(dir.path(), answer).await;
        let args =
            ["--https-web", "--trust-domain", DOMAIN, "--ca-file", &ca, "--timeout", "20s", "--out", "-"];
        fetch(&[&[url.as_str()], &args[..]].concat()).await
    };
    let home = tempfile::tempdir().unwrap();
    let partner = partner(home.path()).await;
    let base =
        [partner.url.as_str(), "--endpoint-id", ID, "--fingerprint", &partner.fingerprint, "--out", "-"];
    let document = fetch(&base).await.stdout;
    let ran = web(http("200 OK", &document)).await;
    assert!(ran.code == Some(0) && ran.json()["keys"].is_array(), "{ran:?}");
    assert!(ran.stderr.contains("confirmed by   web"), "{ran:?}");

    for (answer, code, words) in [
        (http("200 OK", "{}"), 4, "member \"keys\" is missing"),
        (http("200 OK", ""), 4, "not usable JSON"),
        (http("200 OK", "<html>"), 4, "not usable JSON"),
        (http("200 OK", "{\"keys\":[]}"), 4, "no X.509 authority"),
        (http("404 Not Found", ""), 1, "status 404"),
        (http("503 Unavailable", ""), 75, "status 503"),
        ("nonsense\r\n\r\n".to_owned(), 7, "no bundle endpoint"),
    ] {
        let ran = web(answer.clone()).await;
        assert_eq!(ran.code, Some(code), "{answer}: {ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains("next: "), "{answer}: {ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
    let (url, ca) = liar(dir.path(), http("200 OK", &document)).await;
    let args = ["--https-web", "--trust-domain", "other.example", "--ca-file", &ca];
    let ran = fetch(&[&[url.as_str()], &args[..]].concat()).await;
    assert!(ran.code == Some(7) && ran.stderr.contains("other.example"), "{ran:?}");
    // Without its authority it is nobody.
    let ran = fetch(&[&url, "--https-web", "--trust-domain", DOMAIN]).await;
    assert!(matches!(ran.code, Some(4 | 7)), "{ran:?}");

    let (silent, ca) = liar(dir.path(), String::new()).await;
    let args = ["--https-web", "--trust-domain", DOMAIN, "--ca-file", &ca, "--timeout", "300ms"];
    assert_eq!(fetch(&[&[silent.as_str()], &args[..]].concat()).await.code, Some(75));
    let (_held, address) = nobody();
    let ran = fetch(&[&format!("https://{address}/"), "--endpoint-id", ID]).await;
    assert!(ran.code == Some(3) && ran.stderr.contains(&address), "{ran:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_said_before_anybody_is_asked() {
    let good = "https://127.0.0.1:1/";
    for (args, code) in [
        (&[good][..], 2),
        (&[good, "--endpoint-id", "partner.example"], 2),
        (&[good, "--endpoint-id", ID, "--https-web", "--trust-domain", DOMAIN], 2),
        (&[good, "--https-web"], 2),
        (&[good, "--endpoint-id", ID, "--fingerprint", "abc"], 2),
        (&[good, "--endpoint-id", ID, "--trust-domain", "other.example"], 2),
        (&[good, "--endpoint-id", ID, "--ca-file", "x"], 2),
        (&[good, "--endpoint-id", ID, "--bootstrap-file", "/absent"], 4),
        (&["http://127.0.0.1:1/", "--endpoint-id", ID], 4),
        (&["partner.example:8443", "--endpoint-id", ID], 4),
        (&["https://user:secret@127.0.0.1:1/", "--endpoint-id", ID], 4),
        (&["https://169.254.169.254/", "--endpoint-id", ID], 4),
    ] {
        let ran = fetch(args).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
    }
}
