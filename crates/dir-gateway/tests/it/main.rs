//! The ops listener over real sockets.

// Test helpers fail by panicking; clippy exempts only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dir_gateway::headers::SECURITY;
use dir_gateway::{
    About, ComponentHealth, HealthReport, HealthSource, Info, InfoSource, Limits, OpsState, Status, router,
    serve,
};
use prometheus::{IntCounterVec, Opts, Registry};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ABOUT: About =
    About { name: "dir-test", version: "1.2.3", git_sha: Some("abc"), target: "x86_64-test" };

struct Fixed(Mutex<HealthReport>);

impl HealthSource for Fixed {
    fn report(&self) -> HealthReport {
        self.0.lock().unwrap().clone()
    }
}

fn report(ready: bool) -> HealthReport {
    let svid = ComponentHealth { status: Status::Healthy, detail: None };
    let registry = ComponentHealth { status: Status::Degraded, detail: Some("no answer".to_owned()) };
    HealthReport {
        status: Status::Degraded,
        ready,
        live: true,
        started: ready,
        obstacle: (!ready).then(|| "index: loading".to_owned()),
        components: BTreeMap::from([("svid", svid), ("registry", registry)]),
    }
}

struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn ask(to: SocketAddr, method: &str, path: &str) -> Answer {
    let mut io = TcpStream::connect(to).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pairs = lines.map(|l| l.split_once(": ").unwrap());
    let headers = pairs.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    Answer { code, headers, body: body.to_owned() }
}

/// Services that come up when a test says so.
#[derive(Default)]
struct Services(Mutex<Option<Info>>);

impl InfoSource for Services {
    fn info(&self) -> Option<Info> {
        self.0.lock().unwrap().clone()
    }
}

struct Ops {
    at: SocketAddr,
    health: Arc<Fixed>,
    info: Arc<Services>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(metrics: Option<Registry>) -> Ops {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let health = Arc::new(Fixed(Mutex::new(report(true))));
    let stop = CancellationToken::new();
    let info = Arc::new(Services::default());
    let state = OpsState { health: health.clone(), metrics, info: info.clone(), about: ABOUT };
    let task = tokio::spawn(serve(listener, router(state), stop.clone()));
    Ops { at, health, info, stop, task }
}

fn json(answer: &Answer) -> Value {
    assert!(answer.headers["content-type"].starts_with("application/json"));
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn info_is_there_when_the_services_are() {
    let ops = start(None).await;
    let early = ask(ops.at, "GET", "/info").await;
    assert_eq!((early.code, &json(&early)["reason"]), (503, &"the services are not up yet".into()));
    let info = Info {
        version: "1.2.3".into(),
        api_versions: vec!["1.8"],
        services: vec!["a.B".into()],
        auth_modes: vec!["x509_svid"],
        jwt_audiences: Vec::new(),
        trust_domain: Some("example.org".into()),
        capabilities: vec!["reflection"],
        limits: Limits { max_receive_bytes: 1, max_send_bytes: 2, max_concurrent_streams: 3 },
        now: "2026-01-01T00:00:00Z".into(),
    };
    *ops.info.0.lock().unwrap() = Some(info.clone());
    let answer = ask(ops.at, "GET", "/info").await;
    assert_eq!((answer.code, json(&answer)), (200, serde_json::to_value(info).unwrap()));
    ops.stop.cancel();
    ops.task.await.unwrap();
}

#[tokio::test]
async fn every_answer_carries_the_five_headers() {
    let ops = start(Some(Registry::new())).await;
    let asked = [
        ("GET", "/", 200),
        ("GET", "/version", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/startupz", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/", 405),
    ];
    for (method, path, code) in asked {
        let answer = ask(ops.at, method, path).await;
        assert_eq!(answer.code, code, "{method} {path}");
        for (name, value) in SECURITY {
            assert_eq!(answer.headers.get(name).map(String::as_str), Some(value), "{method} {path}: {name}");
        }
        if code >= 400 {
            assert!(json(&answer)["error"].is_string(), "{method} {path}");
        }
    }
    let head = ask(ops.at, "HEAD", "/readyz").await;
    assert_eq!((head.code, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn names_and_version() {
    let ops = start(None).await;
    let root = json(&ask(ops.at, "GET", "/").await);
    assert_eq!(root, serde_json::json!({ "name": "dir-test", "version": "1.2.3" }));
    let version = json(&ask(ops.at, "GET", "/version").await);
    assert_eq!(version["git_sha"], "abc");
    assert_eq!(version["target"], "x86_64-test");
    assert_eq!(ask(ops.at, "GET", "/metrics").await.code, 404, "metrics are off");
}

#[tokio::test]
async fn health_by_component() {
    let ops = start(None).await;
    let answer = ask(ops.at, "GET", "/healthz").await;
    assert!(answer.body.contains(r#""svid":{"status":"healthy"}"#), "{}", answer.body);
    assert!(answer.body.contains(r#""registry":{"status":"degraded","detail":"no answer"}"#));
    assert_eq!(json(&answer)["status"], "degraded");

    *ops.health.0.lock().unwrap() = report(false);
    let ready = ask(ops.at, "GET", "/readyz").await;
    assert_eq!((ready.code, json(&ready)["reason"].as_str()), (503, Some("index: loading")));
    assert_eq!(ask(ops.at, "GET", "/startupz").await.code, 503);
    assert_eq!(ask(ops.at, "GET", "/healthz").await.code, 503);
    assert_eq!(ask(ops.at, "GET", "/livez").await.code, 200, "a restart would not help");
}

#[tokio::test]
async fn metrics_in_text_form() {
    let metrics = Registry::new();
    let counter = IntCounterVec::new(Opts::new("things_total", "Things."), &["kind"]).unwrap();
    counter.with_label_values(&["a"]).inc();
    metrics.register(Box::new(counter)).unwrap();
    let ops = start(Some(metrics)).await;
    let answer = ask(ops.at, "GET", "/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.body.contains("things_total{kind=\"a\"} 1"), "{}", answer.body);
}

#[tokio::test]
async fn stop_closes_idle_connections() {
    let ops = start(None).await;
    let mut idle = TcpStream::connect(ops.at).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: ops\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    ops.stop.cancel();
    ops.task.await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(ops.at).await.is_err());
}
