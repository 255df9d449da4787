//! `delete own`: rules about whose a record is, on a running node with callers of several identities.

use crate::agent::{self, LONG, OWN};
use crate::client::{pull, push, record, secure, store};
use crate::node::{Node, until};
use dir_identity::devapi::DevWorkloadApi;
use dir_proto::agntcy::dir::core::v1::RecordRef;
use dir_proto::directory::admin::v1::admin_service_client::AdminServiceClient;
use dir_proto::directory::admin::v1::{ExplainAccessRequest, ExplainOwnAccessRequest};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use tonic::transport::Channel;
use tonic::{Code, Status};

const DELETE: &str = "/agntcy.dir.store.v1.StoreService/Delete";
const POLICY: &str = "version: 1
rules:
  - id: work
    effect: allow
    principals: [local]
    methods: [\"@read\", /agntcy.dir.store.v1.StoreService/Push]
  - id: delete-own
    effect: allow
    principals: [local]
    methods: [/agntcy.dir.store.v1.StoreService/Delete]
    resources: {owner: self}
  - id: secret
    effect: deny
    principals: [\"spiffe://a.internal/b\"]
    methods: [/agntcy.dir.store.v1.StoreService/Pull]
    resources: {labels: [/modules/integration/*]}
  - id: ops
    effect: allow
    principals: [\"spiffe://a.internal/a\"]
    methods: [\"@admin\"]
";

/// A node with this policy, and the agents of two callers, a and b.
struct World {
    home: TempDir,
    away: TempDir,
    api: DevWorkloadApi,
    a: DevWorkloadApi,
    b: DevWorkloadApi,
    flags: Vec<String>,
}

impl World {
    async fn new(more: &[&str]) -> Self {
        let (home, away) = (tempdir().unwrap(), tempdir().unwrap());
        let api = agent::agent(away.path(), LONG).await;
        let beside = async |name: &str| {
            let domains = vec![agent::domain(OWN, name, &[])];
            api.beside(agent::config(away.path(), name, domains, LONG)).await.unwrap()
        };
        let (a, b) = (beside("a").await, beside("b").await);
        let policy = home.path().join("policy.yaml");
        std::fs::write(&policy, POLICY).unwrap();
        let set = [
            "authz.enabled=true".to_owned(),
            format!("authz.enforcer_policy_file_path={}", policy.display()),
            "audit.output=file".to_owned(),
            format!("audit.path={}", home.path().join("audit.jsonl").display()),
        ];
        let set: Vec<&str> = set.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let flags = agent::flags(&api.socket_uri(), &set);
        Self { home, away, api, a, b, flags }
    }

    fn start(&self) -> Node {
        assert!(self.away.path().exists() && !self.api.socket_uri().is_empty());
        Node::start(self.home.path(), &agent::args(&self.flags))
    }

    async fn callers(&self, node: &mut Node) -> (Channel, Channel) {
        let port = node.grpc();
        (secure(port, &self.a.socket_uri()).await, secure(port, &self.b.socket_uri()).await)
    }

    /// The audit line that ends the last call of this method with this outcome.
    fn line(&self, method: &str, code: &str) -> Value {
        until("the audit line", || {
            let text = std::fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.rfind(|l| l["event"] == "close" && l["method"] == method && l["code"] == code)
        })
    }
}

async fn delete(channel: &Channel, cid: &str) -> Result<(), Status> {
    let wanted = tokio_stream::iter([RecordRef { cid: cid.to_owned() }]);
    store(channel).delete(wanted).await.map(drop)
}

fn refused(outcome: Result<impl Sized, Status>, method: &str) {
    let status = outcome.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(status.message(), format!("not allowed to access {method}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f_the_first_pusher_deletes_and_nobody_else_over_restart_and_kill() {
    let world = World::new(&[]).await;
    let mut node = world.start();
    let (a, b) = world.callers(&mut node).await;
    let records = vec![record("one"), record("two"), record("three")];
    let cids = push(&a, records.clone()).await.unwrap();
    // Pushed again by somebody else: it stays whose it was.
    push(&b, records[..1].to_vec()).await.unwrap();
    refused(delete(&b, &cids[0]).await, DELETE);
    let line = world.line(DELETE, "PermissionDenied");
    assert_eq!(
        (&line["decision"], &line["resources"][0]),
        (&"deny".into(), &cids[0].as_str().into()),
        "{line}"
    );
    assert_eq!(line["spiffe_id"], "spiffe://a.internal/b");
    delete(&a, &cids[0]).await.unwrap();
    assert_eq!(world.line(DELETE, "OK")["rule_id"], "delete-own");
    // What is not there is not told apart from what is somebody else's.
    refused(delete(&b, &cids[0]).await, DELETE);
    drop((a, b));
    assert_eq!(node.stop(), Some(0));

    let mut node = world.start();
    let (a, b) = world.callers(&mut node).await;
    refused(delete(&b, &cids[1]).await, DELETE);
    delete(&a, &cids[1]).await.unwrap();
    // Gone, and new: now it is b's.
    push(&b, records[..1].to_vec()).await.unwrap();
    node.signal(Signal::SIGKILL);
    node.wait();
    let mut node = world.start();
    let (a, b) = {
        drop((a, b));
        world.callers(&mut node).await
    };
    refused(delete(&a, &cids[0]).await, DELETE);
    refused(delete(&b, &cids[2]).await, DELETE);
    delete(&b, &cids[0]).await.unwrap();
    delete(&a, &cids[2]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f_labels_and_explanations_of_a_record() {
    let world = World::new(&[]).await;
    let mut node = world.start();
    let (a, b) = world.callers(&mut node).await;
    let cids = push(&a, vec![record("one")]).await.unwrap();
    assert_eq!(pull(&a, &cids).await.unwrap().len(), 1);
    refused(pull(&b, &cids).await, "/agntcy.dir.store.v1.StoreService/Pull");
    assert_eq!(world.line("/agntcy.dir.store.v1.StoreService/Pull", "PermissionDenied")["rule_id"], "secret");

    let own =
        |resource: &str| ExplainOwnAccessRequest { method: DELETE.to_owned(), resource: resource.to_owned() };
    let mut admin = AdminServiceClient::new(b.clone());
    let told = admin.explain_own_access(own("")).await.unwrap().into_inner();
    assert_eq!(
        (told.decision.as_str(), told.cause.as_str()),
        ("allow", "a rule allows it, for records that meet its conditions")
    );
    let told = admin.explain_own_access(own(&cids[0])).await.unwrap().into_inner();
    assert_eq!((told.decision.as_str(), told.cause.as_str()), ("deny", "no rule allows it for this record"));
    assert_eq!(told.nearest[0].difference, "has conditions that the record does not meet");
    assert_eq!(
        (told.resource.as_str(), told.owner.as_str()),
        (cids[0].as_str(), ""),
        "owners are not for everybody"
    );
    assert_eq!(admin.explain_own_access(own("nonsense")).await.unwrap_err().code(), Code::InvalidArgument);
    let about = ExplainAccessRequest {
        subject: "spiffe://a.internal/a".to_owned(),
        method: DELETE.to_owned(),
        resource: cids[0].clone(),
        ..ExplainAccessRequest::default()
    };
    let told = AdminServiceClient::new(a).explain_access(about).await.unwrap().into_inner();
    assert_eq!((told.decision.as_str(), told.owner.as_str()), ("allow", "spiffe://a.internal/a"));
    assert_eq!(told.rule.unwrap().id, "delete-own");
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_in_shadow_mode_a_record_of_others_is_deleted_and_reported() {
    let world = World::new(&["authz.enforce=false"]).await;
    let mut node = world.start();
    let (a, b) = world.callers(&mut node).await;
    let cids = push(&a, vec![record("one")]).await.unwrap();
    delete(&b, &cids[0]).await.unwrap();
    let line = world.line(DELETE, "OK");
    assert_eq!(line["decision"], "would_deny", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_a_new_policy_is_asked_about_the_next_record_of_an_open_stream() {
    let world = World::new(&[]).await;
    let mut node = world.start();
    let (a, b) = world.callers(&mut node).await;
    let cids = push(&a, vec![record("one")]).await.unwrap();
    let path = world.home.path().join("policy.yaml");
    std::fs::write(&path, POLICY.replace("integration/*", "nothing/*")).unwrap();
    let taken = |n: usize| until("the policy", || node.log().matches("policy reloaded").nth(n).map(drop));
    let reference = || RecordRef { cid: cids[0].clone() };
    let (asking, asked) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(asked);
    taken(0);
    let mut answers = store(&b).pull(stream).await.unwrap().into_inner();
    asking.send(reference()).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    std::fs::write(&path, POLICY).unwrap();
    taken(1);
    asking.send(reference()).await.unwrap();
    refused(answers.message().await, "/agntcy.dir.store.v1.StoreService/Pull");
}
