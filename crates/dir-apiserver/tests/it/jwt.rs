//! Mode `jwt` on a running node: what each token is answered, over real TLS, and how long it is good for.

use crate::client::{record, store};
use crate::node::{Node, PATIENCE, get, until};
use dir_core::Clock;
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_proto::agntcy::dir::core::v1::RecordRef;
use dir_proto::agntcy::dir::events::v1::ListenRequest;
use dir_proto::agntcy::dir::events::v1::event_service_client::EventServiceClient;
use dir_proto::directory::info::v1::server_info_service_client::ServerInfoServiceClient;
use dir_proto::directory::info::v1::{AuthMode, GetServerInfoRequest};
use dir_runtime::SystemClock;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const OWN: &str = "acme.example";
const PARTNER: &str = "partner.example";
const CLIENT: &str = "spiffe://acme.example/ns/dir/sa/client";
/// Everything for our own, reading for the partner.
const POLICY: &str = "p,acme.example,*\np,partner.example,/agntcy.dir.store.v1.StoreService/Pull\n";

fn domain(name: &str, id: &str, with: &[&str]) -> DevDomain {
    let svid =
        DevSvid { spiffe_id: id.to_owned(), dns_names: vec!["localhost".to_owned()], hint: String::new() };
    DevDomain {
        name: name.to_owned(),
        svids: vec![svid],
        federates_with: with.iter().map(|w| (*w).to_owned()).collect(),
    }
}

fn dev(dir: &TempDir, name: &str, trust_domains: Vec<DevDomain>) -> DevConfig {
    let hour = Duration::from_secs(3600);
    DevConfig { socket: dir.path().join(name), trust_domains, svid_ttl: hour, ca_ttl: hour * 24 }
}

/// A node in mode `jwt` with a Workload API that signs whatever a test wants.
struct World {
    dir: TempDir,
    api: DevWorkloadApi,
    node: Node,
    channel: Channel,
}

impl World {
    async fn start(vars: &[(&str, &str)]) -> Self {
        Self::governed("policy.csv", POLICY, vars).await
    }

    /// With another policy.
    async fn governed(name: &str, policy: &str, vars: &[(&str, &str)]) -> Self {
        let dir = tempdir().unwrap();
        let partner = DevDomain { svids: Vec::new(), ..domain(PARTNER, "", &[]) };
        let own = domain(OWN, "spiffe://acme.example/ns/dir/sa/apiserver", &[PARTNER]);
        let api =
            DevWorkloadApi::start(dev(&dir, "w", vec![own, partner]), Arc::new(SystemClock)).await.unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, policy).unwrap();
        let (socket, policy) = (api.socket_uri(), path.display().to_string());
        let set = [
            "authn.enabled=true".to_owned(),
            "authn.mode=jwt".to_owned(),
            "authn.audiences=https://dir.example,second".to_owned(),
            format!("authn.socket_path={socket}"),
            "authz.enabled=true".to_owned(),
            format!("authz.enforcer_policy_file_path={policy}"),
            format!("audit.path={}", dir.path().join("audit.jsonl").display()),
            "audit.output=file".to_owned(),
        ];
        let args: Vec<&str> = set.iter().flat_map(|s| ["--set", s.as_str()]).collect();
        let mut node = Node::spawn(dir.path(), &args, vars);
        node.ready();
        let channel = channel(node.grpc(), &socket).await;
        Self { dir, api, node, channel }
    }

    /// A token that is good but for a change of its claims.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        self.api.sign_jwt(OWN, &json!({}), &claims(change)).unwrap()
    }

    fn headed(&self, header: &Value) -> String {
        self.api.sign_jwt(OWN, header, &claims(|_| {})).unwrap()
    }

    /// What pushing a record is answered with these `authorization` values.
    async fn push(&self, values: &[&str]) -> Result<String, Status> {
        let mut request = Request::new(tokio_stream::iter(vec![record("a")]));
        authorize(&mut request, values);
        let mut answers = store(&self.channel).push(request).await?.into_inner();
        answers.next().await.unwrap().map(|r| r.cid)
    }

    async fn push_with(&self, token: &str) -> Result<String, Status> {
        self.push(&[&format!("Bearer {token}")]).await
    }

    /// A stream that says nothing by itself.
    async fn listen(
        &self,
        token: &str,
    ) -> tonic::Streaming<dir_proto::agntcy::dir::events::v1::ListenResponse> {
        let mut request = Request::new(ListenRequest::default());
        authorize(&mut request, &[&format!("Bearer {token}")]);
        EventServiceClient::new(self.channel.clone()).listen(request).await.unwrap().into_inner()
    }

    fn sample(&mut self, parts: &[&str]) -> Option<f64> {
        let page = get(self.node.ops(), "/metrics")?.1;
        let line = page.lines().find(|l| parts.iter().all(|p| l.contains(p)))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// Good claims, with a change.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let now = SystemClock.now().secs();
    let mut claims = json!({ "sub": CLIENT, "aud": "https://dir.example", "iat": now, "exp": now + 300 });
    change(&mut claims);
    claims
}

fn authorize<T>(request: &mut Request<T>, values: &[&str]) {
    for value in values {
        request.metadata_mut().append("authorization", MetadataValue::try_from(*value).unwrap());
    }
}

/// TLS without a certificate of ours; the server is checked by its SPIFFE ID.
async fn channel(port: u16, socket: &str) -> Channel {
    let config = WorkloadConfig { socket: socket.to_owned(), ..WorkloadConfig::default() };
    let identity =
        Identity::obtain(config, Arc::new(SystemClock), &prometheus::Registry::new()).await.unwrap();
    let connector = Connector::without_certificate(identity, ServerCheck::default());
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let io = TcpStream::connect(("127.0.0.1", port)).await?;
            anyhow::Ok(TokioIo::new(connector.connect(io, "localhost").await?))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://localhost:{port}")).unwrap();
    endpoint.connect_with_connector_lazy(connect)
}

fn told(outcome: Result<String, Status>) -> (Code, String) {
    let status = outcome.expect_err("the call was let in");
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn j_the_message_of_every_refusal() {
    let mut world = World::start(&[]).await;
    let no_header = "failed to extract token: missing authorization header";
    let form = "failed to extract token: invalid authorization header format";
    let invalid = "invalid or expired token";
    let good = world.token(|_| {});
    let now = SystemClock.now().secs();
    assert_eq!(told(world.push(&[]).await), (Code::Unauthenticated, no_header.to_owned()));
    for value in [good.as_str(), "Bearer", "Bearer ", "Basic YTpi", "Bearer a b"] {
        assert_eq!(told(world.push(&[value]).await), (Code::Unauthenticated, form.to_owned()), "{value}");
    }
    let cut = &good[..good.len() - 8];
    let foreign = |api: &DevWorkloadApi, sub: &str, key: &str| {
        api.sign_jwt(key, &json!({}), &claims(|c| c["sub"] = json!(sub))).unwrap()
    };
    for (row, token) in [
        ("garbage", "garbage".to_owned()),
        ("garbage", "a.b.c".to_owned()),
        ("signature", format!("{cut}AAAAAAAA")),
        ("expired", world.token(|c| c["exp"] = json!(now - 120))),
        ("not yet valid", world.token(|c| c["nbf"] = json!(now + 300))),
        ("wrong aud", world.token(|c| c["aud"] = json!("https://other.example"))),
        ("alg none", world.headed(&json!({ "alg": "none" }))),
        ("HS256", world.headed(&json!({ "alg": "HS256" }))),
        ("unknown kid", world.headed(&json!({ "kid": "unknown" }))),
        ("no SPIFFE ID", world.token(|c| c["sub"] = json!("alice"))),
        ("foreign domain without bundle", foreign(&world.api, "spiffe://nobody.example/w", OWN)),
        ("our name under the key of a partner", foreign(&world.api, CLIENT, PARTNER)),
        ("too long", world.token(|c| c["padding"] = json!("x".repeat(8 * 1024)))),
    ] {
        let answer = told(world.push_with(&token).await);
        assert_eq!(answer, (Code::Unauthenticated, invalid.to_owned()), "{row}");
    }
    for reason in ["missing_header", "header_format", "malformed", "expired", "audience", "algorithm"] {
        let count = world.sample(&["authn_failures_total{", &format!("\"{reason}\"")]);
        assert!(count.is_some_and(|c| c >= 1.0), "{reason}: {count:?}");
    }
    world.push_with(&good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn j_tokens_that_pass_and_whom_they_speak_for() {
    let world = World::start(&[]).await;
    let (now, good) = (SystemClock.now().secs(), world.token(|_| {}));
    // Lower case; a second value is nobody's; the second audience; a little late.
    world.push(&[&format!("bearer {good}")]).await.unwrap();
    world.push(&[&format!("Bearer {good}"), "Bearer garbage"]).await.unwrap();
    let answer = told(world.push(&["Bearer garbage", &format!("Bearer {good}")]).await);
    assert_eq!(answer.1, "invalid or expired token");
    world.push_with(&world.token(|c| c["aud"] = json!(["x", "second"]))).await.unwrap();
    world.push_with(&world.token(|c| c["exp"] = json!(now - 5))).await.unwrap();

    // A federated caller is who it is, on the connection that others use too: the policy lets it read.
    let partner = claims(|c| c["sub"] = json!("spiffe://partner.example/w"));
    let partner = world.api.sign_jwt(PARTNER, &json!({}), &partner).unwrap();
    let answer = told(world.push_with(&partner).await);
    let text = "not allowed to access /agntcy.dir.store.v1.StoreService/Push";
    assert_eq!(answer, (Code::PermissionDenied, text.to_owned()));
    let cid = world.push_with(&good).await.unwrap();
    let mut pull = Request::new(tokio_stream::iter(vec![RecordRef { cid: cid.clone() }]));
    authorize(&mut pull, &[&format!("Bearer {partner}")]);
    let mut pulled = store(&world.channel).pull(pull).await.unwrap().into_inner();
    pulled.next().await.unwrap().unwrap();

    // The audit log names both.
    let audit = world.dir.path().join("audit.jsonl");
    let line = |id: &str, method: &str, decision: &str| {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|l| {
            l["spiffe_id"] == id
                && l["method"].as_str().is_some_and(|m| m.ends_with(method))
                && l["decision"] == decision
        })
    };
    until("audit of the client", || line(CLIENT, "/Push", "allow"));
    until("audit of the partner", || line("spiffe://partner.example/w", "/Push", "deny"));
    let pull = until("its pull", || line("spiffe://partner.example/w", "/Pull", "allow"));
    assert_eq!(
        (&pull["principal"], &pull["trust_domain"]),
        (&json!("spiffe://partner.example/w"), &json!(PARTNER))
    );
    assert_eq!(pull["actor"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn j_a_token_that_expires_ends_the_stream() {
    let world = World::start(&[]).await;
    let now = SystemClock.now().secs();
    let mut stream = world.listen(&world.token(|c| c["exp"] = json!(now + 3))).await;
    let mut other = world.listen(&world.token(|_| {})).await;
    let end = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "identity expired"));
    assert!(SystemClock.now().secs() >= now + 3, "not before its end");
    // Its connection, and the other streams on it, go on.
    world.push_with(&world.token(|_| {})).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, other.next()).await.unwrap().unwrap();
    assert!(event.is_ok(), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j_keys_that_are_withdrawn_end_the_stream() {
    let world = World::start(&[]).await;
    let partner = claims(|_| {});
    let mut stream = world.listen(&world.api.sign_jwt(OWN, &json!({}), &partner).unwrap()).await;
    // Another key beside the old one changes nothing for it.
    world.api.rotate_jwt_key(OWN, true);
    until("the new key", || world.node.log().matches("JWT bundles changed").nth(1).map(drop));
    let mut newer = world.listen(&world.token(|_| {})).await;
    world.push_with(&world.token(|_| {})).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    assert!(event.is_ok(), "it goes on: {event:?}");
    newer.next().await.unwrap().unwrap();
    world.api.rotate_jwt_key(OWN, false);
    for stream in [&mut stream, &mut newer] {
        let end = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "identity no longer trusted"));
    }
    world.push_with(&world.token(|_| {})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn j_claims_of_our_own_tokens_give_roles_and_those_of_others_do_not() {
    let policy = "version: 1\n\
                  rules: [{id: read, effect: allow, principals: [\"spiffe://acme.example/**\"], methods: [\"@read\"]}]\n\
                  roles: [{role: editor, claims: [\"acme/*/editor\"]}]\n";
    let world = World::governed("policy.yaml", policy, &[]).await;
    let role = |org: &str, role: &str| {
        let (org, role) = (json!(org), json!(role));
        move |c: &mut Value| {
            (c["org"], c["project"], c["role"]) = (org, json!("agents"), role);
        }
    };
    // One connection, one caller, other claims in each token.
    for (change, may) in [
        (role("acme", "editor"), true),
        (role("acme", "viewer"), false),
        (role("evil", "editor"), false),
        (role("acme", "editor"), true),
    ] {
        assert_eq!(world.push_with(&world.token(change)).await.is_ok(), may);
    }
    assert_eq!(told(world.push_with(&world.token(|_| {})).await).0, Code::PermissionDenied);
    let mut foreign = claims(role("acme", "editor"));
    foreign["sub"] = json!("spiffe://partner.example/w");
    let foreign = world.api.sign_jwt(PARTNER, &json!({}), &foreign).unwrap();
    assert_eq!(told(world.push_with(&foreign).await).0, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn j_health_needs_no_token_and_reflection_does() {
    let world = World::start(&[]).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel.clone());
    let ask = || tonic_health::pb::HealthCheckRequest::default();
    health.check(ask()).await.unwrap();
    let mut request = Request::new(ask());
    authorize(&mut request, &["Bearer garbage"]);
    health.check(request).await.unwrap();
    let codec = tonic_prost::ProstCodec::<RecordRef, RecordRef>::default();
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut grpc = tonic::client::Grpc::new(world.channel.clone());
    grpc.ready().await.unwrap();
    let nothing = Request::new(tokio_stream::empty::<RecordRef>());
    let end = grpc.streaming(nothing, path.parse().unwrap(), codec).await.unwrap_err();
    assert_eq!(end.message(), "failed to extract token: missing authorization header");
}

#[tokio::test(flavor = "multi_thread")]
async fn j_discovery_without_a_token_is_for_one_method_and_by_switch() {
    const SWITCH: &str = "DIRECTORY_SERVER_AUTH_ALLOW_ANONYMOUS_DISCOVERY";
    let no_header = "failed to extract token: missing authorization header";
    // Even a policy under which nobody may do anything.
    for (on, policy) in [("true", POLICY), ("true", "p,other.example,*\n"), ("false", POLICY)] {
        let mut world = World::governed("policy.csv", policy, &[(SWITCH, on)]).await;
        let mut discovery = ServerInfoServiceClient::new(world.channel.clone());
        let answer = discovery.get_server_info(GetServerInfoRequest {}).await;
        if on == "true" {
            let info = answer.unwrap().into_inner();
            assert_eq!(info.auth_modes, [i32::from(AuthMode::JwtSvid)]);
            assert_eq!(info.jwt_audiences, ["https://dir.example", "second"]);
            assert_eq!(info.trust_domain, OWN);
        } else {
            assert_eq!(answer.unwrap_err().message(), no_header);
        }
        // A token that is no good is refused: whoever shows one wants to be somebody.
        let mut request = Request::new(GetServerInfoRequest {});
        authorize(&mut request, &["Bearer garbage"]);
        let refused = discovery.get_server_info(request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "invalid or expired token"));
        // Every other method that a server has wants one, whatever becomes of it then.
        let catalogue = dir_api::method_catalogue();
        for (_, path) in catalogue.iter() {
            if path.ends_with("/GetServerInfo")
                || ["Check", "Watch"].iter().any(|m| path == format!("/grpc.health.v1.Health/{m}"))
            {
                continue;
            }
            let codec = tonic_prost::ProstCodec::<RecordRef, RecordRef>::default();
            let mut grpc = tonic::client::Grpc::new(world.channel.clone());
            grpc.ready().await.unwrap();
            let nothing = Request::new(tokio_stream::empty::<RecordRef>());
            let end = grpc.streaming(nothing, path.parse().unwrap(), codec).await.map(drop).unwrap_err();
            assert_eq!((end.code(), end.message()), (Code::Unauthenticated, no_header), "{path}");
        }
        let calls = || std::fs::read_to_string(world.dir.path().join("audit.jsonl")).unwrap_or_default();
        let line = until("the audit line", || {
            calls().lines().find(|l| l.contains("GetServerInfo")).map(str::to_owned)
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["code"], if on == "true" { "OK" } else { "Unauthenticated" }, "{line}");
        assert!(get(world.node.ops(), "/info").unwrap().1.contains("jwt_svid"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j_no_token_is_ever_written() {
    let world = World::start(&[("DIRECTORY_LOGGER_LOG_LEVEL", "TRACE")]).await;
    let good = world.token(|_| {});
    let bad = world.token(|c| c["aud"] = json!("https://other.example"));
    world.push_with(&good).await.unwrap();
    world.push_with(&bad).await.unwrap_err();
    world.push(&["Bearer sentinel-token-of-no-form"]).await.unwrap_err();
    world.push(&["sentinel-token-of-no-form"]).await.unwrap_err();
    let World { dir, node, .. } = world;
    assert_eq!(node.stop(), Some(0));
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        seen += text.len();
        for token in [&good, &bad] {
            for part in token.split('.').skip(1) {
                assert!(!text.contains(part), "a token is in {}", path.display());
            }
        }
        assert!(!text.contains("sentinel-token"), "a header is in {}", path.display());
    }
    assert!(seen > 10_000, "there are logs to look at");
}

#[test]
fn a8_a9_what_the_mode_needs() {
    for (set, text) in [
        ("authn.mode=jwt", "invalid authn config: at least one audience is required for JWT mode"),
        ("authn.mode=jwt-tls", "invalid authn config: at least one audience is required for JWT mode"),
        (
            "authn.mode=oidc",
            "invalid authn config: invalid auth mode: oidc (must be 'jwt', 'jwt-tls', or 'x509')",
        ),
    ] {
        let dir = tempdir().unwrap();
        let args = ["--set", "authn.enabled=true", "--set", "authn.socket_path=/run/w.sock", "--set", set];
        let mut node = Node::spawn(dir.path(), &args, &[]);
        assert_eq!(node.wait(), Some(4), "{}", node.log());
        assert!(node.errors().contains(text), "{}", node.errors());
    }
    let dir = tempdir().unwrap();
    let args =
        ["authn.enabled=true", "authn.socket_path=/run/w.sock", "authn.mode=jwt-tls", "authn.audiences=a"];
    let args: Vec<&str> = args.iter().flat_map(|set| ["--set", set]).collect();
    let mut node = Node::spawn(dir.path(), &args, &[]);
    assert_eq!(node.wait(), Some(4), "{}", node.log());
    assert!(node.errors().contains("mode 'jwt-tls' is for clients only"), "{}", node.errors());
}
