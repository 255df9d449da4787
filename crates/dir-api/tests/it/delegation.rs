//! Gateways that speak for others, and callers who only say that they may.

use crate::audit::At;
use crate::frames::call_with;
use crate::node::{Node, Setup, record, reference, until};
use dir_api::{AppConfig, Audit, AuditConfig, AuditSink, Rate, RateConfig, method_catalogue};
use dir_core::policy::{Conditions, NativeRule, Ownership, RuleEffect, UnknownMethod};
use dir_core::{Policy, Principal, SpiffeId, Timestamp};
use dir_proto::agntcy::dir::store::v1::store_service_client::StoreServiceClient;
use dir_proto::directory::admin::v1::admin_service_client::AdminServiceClient;
use dir_proto::directory::admin::v1::{ExplainAccessRequest, ExplainAccessResponse, ExplainOwnAccessRequest};
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const GATEWAY: &str = "spiffe://acme.example/ns/gateway/sa/oidc";
const ALICE: &str = "oidc:google:alice@acme.example";
const STORE: &str = "/agntcy.dir.store.v1.StoreService/";

fn rule(id: &str, effect: RuleEffect, principals: &[&str], methods: &[&str]) -> NativeRule {
    NativeRule {
        id: id.to_owned(),
        line: None,
        effect,
        principals: principals.iter().map(|p| (*p).to_owned()).collect(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        not_after: None,
        limits: None,
        resources: None,
    }
}

fn policy() -> Policy {
    let delete = format!("{STORE}Delete");
    let rules = vec![
        rule("gateway", RuleEffect::Allow, &[GATEWAY], &["@read", &format!("{STORE}Push")]),
        rule("alice", RuleEffect::Allow, &[ALICE], &["@read", "@write"]),
        rule("web", RuleEffect::Allow, &["spiffe://acme.example/web"], &["@read"]),
        rule(
            "no-mallory",
            RuleEffect::Deny,
            &["oidc:google:mallory", "spiffe://acme.example/mallory"],
            &["*"],
        ),
        rule("all", RuleEffect::Allow, &["spiffe://acme.example/mallory"], &[&delete]),
    ];
    Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap().policy
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AuditSink for Lines {}

struct World {
    node: Node,
    who: Arc<Mutex<Principal>>,
    /// Connections that were given a principal.
    accepted: Arc<AtomicUsize>,
    audit: Audit,
    lines: Lines,
}

impl World {
    async fn with(rates: Option<RateConfig>) -> Self {
        let lines = Lines::default();
        let out = lines.clone();
        let open = Box::new(move || -> io::Result<Box<dyn AuditSink>> { Ok(Box::new(out.clone())) });
        let clock = Arc::new(At(Timestamp(0)));
        let audit = Audit::start(AuditConfig::default(), open, clock, &Registry::new()).unwrap();
        let app = AppConfig {
            trusted_gateways: [GATEWAY.parse().unwrap()].into(),
            audit: Some(audit.clone()),
            rates,
            ..AppConfig::default()
        };
        let who = Arc::new(Mutex::new(Principal::Anonymous));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (next, count) = (who.clone(), accepted.clone());
        let setup = Setup { app, authorized: true, ..Setup::default() };
        let node = Node::shaped(setup, move |_, mut conn| {
            Arc::make_mut(&mut conn.peer).principal = next.lock().clone();
            count.fetch_add(1, Ordering::SeqCst);
            conn
        })
        .await;
        node.authorization.as_ref().unwrap().set(policy());
        Self { node, who, accepted, audit, lines }
    }

    async fn connect(&self, id: &str) -> Channel {
        *self.who.lock() = Principal::Spiffe(id.parse::<SpiffeId>().unwrap());
        let before = self.accepted.load(Ordering::SeqCst);
        let channel = self.node.channel().await;
        // The server may accept it later than the client is connected: the next one must not change who this is.
        until(|| self.accepted.load(Ordering::SeqCst) > before).await;
        channel
    }

    /// The last line of the audit log, once there are so many of calls.
    async fn line(&self, many: usize) -> Value {
        let calls = || {
            assert!(self.audit.close());
            let text = String::from_utf8(self.lines.0.lock().clone()).unwrap();
            let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            all.filter(|line| line["event"] != "authenticated").collect::<Vec<_>>()
        };
        until(|| calls().len() >= many).await;
        calls().pop().unwrap()
    }
}

/// Calls a method with these values of `x-auth-principal`.
async fn call(channel: &Channel, method: &str, principals: &[&str]) -> Status {
    let mut request = Request::new(Vec::new());
    for who in principals {
        request.metadata_mut().append("x-auth-principal", who.parse().unwrap());
    }
    call_with(channel.clone(), method, request).await.status
}

fn passed(status: &Status) -> bool {
    !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::ResourceExhausted)
}

const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";
const CREDENTIALS: &str = "/agntcy.dir.store.v1.SyncService/RequestRegistryCredentials";

#[tokio::test(flavor = "multi_thread")]
async fn k_a_trusted_gateway_is_believed_and_both_are_audited() {
    let world = World::with(None).await;
    let gateway = world.connect(GATEWAY).await;
    assert!(passed(&call(&gateway, COUNT, &[ALICE]).await));
    let line = world.line(1).await;
    for (field, wanted) in [
        ("actor", GATEWAY),
        ("principal", ALICE),
        ("spiffe_id", GATEWAY),
        ("trust_domain", "acme.example"),
        ("decision", "allow"),
        ("rule_id", "alice"),
    ] {
        assert_eq!(line[field], wanted, "{field} in {line}");
    }
    // Without the header it calls for itself.
    assert!(passed(&call(&gateway, COUNT, &[]).await));
    let line = world.line(2).await;
    assert_eq!(
        (&line["actor"], &line["principal"], &line["rule_id"]),
        (&Value::Null, &GATEWAY.into(), &"gateway".into())
    );
    assert!(passed(&call(&gateway, COUNT, &["spiffe:spiffe://acme.example/web"]).await));
    assert_eq!(world.line(3).await["principal"], "spiffe://acme.example/web");
    assert_eq!(world.node.sample(&["stripped_delegation_headers_total"]), Some(0.0));
}

#[tokio::test]
async fn k_from_others_the_header_is_stripped_and_counted() {
    let world = World::with(None).await;
    let web = world.connect("spiffe://acme.example/web").await;
    // A principal that may more, and one that may nothing: neither changes who calls.
    assert!(passed(&call(&web, COUNT, &["oidc:google:mallory"]).await));
    let denied = call(&web, &format!("{STORE}Push"), &[ALICE]).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    let line = world.line(2).await;
    assert_eq!((&line["actor"], &line["principal"]), (&Value::Null, &"spiffe://acme.example/web".into()));
    assert!(passed(&call(&web, COUNT, &["", "not a principal"]).await));
    assert_eq!(world.node.sample(&["stripped_delegation_headers_total"]), Some(3.0));
    // A path below that of the gateway is not the gateway.
    let near = world.connect(&format!("{GATEWAY}/x")).await;
    assert_eq!(call(&near, COUNT, &[ALICE]).await.code(), Code::PermissionDenied);
    assert_eq!(world.node.sample(&["stripped_delegation_headers_total"]), Some(4.0));
}

#[tokio::test]
async fn k_a_delegated_call_is_capped_by_the_grants_of_the_gateway() {
    let world = World::with(None).await;
    let gateway = world.connect(GATEWAY).await;
    assert!(passed(&call(&gateway, &format!("{STORE}Push"), &[ALICE]).await));
    // Alice may, the gateway may not.
    let delete = format!("{STORE}Delete");
    let denied = call(&gateway, &delete, &[ALICE]).await;
    assert_eq!(
        (denied.code(), denied.message()),
        (Code::PermissionDenied, &*format!("not allowed to access {delete}"))
    );
    assert_eq!(world.node.sample(&["authz_decisions_total", "rule=\"gateway\"", "\"deny\""]), Some(1.0));
    // The gateway may, the caller may not.
    for who in ["oidc:google:bob", "spiffe:spiffe://acme.example/web"] {
        assert_eq!(
            call(&gateway, &format!("{STORE}Push"), &[who]).await.code(),
            Code::PermissionDenied,
            "{who}"
        );
    }
    assert_eq!(call(&gateway, CREDENTIALS, &[ALICE]).await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn k_deny_rules_hit_callers_of_every_kind() {
    let world = World::with(None).await;
    let gateway = world.connect(GATEWAY).await;
    for who in ["oidc:google:mallory", "oidc:google:MALLORY", "spiffe:spiffe://acme.example/mallory"] {
        assert_eq!(call(&gateway, COUNT, &[who]).await.code(), Code::PermissionDenied, "{who}");
    }
    let mallory = world.connect("spiffe://acme.example/mallory").await;
    assert_eq!(call(&mallory, &format!("{STORE}Delete"), &[]).await.code(), Code::PermissionDenied);
    assert_eq!(world.node.sample(&["authz_decisions_total", "rule=\"no-mallory\""]), Some(4.0));
}

#[tokio::test]
async fn k_a_gateway_that_names_nobody_is_refused() {
    let world = World::with(None).await;
    let gateway = world.connect(GATEWAY).await;
    for names in [&["alice"][..], &[""], &["anonymous:http"], &["oidc:google:*"], &[ALICE, ALICE]] {
        let refused = call(&gateway, COUNT, names).await;
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, "not authenticated"),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn k_whom_a_gateway_speaks_for_has_a_bucket_of_his_own() {
    let slow = Rate { rps: 0.001, burst: 2 };
    let world = World::with(Some(RateConfig { per_client: Some(slow), ..RateConfig::default() })).await;
    let gateway = world.connect(GATEWAY).await;
    for who in [&[ALICE][..], &["spiffe:spiffe://acme.example/web"], &[]] {
        for _ in 0..2 {
            assert!(passed(&call(&gateway, COUNT, who).await), "{who:?}");
        }
        assert_eq!(call(&gateway, COUNT, who).await.code(), Code::ResourceExhausted, "{who:?}");
    }
}

#[tokio::test]
async fn k_an_anonymous_http_caller_cannot_write() {
    let rules = vec![
        rule("web", RuleEffect::Allow, &["anonymous:http"], &["/agntcy.dir.search.v1.SearchService/*"]),
        rule("ours", RuleEffect::Allow, &["spiffe://acme.example/**"], &["*"]),
    ];
    let loaded = Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap();
    let world = World::with(None).await;
    world.node.authorization.as_ref().unwrap().set(loaded.policy);
    *world.who.lock() = Principal::Http;
    let web = world.node.channel().await;
    assert!(passed(&call(&web, COUNT, &[]).await));
    assert_eq!(world.line(1).await["principal"], "anonymous:http");
    for method in ["Push", "Delete", "PushReferrer", "Pull"] {
        assert_eq!(
            call(&web, &format!("{STORE}{method}"), &[]).await.code(),
            Code::PermissionDenied,
            "{method}"
        );
    }
    assert!(passed(&call(&web, COUNT, &[ALICE]).await), "it speaks for nobody");
    assert_eq!(world.node.sample(&["stripped_delegation_headers_total"]), Some(1.0));
}

async fn explained(channel: &Channel, method: &str, principal: Option<&str>) -> ExplainAccessResponse {
    let mut request =
        Request::new(ExplainOwnAccessRequest { method: method.to_owned(), ..Default::default() });
    if let Some(who) = principal {
        request.metadata_mut().insert("x-auth-principal", who.parse().unwrap());
    }
    AdminServiceClient::new(channel.clone()).explain_own_access(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn f5_callers_are_told_what_they_may_and_no_more() {
    let world = World::with(None).await;
    let push = format!("{STORE}Push");
    // Somebody whom no rule knows may ask about himself.
    let stranger = world.connect("spiffe://partner.example/w").await;
    let told = explained(&stranger, &push, None).await;
    assert_eq!((told.subject.as_str(), told.decision.as_str()), ("spiffe://partner.example/w", "deny"));
    assert_eq!((told.cause.as_str(), &told.rule, told.policy_generation), ("no rule allows it", &None, 1));
    let nearest = told.nearest.first().unwrap();
    assert_eq!((nearest.id.as_str(), nearest.difference.as_str()), ("gateway", "differs in trust domain"));
    assert!(told.nearest.iter().all(|rule| rule.subjects.is_empty() && rule.methods.is_empty()), "{told:?}");
    let about = ExplainAccessRequest { subject: GATEWAY.into(), method: push.clone(), ..Default::default() };
    let refused = AdminServiceClient::new(stranger).explain_access(about).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // A deny rule takes even that.
    let mallory = world.connect("spiffe://acme.example/mallory").await;
    let asked = ExplainOwnAccessRequest { method: push.clone(), ..Default::default() };
    let refused = AdminServiceClient::new(mallory).explain_own_access(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Through a gateway the answer is about both.
    let gateway = world.connect(GATEWAY).await;
    let told = explained(&gateway, &push, Some(ALICE)).await;
    assert_eq!((told.subject.as_str(), told.gateway.as_str()), (ALICE, GATEWAY));
    assert_eq!((told.decision.as_str(), told.rule.unwrap().id.as_str()), ("allow", "alice"));
    let told = explained(&gateway, &format!("{STORE}Delete"), Some(ALICE)).await;
    assert_eq!(told.decision, "deny");
    assert!(
        told.nearest.iter().any(|r| r.id == "gateway" && r.difference == "differs in method"),
        "{told:?}"
    );
    assert!(told.cause.contains("the gateway"), "{}", told.cause);
    let bad = ExplainOwnAccessRequest { method: "Push".into(), ..Default::default() };
    let refused = AdminServiceClient::new(gateway).explain_own_access(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn f5_administrators_are_told_about_others() {
    let world = World::with(None).await;
    let mut rules = vec![rule("ops", RuleEffect::Allow, &["spiffe://acme.example/ops"], &["@admin"])];
    rules.push(rule("alice", RuleEffect::Allow, &[ALICE], &["@read"]));
    let loaded = Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap();
    world.node.authorization.as_ref().unwrap().set(loaded.policy);
    let mut ops = AdminServiceClient::new(world.connect("spiffe://acme.example/ops").await);
    let about = |subject: &str, gateway: &str| ExplainAccessRequest {
        subject: subject.to_owned(),
        method: COUNT.to_owned(),
        gateway: gateway.to_owned(),
        ..ExplainAccessRequest::default()
    };
    let told = ops.explain_access(about(ALICE, "")).await.unwrap().into_inner();
    assert_eq!((told.decision.as_str(), told.policy_generation), ("allow", 2));
    let deciding = told.rule.unwrap();
    assert_eq!((deciding.subjects.as_slice(), deciding.methods.as_str()), (&[ALICE.to_owned()][..], "@read"));
    let told = ops.explain_access(about(ALICE, GATEWAY)).await.unwrap().into_inner();
    assert_eq!((told.decision.as_str(), told.gateway.as_str()), ("deny", GATEWAY));
    let told = ops.explain_access(about("anonymous", "")).await.unwrap().into_inner();
    assert_eq!(told.decision, "unauthenticated");
    for subject in ["", "alice", "spiffe://acme.example", "oidc:google"] {
        let refused = ops.explain_access(about(subject, "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{subject}");
    }
}

/// Pushes and deletes through a channel, for somebody or for itself.
async fn store_call(channel: &Channel, who: Option<&str>, cid: Option<&str>) -> Result<String, Status> {
    let mut client = StoreServiceClient::new(channel.clone());
    let name = |request: &mut tonic::metadata::MetadataMap| {
        if let Some(who) = who {
            request.insert("x-auth-principal", who.parse().unwrap());
        }
    };
    match cid {
        None => {
            let mut request = Request::new(tokio_stream::iter([record("one")]));
            name(request.metadata_mut());
            let mut answers = client.push(request).await?.into_inner();
            Ok(answers.message().await?.unwrap().cid)
        }
        Some(cid) => {
            let mut request = Request::new(tokio_stream::iter([reference(cid)]));
            name(request.metadata_mut());
            client.delete(request).await.map(|_| String::new())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k_what_a_gateway_pushes_for_somebody_is_his_and_not_its() {
    let world = World::with(None).await;
    let (bob, web) = ("oidc:google:bob@acme.example", "spiffe://acme.example/web");
    let everybody = [GATEWAY, ALICE, bob, web];
    let own = Conditions { owner: Some(Ownership::Own), labels: Vec::new() };
    let rules = vec![
        rule("push", RuleEffect::Allow, &everybody, &[&format!("{STORE}Push")]),
        NativeRule {
            resources: Some(own),
            ..rule("own", RuleEffect::Allow, &everybody, &[&format!("{STORE}Delete")])
        },
    ];
    let loaded = Policy::from_rules(rules, None, &method_catalogue(), UnknownMethod::Error).unwrap();
    world.node.authorization.as_ref().unwrap().set(loaded.policy);
    let gateway = world.connect(GATEWAY).await;
    let direct = world.connect(web).await;
    let denied = |outcome: Result<String, Status>| {
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied);
    };
    let cid = store_call(&gateway, Some(ALICE), None).await.unwrap();
    // Others push the same: it stays hers.
    store_call(&gateway, Some(bob), None).await.unwrap();
    store_call(&gateway, None, None).await.unwrap();
    denied(store_call(&gateway, Some(bob), Some(&cid)).await);
    denied(store_call(&gateway, None, Some(&cid)).await);
    denied(store_call(&direct, None, Some(&cid)).await);
    store_call(&gateway, Some(ALICE), Some(&cid)).await.unwrap();
    // What a workload pushed by itself it may delete through the gateway as well.
    let cid = store_call(&direct, None, None).await.unwrap();
    denied(store_call(&gateway, Some(ALICE), Some(&cid)).await);
    store_call(&gateway, Some(&format!("spiffe:{web}")), Some(&cid)).await.unwrap();
    let line = world.line(1).await;
    assert_eq!((&line["actor"], &line["principal"]), (&GATEWAY.into(), &web.into()), "{line}");
}
