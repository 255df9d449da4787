//! Modes jwt, jwt-tls and token: what goes over the wire, when it is renewed, and what is refused before anything does.

use crate::fake::{Conn, Fake, Say, stored};
use crate::files::{self, Authority, push};
use dir_client::wire::{WatchRequest, WatchResponse};
use dir_client::{AuthMode, Client, ClientConfig, Document, Kind, Source, TlsFiles};
use dir_core::{Clock, Timestamp, TokenVerifier};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{
    AcceptorConfig, ClientCertificate, Identity, JwtConfig, JwtVerifier, WorkloadConfig, accept_loop,
};
use dir_runtime::SystemClock;
use futures::StreamExt;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;

const ID: &str = "spiffe://example.org/w";
const AUDIENCE: &str = "https://dir.example";

/// The system's time, ahead by so many seconds.
#[derive(Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst) * 1000)
    }
}

async fn workload(dir: &tempfile::TempDir) -> DevWorkloadApi {
    let svid = DevSvid { spiffe_id: ID.into(), dns_names: vec!["localhost".into()], hint: String::new() };
    let domain = DevDomain { name: "example.org".into(), svids: vec![svid], federates_with: Vec::new() };
    let hour = Duration::from_secs(3600);
    let socket = dir.path().join("w.sock");
    let config = DevConfig { socket, trust_domains: vec![domain], svid_ttl: hour, ca_ttl: hour * 24 };
    DevWorkloadApi::start(config, Arc::new(SystemClock)).await.unwrap()
}

/// A server with an SVID that asks for no certificate, and a verifier of its tokens.
struct World {
    _dir: tempfile::TempDir,
    api: DevWorkloadApi,
    verifier: JwtVerifier,
    fake: Fake,
}

async fn world(script: impl Fn(usize, usize, &bytes::Bytes) -> Say + Send + Sync + 'static) -> World {
    let dir = tempfile::tempdir().unwrap();
    let api = workload(&dir).await;
    let registry = prometheus::Registry::new();
    let config = WorkloadConfig { socket: api.socket_uri(), ..WorkloadConfig::default() };
    let identity = Identity::obtain(config, Arc::new(SystemClock), &registry).await.unwrap();
    let config = JwtConfig { audiences: vec![AUDIENCE.into()], ..JwtConfig::default() };
    let verifier = JwtVerifier::obtain(&identity, config, &registry).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor =
        AcceptorConfig { client_certificate: ClientCertificate::NotAsked, ..AcceptorConfig::default() };
    let stop = CancellationToken::new();
    let accepted = accept_loop(listener, identity, acceptor, Arc::new(SystemClock), &registry, stop);
    let incoming =
        accepted.map(|accepted| std::io::Result::Ok(Conn { io: accepted.io, _held: accepted.revoked }));
    World { _dir: dir, api, verifier, fake: Fake::over(address, incoming, script) }
}

fn config(mode: AuthMode, socket: &str, address: &str) -> ClientConfig {
    ClientConfig {
        server_addr: address.to_owned(),
        server_addr_source: Source::Flag("--server-addr"),
        auth_mode: mode,
        spiffe_socket: Some(socket.to_owned()),
        jwt_audience: Some(AUDIENCE.to_owned()),
        identity_timeout: Duration::from_millis(800),
        ..ClientConfig::default()
    }
}

fn document() -> Document {
    Document::from_json(b"{}").unwrap()
}

/// The tokens that were shown.
fn tokens(fake: &Fake) -> Vec<String> {
    let shown = fake.shown.lock().unwrap();
    shown.iter().map(|h| h.as_ref().unwrap().strip_prefix("Bearer ").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn jwt_shows_a_token_with_every_call_and_renews_it_half_way() {
    let world = world(|_, _, message| stored(message)).await;
    let clock = Arc::new(Ahead::default());
    let config = config(AuthMode::Jwt, &world.api.socket_uri(), &world.fake.address);
    let client = Client::new(config, clock.clone()).await.unwrap();
    assert_eq!(client.identity().unwrap().id.as_str(), ID);
    let push = || client.push_one(document());
    push().await.unwrap();
    push().await.unwrap();
    let shown = tokens(&world.fake);
    assert_eq!(world.verifier.verify(&shown[0], SystemClock.now()).unwrap().id.as_str(), ID);
    assert_eq!(shown[0], shown[1], "kept while it is young");

    clock.0.store(160, Ordering::SeqCst);
    push().await.unwrap();
    let shown = tokens(&world.fake);
    assert_ne!(shown[1], shown[2], "renewed half way through its five minutes");

    // Half way through the second one, and the agent is gone: it serves until it ends.
    world.api.vanish().await;
    clock.0.store(240, Ordering::SeqCst);
    push().await.unwrap();
    assert_eq!(tokens(&world.fake)[3], shown[2]);
    clock.0.store(400, Ordering::SeqCst);
    let error = push().await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoSvid, "{error}");
    assert!(error.what().contains(AUDIENCE) && error.cause().contains("socket absent"), "{error}");
    assert_eq!(tokens(&world.fake).len(), 4, "nothing is called without a token");
    world.api.appear().await.unwrap();
    // Tokens of this moment have ended where the clock is so far ahead; back in time all is well.
    clock.0.store(0, Ordering::SeqCst);
    push().await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let refusals = Arc::new(AtomicUsize::new(1));
    let left = refusals.clone();
    let world = world(move |_, _, message| {
        let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if refuse { Say::End(Status::unauthenticated("invalid or expired token")) } else { stored(message) }
    })
    .await;
    let config = config(AuthMode::Jwt, &world.api.socket_uri(), &world.fake.address);
    let client = Client::new(config, Arc::new(SystemClock)).await.unwrap();
    client.push_one(document()).await.unwrap();
    let shown = tokens(&world.fake);
    assert!(shown.len() == 2 && shown[0] != shown[1]);
    refusals.store(2, Ordering::SeqCst);
    let error = client.push_one(document()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
    for token in tokens(&world.fake) {
        let text = format!("{error} {error:?} {client:?}");
        assert!(!text.contains(&token), "errors show no token");
    }
}

#[tokio::test]
async fn a_watch_shows_tokens_and_outlives_the_one_it_began_with() {
    // The first stream is ended, the second one with its token, the third one's token is not taken, the fourth goes on.
    let world = world(|stream, _, _| match stream {
        0 | 3 => {
            Say::Answer(WatchResponse { seq: 7 + stream as u64, ..Default::default() }.encode_to_vec().into())
        }
        1 => Say::End(Status::unauthenticated("identity expired")),
        _ => Say::End(Status::unauthenticated("invalid or expired token")),
    })
    .await;
    let config = config(AuthMode::Jwt, &world.api.socket_uri(), &world.fake.address);
    let client = Client::new(config, Arc::new(SystemClock)).await.unwrap();
    let mut watch = client.watch(WatchRequest::default());
    assert_eq!(watch.next(|_, _| ()).await.unwrap().seq, 7);
    let mut waits = Vec::new();
    assert_eq!(watch.next(|error, _| waits.push(error.kind())).await.unwrap().seq, 10);
    assert_eq!(waits, [Kind::Unavailable, Kind::Unauthenticated, Kind::Unauthenticated]);
    let shown = tokens(&world.fake);
    assert_eq!(shown.len(), 4);
    assert!(shown[1] != shown[2] && shown[2] != shown[3], "a token that was refused is shown no more");
    for token in shown {
        world.verifier.verify(&token, SystemClock.now()).unwrap();
    }
}

#[tokio::test]
async fn jwt_checks_the_server_by_its_bundle_and_shows_nothing_to_others() {
    let world = world(|_, _, message| stored(message)).await;
    let expected = ClientConfig {
        expected_server: "spiffe://example.org/other".parse().unwrap(),
        ..config(AuthMode::Jwt, &world.api.socket_uri(), &world.fake.address)
    };
    assert_eq!(push(expected).await.unwrap_err().kind(), Kind::WrongIdentity);
    let web = files::server(&Authority::new(), false).await;
    let error = push(config(AuthMode::Jwt, &world.api.socket_uri(), &web.address)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoUriSan, "{error}");
    assert!(world.fake.shown.lock().unwrap().is_empty() && web.shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn tokens_travel_in_tls_alone_and_need_an_audience_and_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload(&dir).await;
    let plain = Fake::start(|_, _, message| stored(message)).await;
    for mode in [AuthMode::Jwt, AuthMode::JwtTls] {
        let config = |address: &str| config(mode, &api.socket_uri(), address);
        let error = push(config(&format!("grpc://{}", plain.address))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.cause().contains(&format!("auth mode {mode} needs TLS")), "{error}");
        // A server that speaks plaintext is shown nothing.
        let error = push(config(&plain.address)).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Protocol | Kind::Disconnected), "{error}");
        assert!(plain.shown.lock().unwrap().is_empty());

        let none = ClientConfig { jwt_audience: None, ..config("localhost:1") };
        let error = push(none).await.unwrap_err();
        assert!(error.kind() == Kind::Config && error.next_step().contains("--jwt-audience"), "{error}");
        let none = ClientConfig { spiffe_socket: None, ..config("localhost:1") };
        let error = push(none).await.unwrap_err();
        assert!(error.what() == format!("auth mode {mode}") && error.cause().contains("socket"), "{error}");
    }
    let local = dir.path().join("l.sock");
    let _listener = tokio::net::UnixListener::bind(&local).unwrap();
    let address = format!("unix://{}", local.display());
    let error = push(config(AuthMode::Jwt, &api.socket_uri(), &address)).await.unwrap_err();
    assert!(error.kind() == Kind::Config && error.cause().contains("goes over TCP"), "{error}");
}

#[tokio::test]
async fn jwt_tls_goes_through_a_proxy_with_a_certificate_of_the_web() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload(&dir).await;
    let (ours, theirs) = (Authority::new(), Authority::new());
    let front = files::server(&ours, false).await;
    let config = |authority: Option<&Authority>, address: &str| {
        let path = dir.path().join("roots.pem");
        let ca = authority.map(|a| {
            std::fs::write(&path, &a.pem).unwrap();
            path.clone()
        });
        let tls = TlsFiles { ca, ..TlsFiles::default() };
        ClientConfig { tls, ..config(AuthMode::JwtTls, &api.socket_uri(), address) }
    };
    push(config(Some(&ours), &front.address)).await.unwrap();
    push(config(Some(&ours), &format!("grpcs://{}", front.address))).await.unwrap();
    let shown = tokens(&front);
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0].split('.').count(), 3);

    // The file replaces the public roots, and neither they nor strangers vouch for this server.
    for authority in [Some(&theirs), None] {
        let error = push(config(authority, &front.address)).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::TlsUntrusted | Kind::Config), "{error}");
    }
    let by_address = front.address.replace("localhost", "127.0.0.1");
    assert_eq!(push(config(Some(&ours), &by_address)).await.unwrap_err().kind(), Kind::TlsName);
    assert_eq!(tokens(&front).len(), 2, "no token without a good handshake");

    api.vanish().await;
    let error = push(config(Some(&ours), &front.address)).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::NoSvid, 6), "{error}");
}

#[tokio::test]
async fn token_takes_certificate_key_and_roots_from_one_file() {
    use data_encoding::BASE64;
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = files::server(&ours, true).await;
    let path = dir.path().join("token.json");
    let (leaf, key) = ours.leaf("client");
    let secret = BASE64.encode(&key.serialize_der());
    let file = |root: &Authority| {
        serde_json::json!([{
            "x509_svid": [BASE64.encode(leaf.der())],
            "private_key": secret,
            "root_cas": [BASE64.encode(&root.der)],
        }])
        .to_string()
    };
    let config = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ClientConfig { spiffe_token: Some(path.clone()), ..config(AuthMode::Token, "", &server.address) }
    };
    push(config(&file(&ours))).await.unwrap();
    assert!(server.shown.lock().unwrap().iter().all(Option::is_none), "the certificate is the credential");
    assert_eq!(push(config(&file(&theirs))).await.unwrap_err().kind(), Kind::TlsUntrusted);
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        file(&ours).replace("root_cas", "roots"),
        file(&ours).replace(&secret, &format!("{secret}!")),
        file(&ours).replace(&secret, "AAAA"),
        format!("[{{\"private_key\": {secret}"),
    ] {
        let error = push(config(&text)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains(&secret[..20]), "no key in errors");
    }
    let error = push(ClientConfig { spiffe_token: None, ..config("[]") }).await.unwrap_err();
    assert!(error.next_step().contains("--spiffe-token"), "{error}");
}
