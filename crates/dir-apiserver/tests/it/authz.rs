//! Policies in force on a running node: at the start, when the file changes, for partners of a federation.

use crate::client::{plain, pull, push, record, secure};
use crate::node::{Node, get, until};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use nix::sys::signal::Signal;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tonic::transport::Channel;
use tonic::{Code, Status};

const OWN: &str = "p,dev.directory.internal,*\n";
const PULL_ONLY: &str = "p,dev.directory.internal,/agntcy.dir.store.v1.StoreService/Pull\n";

/// A home with a policy file in it, and the arguments of a node that serves with it.
struct Home {
    dir: TempDir,
    policy: PathBuf,
    args: Vec<String>,
}

impl Home {
    fn new(name: &str) -> Self {
        let dir = tempdir().unwrap();
        let policy = dir.path().join(name);
        let path = format!("authz.enforcer_policy_file_path={}", policy.display());
        let args = ["--embedded-identity", "--set", "authz.enabled=true", "--set", &path];
        let args = args.map(str::to_owned).to_vec();
        Self { dir, policy, args }
    }

    fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }

    fn start(&self) -> Node {
        Node::start(self.dir.path(), &self.args())
    }

    /// The errors of a node that must refuse to start for its configuration.
    fn refused(&self) -> String {
        let mut node = Node::spawn(self.dir.path(), &self.args(), &[]);
        assert_eq!(node.wait(), Some(4), "{}", node.log());
        node.errors()
    }

    async fn channel(&self, node: &mut Node) -> Channel {
        let socket = format!("unix://{}", self.dir.path().join(".dir/workload.sock").display());
        secure(node.grpc(), &socket).await
    }

    /// Writes the policy beside and moves it into place.
    fn replace(&self, text: &str) {
        let new = self.policy.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.policy).unwrap();
    }
}

async fn push_one(channel: &Channel, name: &str) -> Result<Vec<String>, Status> {
    push(channel, vec![record(name)]).await
}

/// The value of a sample of the ops page.
fn sample(ops: u16, name: &str) -> Option<f64> {
    let page = get(ops, "/metrics")?.1;
    let line = page.lines().find(|l| l.starts_with(&format!("{name}{{")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn generation(ops: u16, wanted: f64) {
    until("the generation of the policy", || {
        (sample(ops, "policy_generation") == Some(wanted)).then_some(())
    });
}

#[test]
fn f7_a_broken_policy_refuses_the_start() {
    let home = Home::new("policy.csv");
    let missing = home.refused();
    assert!(
        missing.contains("authz.enforcer_policy_file_path") && missing.contains("cannot be read"),
        "{missing}"
    );
    for (text, wanted) in [
        ("", "the policy allows nothing"),
        ("p,dev.directory.internal\n", "invalid policy rule size"),
        ("p,dev.directory.internal,*\np,a(b,*\n", "(line 2)"),
        ("p,dev.directory.internal,/agntcy.dir.store.v1.StoreService/Pulll\n", "did you mean"),
    ] {
        std::fs::write(&home.policy, text).unwrap();
        let errors = home.refused();
        assert!(errors.contains(wanted) && errors.contains("authz check"), "{text}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_f4_the_file_is_taken_when_it_changes_unless_it_is_broken() {
    let home = Home::new("policy.csv");
    std::fs::write(&home.policy, OWN).unwrap();
    let mut node = home.start();
    let line = node.wait_line("Authorization service initialized");
    assert_eq!((&line["rules"], &line["policy_generation"]), (&1.into(), &1.into()), "{line}");
    let ops = node.ops();
    assert_eq!(sample(ops, "policy_reload_failures_total"), Some(0.0));
    let channel = home.channel(&mut node).await;
    let cids = push_one(&channel, "one").await.unwrap();

    home.replace(PULL_ONLY);
    generation(ops, 2.0);
    let denied = push_one(&channel, "two").await.unwrap_err();
    let text = "not allowed to access /agntcy.dir.store.v1.StoreService/Push";
    assert_eq!((denied.code(), denied.message()), (Code::PermissionDenied, text));
    assert_eq!(pull(&channel, &cids).await.unwrap().len(), 1);

    // Broken: the old policy stays, and everybody who can be told is told.
    home.replace("p,dev.directory.internal,*\nnonsense\n");
    until("a counted failure", || (sample(ops, "policy_reload_failures_total") == Some(1.0)).then_some(()));
    let told = node.wait_line("policy not taken: the old one stays in force");
    assert_eq!((&told["level"], &told["policy_generation"]), (&"ERROR".into(), &2.into()), "{told}");
    let health = get(ops, "/healthz").unwrap().1;
    assert!(health.contains("is not taken, the old policy is in force"), "{health}");
    assert_eq!(push_one(&channel, "two").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(get(ops, "/readyz").unwrap().0, 200);

    // Mended: taken again, written in place this time.
    std::fs::write(&home.policy, OWN).unwrap();
    generation(ops, 3.0);
    assert!(push_one(&channel, "two").await.is_ok());
    let health = get(ops, "/healthz").unwrap().1;
    assert!(!health.contains("is not taken"), "{health}");
    assert_eq!(sample(ops, "policy_reload_failures_total"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f6_a_swapped_link_is_seen() {
    let home = Home::new("policy.csv");
    let dir = home.dir.path();
    let version = |name: &str, text: &str| {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("policy.csv"), text).unwrap();
        symlink(name, dir.join("..next")).unwrap();
        std::fs::rename(dir.join("..next"), dir.join("..data")).unwrap();
    };
    version("..first", OWN);
    symlink("..data/policy.csv", &home.policy).unwrap();
    let mut node = home.start();
    let (ops, channel) = (node.ops(), home.channel(&mut node).await);
    assert!(push_one(&channel, "one").await.is_ok());
    version("..second", PULL_ONLY);
    generation(ops, 2.0);
    assert_eq!(push_one(&channel, "two").await.unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn n6_sighup_looks_at_once_and_stops_nothing() {
    let home = Home::new("policy.csv");
    std::fs::write(&home.policy, OWN).unwrap();
    let mut node = home.start();
    node.signal(Signal::SIGHUP);
    node.wait_line("policy unchanged");
    assert_eq!(sample(node.ops(), "policy_generation"), Some(1.0));
    assert!(node.ended().is_none());
    assert_eq!(node.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_shadow_mode_lets_through() {
    let home = Home::new("policy.csv");
    std::fs::write(&home.policy, PULL_ONLY).unwrap();
    let args = [&home.args()[..], &["--set", "authz.enforce=false"]].concat();
    let mut node = Node::start(home.dir.path(), &args);
    let channel = home.channel(&mut node).await;
    assert!(push_one(&channel, "one").await.is_ok());
    let line = node.wait_line("not allowed by the policy");
    assert_eq!(line["decision"], "would_deny", "{line}");
    assert_eq!(line["spiffe_id"], "spiffe://dev.directory.internal/dir/client", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_policy_is_served() {
    let home = Home::new("policy.yaml");
    let text = "version: 1
rules:
  - {id: everybody, effect: allow, principals: [local], methods: ['@read', '@write']}
  - {id: no-client, effect: deny, principals: ['spiffe://dev.directory.internal/dir/client'], methods: ['@write']}
";
    std::fs::write(&home.policy, text).unwrap();
    let mut node = home.start();
    let channel = home.channel(&mut node).await;
    assert_eq!(push_one(&channel, "one").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(node.wait_line("not allowed by the policy")["rule_id"], "no-client");
    assert_eq!(pull(&channel, &[]).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_without_authentication_nobody_is_authorized() {
    let home = Home::new("policy.csv");
    std::fs::write(&home.policy, "p,*,*\n").unwrap();
    let args = [&["--dev"], &home.args()[1..], &["--set", "authz.enabled=true"]].concat();
    let mut node = Node::start(home.dir.path(), &args);
    let denied = push_one(&plain(node.grpc()).await, "one").await.unwrap_err();
    assert_eq!((denied.code(), denied.message()), (Code::Unauthenticated, "not authenticated"));
}

/// Two federated trust domains, each with a socket: `a.internal` for the server, `b.internal` for a partner.
async fn federation(dir: &Path) -> (DevWorkloadApi, DevWorkloadApi) {
    let domain = |name: &str, with: &str| DevDomain {
        name: name.to_owned(),
        svids: vec![DevSvid {
            spiffe_id: format!("spiffe://{name}/node"),
            dns_names: vec!["localhost".to_owned()],
            hint: String::new(),
        }],
        federates_with: vec![with.to_owned()],
    };
    let (a, b) = (domain("a.internal", "b.internal"), domain("b.internal", "a.internal"));
    let bare = |d: &DevDomain| DevDomain { svids: Vec::new(), ..d.clone() };
    let config = |socket: &str, trust_domains| DevConfig {
        socket: dir.join(socket),
        trust_domains,
        svid_ttl: Duration::from_secs(3600),
        ca_ttl: Duration::from_secs(86_400),
    };
    let ours = config("a.sock", vec![a.clone(), bare(&b)]);
    let ours = DevWorkloadApi::start(ours, Arc::new(SystemClock)).await.unwrap();
    let theirs = ours.beside(config("b.sock", vec![b, bare(&a)])).await.unwrap();
    (ours, theirs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_may_what_the_policy_gives_it() {
    let home = tempdir().unwrap();
    let (ours, theirs) = federation(home.path()).await;
    let policy = home.path().join("policy.csv");
    std::fs::write(&policy, "p,a.internal,*\np,*,/agntcy.dir.store.v1.StoreService/Pull\n").unwrap();
    let path = format!("authz.enforcer_policy_file_path={}", policy.display());
    let socket = format!("authn.socket_path={}", ours.socket_uri());
    let args =
        ["--set", "authn.enabled=true", "--set", &socket, "--set", &path, "--set", "authz.enabled=true"];
    let mut node = Node::start(home.path(), &args);
    let own = secure(node.grpc(), &ours.socket_uri()).await;
    let partner = secure(node.grpc(), &theirs.socket_uri()).await;
    let cids = push_one(&own, "one").await.unwrap();
    assert_eq!(pull(&partner, &cids).await.unwrap().len(), 1);
    let denied = push_one(&partner, "two").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let line = node.wait_line("not allowed by the policy");
    assert_eq!((&line["spiffe_id"], &line["decision"]), (&"spiffe://b.internal/node".into(), &"deny".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_what_is_no_grpc_call_is_answered_in_http_with_tls_as_without() {
    use tonic::codegen::http::{Method, Request};
    use tower::{Service, ServiceExt};
    let home = Home::new("policy.csv");
    std::fs::write(&home.policy, OWN).unwrap();
    let mut node = home.start();
    let tls = home.channel(&mut node).await;
    let bare = tempdir().unwrap();
    let mut open = Node::start(bare.path(), &["--dev"]);
    for mut channel in [tls, plain(open.grpc()).await] {
        for (content_type, quoted) in [(None, ""), (Some("text/html"), "text/html")] {
            let mut request = Request::builder().method(Method::GET).uri("/");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let request = request.body(tonic::body::Body::empty()).unwrap();
            let answer = channel.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(answer.status(), 415);
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), "application/grpc");
            assert_eq!(header("grpc-status"), "3");
            assert_eq!(header("grpc-message"), format!("invalid gRPC request content-type \"{quoted}\""));
        }
    }
}
