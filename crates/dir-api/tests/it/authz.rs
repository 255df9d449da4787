//! Authorization as callers meet it: texts, exemptions, shadow mode, and policies that change under open calls.

use crate::frames::{call, call_with};
use crate::node::{Node, Setup, reference, soon, until};
use bytes::Bytes;
use dir_api::{Authorization, method_catalogue};
use dir_core::policy::{Matching, NativeRule, Permission, RuleEffect, UnknownMethod};
use dir_core::{Policy, Principal, Timestamp};
use dir_proto::agntcy::dir::core::v1::{Record, RecordRef};
use parking_lot::Mutex;
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
const READ_ONLY: &str = "p,*,/agntcy.dir.store.v1.StoreService/Pull\n";
pub(crate) const EVERYTHING: &str = "p,*,*\n";

pub(crate) fn csv(text: &str) -> Policy {
    Policy::parse_csv(text, Matching::Strict, &method_catalogue(), UnknownMethod::Error).unwrap().policy
}

/// A node with authorization, and who the next connection is.
pub(crate) struct Guarded {
    pub(crate) node: Node,
    who: Arc<Mutex<Principal>>,
}

impl Guarded {
    async fn unset() -> Self {
        Self::shaped(Setup::default()).await
    }

    pub(crate) async fn shaped(setup: Setup) -> Self {
        let who = Arc::new(Mutex::new(Principal::Anonymous));
        let next = who.clone();
        let node = Node::shaped(Setup { authorized: true, ..setup }, move |_, mut conn| {
            Arc::make_mut(&mut conn.peer).principal = next.lock().clone();
            conn
        })
        .await;
        Self { node, who }
    }

    async fn with(policy: Policy) -> Self {
        let guarded = Self::unset().await;
        assert_eq!(guarded.set(policy), 1);
        guarded
    }

    pub(crate) fn set(&self, policy: Policy) -> u64 {
        self.node.authorization.as_ref().unwrap().set(policy)
    }

    pub(crate) fn become_caller(&self, id: &str) -> &Node {
        *self.who.lock() = Principal::Spiffe(id.parse().unwrap());
        &self.node
    }

    fn decisions(&self, decision: &str, rule: &str) -> Option<f64> {
        let labels =
            ["authz_decisions_total", &format!("decision=\"{decision}\""), &format!("rule=\"{rule}\"")];
        self.node.sample(&labels)
    }
}

async fn status(node: &Node, path: &str) -> Status {
    call(node, path, vec![]).await.status
}

fn is(status: &Status, code: Code, message: &str) {
    assert_eq!((status.code(), status.message()), (code, message));
}

/// Permission was given: whatever came then is no matter of authorization.
fn passed(status: &Status) -> bool {
    !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
        && status.message() != "authorization unavailable"
}

#[tokio::test]
async fn every_authenticated_caller_may_ask_what_the_server_is() {
    const INFO: &str = "/directory.info.v1.ServerInfoService/GetServerInfo";
    let guarded = Guarded::with(csv(READ_ONLY)).await;
    is(&status(&guarded.node, INFO).await, Code::Unauthenticated, "not authenticated");
    let node = guarded.become_caller("spiffe://anybody.example/x");
    assert!(passed(&status(node, INFO).await));
    // A rule that denies holds for this method too.
    let rule = NativeRule {
        id: "not-you".into(),
        line: None,
        effect: RuleEffect::Deny,
        principals: vec!["spiffe://anybody.example/**".into()],
        methods: vec!["*".into()],
        not_after: None,
        limits: None,
        resources: None,
    };
    let allow = NativeRule {
        id: "others".into(),
        effect: RuleEffect::Allow,
        principals: vec!["spiffe://acme.example/**".into()],
        ..rule.clone()
    };
    let loaded =
        Policy::from_rules(vec![rule, allow], None, &method_catalogue(), UnknownMethod::Error).unwrap();
    guarded.set(loaded.policy);
    is(&status(node, INFO).await, Code::PermissionDenied, &format!("not allowed to access {INFO}"));
}

#[tokio::test]
async fn f16_without_a_policy_nothing_is_let_through() {
    let guarded = Guarded::unset().await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    for path in [PULL, PUSH, "/no.Such/Method"] {
        is(&status(node, path).await, Code::Internal, "authorization unavailable");
    }
    assert_eq!(guarded.decisions("unavailable", "none"), Some(3.0));
    assert!(passed(&status(node, "/grpc.health.v1.Health/Check").await));
    assert_eq!(guarded.set(csv(EVERYTHING)), 1);
    assert!(passed(&status(node, PULL).await));
}

#[tokio::test]
async fn f13_nobody_is_unauthenticated() {
    let guarded = Guarded::with(csv(EVERYTHING)).await;
    for path in [PULL, "/no.Such/Method", "/directory.admin.v1.AdminService/GetIdentity"] {
        is(&status(&guarded.node, path).await, Code::Unauthenticated, "not authenticated");
    }
    assert_eq!(guarded.decisions("unauthenticated", "none"), Some(3.0));
}

#[tokio::test]
async fn f14_health_is_exempt_and_reflection_is_not() {
    let guarded = Guarded::with(csv(READ_ONLY)).await;
    assert!(passed(&status(&guarded.node, "/grpc.health.v1.Health/Check").await));
    assert_eq!(guarded.decisions("allow", "open"), Some(1.0));
    let node = guarded.become_caller("spiffe://acme.example/w");
    for path in [
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let text = format!("not allowed to access {path}");
        is(&status(node, path).await, Code::PermissionDenied, &text);
    }
}

#[tokio::test]
async fn f12_every_method_is_judged() {
    let own = "acme.example".parse().unwrap();
    let guarded = Guarded::with(Policy::default_for(&own, &method_catalogue())).await;
    let catalogue = method_catalogue();
    let granted =
        ["Pull", "PullReferrer", "Lookup"].map(|m| format!("/agntcy.dir.store.v1.StoreService/{m}"));
    for (id, local) in [("spiffe://acme.example/w", true), ("spiffe://partner.example/w", false)] {
        let channel = guarded.become_caller(id).channel().await;
        for (method, path) in catalogue.iter().filter(|(_, path)| !path.ends_with("/Watch")) {
            let needs = catalogue.permission(method);
            let open = matches!(needs, Some(Permission::Open | Permission::Identity));
            let status = call_with(channel.clone(), path, Request::new(Vec::new())).await.status;
            if local || open || granted.iter().any(|g| g == path) {
                assert!(passed(&status), "{id} {path}: {status}");
            } else {
                is(&status, Code::PermissionDenied, &format!("not allowed to access {path}"));
            }
        }
    }
}

#[tokio::test]
async fn f12_a_method_that_nobody_knows_is_denied() {
    let guarded = Guarded::with(csv(EVERYTHING)).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    for path in ["/no.such.Service/Method", "/agntcy.dir.store.v1.StoreService/pull"] {
        is(&status(node, path).await, Code::PermissionDenied, &format!("not allowed to access {path}"));
    }
    assert_eq!(guarded.decisions("deny", "unknown_method"), Some(2.0));
}

#[tokio::test]
async fn authorization_comes_before_the_deadline_of_the_caller() {
    let guarded = Guarded::with(csv(READ_ONLY)).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    for (path, code) in [(PUSH, Code::PermissionDenied), (PULL, Code::Internal)] {
        let mut request = Request::new(Vec::new());
        request.metadata_mut().insert("grpc-timeout", "bogus".parse().unwrap());
        assert_eq!(call_with(node.channel().await, path, request).await.status.code(), code, "{path}");
    }
}

#[tokio::test]
async fn f11_shadow_mode_lets_through_and_counts() {
    let guarded = Guarded::with(csv(READ_ONLY).shadow(true)).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    assert!(passed(&status(node, PUSH).await));
    is(
        &status(node, "/no.Such/Method").await,
        Code::Unimplemented,
        "unknown method Method for service no.Such",
    );
    assert_eq!(guarded.decisions("would_deny", "none"), Some(1.0));
    assert_eq!(guarded.decisions("would_deny", "unknown_method"), Some(1.0));
    assert_eq!(guarded.decisions("deny", "none"), None);
}

#[tokio::test]
async fn k_nobody_speaks_for_somebody_else() {
    let guarded = Guarded::with(csv("p,acme.example,*\n")).await;
    let node = guarded.become_caller("spiffe://partner.example/w");
    let mut request = Request::new(Vec::new());
    request.metadata_mut().insert("x-auth-principal", "spiffe:spiffe://acme.example/w".parse().unwrap());
    let status = call_with(node.channel().await, PULL, request).await.status;
    is(&status, Code::PermissionDenied, &format!("not allowed to access {PULL}"));
    assert_eq!(node.sample(&["stripped_delegation_headers_total"]), Some(1.0));
}

/// A stream of pulls that stays open.
struct Pulling {
    send: mpsc::Sender<RecordRef>,
    records: Streaming<Record>,
}

impl Pulling {
    async fn open(node: &Node) -> Self {
        let (send, messages) = mpsc::channel(4);
        let records = soon(node.store_client().await.pull(ReceiverStream::new(messages))).await.unwrap();
        Self { send, records: records.into_inner() }
    }

    /// The stream lives: a record that does not exist ends it with that, and nothing else.
    async fn lives(mut self) {
        self.send.send(reference("nothing")).await.unwrap();
        let answer = soon(self.records.message()).await;
        assert!(answer.is_err_and(|status| passed(&status)), "ended by authorization");
    }

    async fn denied(mut self) {
        let status = soon(self.records.message()).await.expect_err("an error");
        is(&status, Code::PermissionDenied, &format!("not allowed to access {PULL}"));
    }
}

#[tokio::test]
async fn f3_a_tighter_policy_ends_what_it_no_longer_allows() {
    let guarded = Guarded::with(csv(EVERYTHING)).await;
    let partner = Pulling::open(guarded.become_caller("spiffe://partner.example/w")).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    let channel = node.channel().await;
    let ours = Pulling::open(node).await;
    assert_eq!(guarded.set(csv("p,acme.example,/agntcy.dir.store.v1.StoreService/Pull\n")), 2);
    partner.denied().await;
    ours.lives().await;
    // The connection that was decided under the first policy is decided anew, and anew.
    let again = async |path| call_with(channel.clone(), path, Request::new(Vec::new())).await.status;
    assert_eq!(again(PUSH).await.code(), Code::PermissionDenied);
    assert_eq!(guarded.set(csv(EVERYTHING)), 3);
    assert!(passed(&again(PUSH).await));
    assert_eq!(guarded.decisions("deny", "none"), Some(2.0));
    assert_eq!(node.sample(&["policy_generation", "component=\"authz\""]), Some(3.0));
}

#[tokio::test]
async fn f3_many_changes_in_a_row_are_not_missed() {
    let guarded = Guarded::with(csv(EVERYTHING)).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    let stream = Pulling::open(node).await;
    for _ in 0..50 {
        guarded.set(csv(EVERYTHING));
        tokio::task::yield_now().await;
    }
    guarded.set(csv("p,other.example,*\n"));
    stream.denied().await;
}

#[tokio::test]
async fn f10_an_open_stream_ends_with_the_grant() {
    let guarded = Guarded::unset().await;
    let end = dir_core::Clock::now(guarded.node.clock.as_ref()).0 + 40;
    let rule = NativeRule {
        id: "soon-over".into(),
        line: None,
        effect: RuleEffect::Allow,
        principals: vec!["spiffe://partner.example/**".into()],
        methods: vec!["@read".into()],
        not_after: Some(Timestamp(end)),
        limits: None,
        resources: None,
    };
    let loaded = Policy::from_rules(vec![rule], None, &method_catalogue(), UnknownMethod::Error).unwrap();
    guarded.set(loaded.policy);
    let node = guarded.become_caller("spiffe://partner.example/w");
    let stream = Pulling::open(node).await;
    // Before its time the timer of the stream finds the grant still open, and waits again.
    node.clock.advance(Duration::from_millis(39));
    node.clock.advance(Duration::from_millis(1));
    stream.denied().await;
    assert_eq!(status(node, PULL).await.code(), Code::PermissionDenied);
    until(|| guarded.decisions("deny", "ended") == Some(2.0)).await;
}

#[test]
fn rules_in_the_metrics_are_bounded() {
    const RULES: usize = 256;
    let registry = Registry::new();
    let authorization = Authorization::new(&registry).unwrap();
    let lines = |from: usize, to: usize| {
        // The label is the line: blank lines move the rules down.
        let rules = (from..to).map(|i| format!("p,d{i}.example,*")).collect::<Vec<_>>();
        csv(&format!("{}{}", "\n".repeat(from), rules.join("\n")))
    };
    let labels = || {
        let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let rule = |line: &str| line.contains("rule=\"line-");
        (page.lines().filter(|l| rule(l)).count(), page.contains("rule=\"other\""))
    };
    authorization.set(lines(0, RULES));
    assert_eq!(labels(), (RULES, false));
    authorization.set(lines(0, RULES + 1));
    assert_eq!(labels(), (RULES, true));
    authorization.set(lines(RULES, 3 * RULES));
    assert_eq!(labels(), (RULES, true));
    assert_eq!(authorization.generation(), 3);
}

#[tokio::test]
async fn a_call_with_a_message_passes_like_one_without() {
    let guarded = Guarded::with(csv(READ_ONLY)).await;
    let node = guarded.become_caller("spiffe://acme.example/w");
    let outcome = call(node, PUSH, vec![Bytes::from_static(b"x")]).await;
    is(&outcome.status, Code::PermissionDenied, &format!("not allowed to access {PUSH}"));
    assert!(outcome.trailers.contains_key("x-request-id"));
}
