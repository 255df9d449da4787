//! The audit log as auditors read it.

use crate::node::{Node, Setup, push, record, reference, soon, until};
use dir_api::{AppConfig, Audit, AuditConfig, Rate, RateConfig, RefusedHandshake, WhenFull};
use dir_core::{Principal, Timestamp};
use dir_proto::agntcy::dir::search::v1::CountRecordsRequest;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use futures::StreamExt;
use parking_lot::{Condvar, Mutex};
use prometheus::Registry;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;
use tonic::{Code, Request, Status};

/// Where lines go: held back, or refused while `broken`.
#[derive(Clone, Default)]
struct Sink {
    text: Arc<Mutex<Vec<u8>>>,
    hold: Arc<(Mutex<bool>, Condvar)>,
    broken: Arc<Mutex<bool>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (held, free) = &*self.hold;
        free.wait_while(&mut held.lock(), |held| *held);
        if *self.broken.lock() {
            return Err(io::Error::other("no space left"));
        }
        // A few bytes at a time: lines stay whole all the same.
        let part = bytes.len().min(100);
        self.text.lock().extend_from_slice(&bytes[..part]);
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Audited {
    node: Node,
    audit: Audit,
    sink: Sink,
    metrics: Registry,
}

impl Audited {
    async fn with(config: AuditConfig, rates: Option<RateConfig>) -> Self {
        let (sink, metrics) = (Sink::default(), Registry::new());
        let out = sink.clone();
        let audit = Audit::start(config, Box::new(move || Ok(Box::new(out.clone()))), &metrics).unwrap();
        let app = AppConfig { audit: Some(audit.clone()), rates, ..AppConfig::default() };
        let node = Node::shaped(Setup { app, ..Setup::default() }, |_, mut conn| {
            let peer = Arc::make_mut(&mut conn.peer);
            peer.principal = Principal::Spiffe("spiffe://acme.example/agent".parse().unwrap());
            "0a1b".clone_into(&mut peer.serial);
            peer.real_addr = Some("192.0.2.7:55".parse().unwrap());
            conn
        })
        .await;
        Self { node, audit, sink, metrics }
    }

    fn lines(&self) -> Vec<Value> {
        assert!(self.audit.close());
        let text = String::from_utf8(self.sink.text.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn counted(&self, result: &str) -> u64 {
        let page = prometheus::TextEncoder::new().encode_to_string(&self.metrics.gather()).unwrap();
        let sample = format!("audit_lines_total{{result=\"{result}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&sample)).expect(result);
        value.parse().unwrap()
    }

    async fn count(&self) -> Result<(), Status> {
        let mut client = SearchServiceClient::new(self.node.channel().await);
        let mut request = Request::new(CountRecordsRequest::default());
        for name in ["authorization", "x-auth-principal", "cookie", "x-anything"] {
            request.metadata_mut().insert(name, "Bearer sentinel-8f3a".parse().unwrap());
        }
        request.metadata_mut().insert("x-request-id", "req-1".parse().unwrap());
        soon(client.count_records(request)).await.map(|_| ())
    }

    /// Holds the writer up, or lets it go on.
    fn hold(&self, held: bool) {
        *self.sink.hold.0.lock() = held;
        self.sink.hold.1.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_o2_one_line_a_unary_call_and_two_a_stream_with_every_field() {
    let audited = Audited::with(AuditConfig::default(), None).await;
    audited.count().await.unwrap();
    let cids = push(&audited.node, vec![record("acme.example/a"), record("acme.example/b")]).await;
    let mut client = audited.node.store_client().await;
    let pulled = soon(client.pull(futures::stream::iter([reference(&cids[0])]))).await.unwrap();
    assert_eq!(soon(pulled.into_inner().collect::<Vec<_>>()).await.len(), 1);
    let is_done = || audited.lines().len() == 5;
    until(is_done).await;
    let lines = audited.lines();
    let events: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["call", "open", "close", "open", "close"]);
    let call = lines[0].as_object().unwrap();
    for (field, wanted) in [
        ("request_id", "req-1"),
        ("spiffe_id", "spiffe://acme.example/agent"),
        ("principal", "spiffe://acme.example/agent"),
        ("trust_domain", "acme.example"),
        ("serial", "0a1b"),
        ("real_addr", "192.0.2.7:55"),
        ("method", "/agntcy.dir.search.v1.SearchService/CountRecords"),
        ("decision", "allow"),
        ("code", "OK"),
        ("ts", "2026-01-01T00:00:00Z"),
    ] {
        assert_eq!(call[field], wanted, "{field}");
    }
    for field in
        ["conn_id", "actor", "rule_id", "policy_generation", "bytes_in", "bytes_out", "ms", "peer_addr"]
    {
        assert!(call.contains_key(field), "{field}");
    }
    assert_eq!(lines[1]["code"], Value::Null, "an open stream has no outcome");
    let push = &lines[2];
    assert_eq!(push["messages"], 4, "two records, two answers");
    assert!(push["bytes_in"].as_u64().unwrap() > 500 && push["bytes_out"].as_u64().unwrap() > 100);
    assert_eq!(lines[1]["request_id"], push["request_id"]);
    assert_eq!(audited.counted("written"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_refused_calls_and_handshakes_leave_lines_and_secrets_do_not() {
    let once =
        RateConfig { global: None, per_client: Some(Rate { rps: 0.001, burst: 1 }), ..RateConfig::default() };
    let audited = Audited::with(AuditConfig::default(), Some(once)).await;
    audited.count().await.unwrap();
    assert_eq!(audited.count().await.unwrap_err().code(), Code::ResourceExhausted);
    audited.audit.refused_handshake(RefusedHandshake {
        at: Timestamp(0),
        addr: "192.0.2.9:1".parse().unwrap(),
        real_addr: None,
        reason: "expired",
        issuer: Some("CN=somebody \"quoted\"".to_owned()),
        subject: None,
    });
    let lines = audited.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["code"], "ResourceExhausted");
    let refused = &lines[2];
    assert_eq!((&refused["event"], &refused["reason"]), (&"handshake_refused".into(), &"expired".into()));
    assert_eq!(refused["issuer"], "CN=somebody \"quoted\"");
    assert_eq!(refused["decision"], "deny");
    let text = String::from_utf8(audited.sink.text.lock().clone()).unwrap();
    assert!(!text.contains("sentinel"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_lines_and_counts_them() {
    let config = AuditConfig { queue: 4, when_full: WhenFull::Drop };
    let audited = Audited::with(config, None).await;
    audited.hold(true);
    for _ in 0..10 {
        audited.count().await.unwrap();
    }
    assert_eq!(audited.counted("dropped"), 6, "four wait, calls do not");
    audited.hold(false);
    assert_eq!(audited.lines().len(), 4);
    audited.count().await.unwrap();
    assert_eq!(audited.lines().len(), 5, "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_a_call_without_room_is_refused_and_none_goes_without_a_line() {
    let config = AuditConfig { queue: 4, when_full: WhenFull::Refuse };
    let audited = Audited::with(config, None).await;
    audited.hold(true);
    for _ in 0..4 {
        audited.count().await.unwrap();
    }
    let refused = audited.count().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!((audited.counted("refused"), audited.counted("dropped")), (1, 0));
    // Refused handshakes have half of the queue: none of it now.
    audited.audit.refused_handshake(RefusedHandshake {
        at: Timestamp(0),
        addr: "192.0.2.9:1".parse().unwrap(),
        real_addr: None,
        reason: "timeout",
        issuer: None,
        subject: None,
    });
    assert_eq!(audited.counted("dropped"), 1);
    audited.hold(false);
    assert_eq!(audited.lines().len(), 4);
    audited.count().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_counted_or_kept() {
    let dropping = Audited::with(AuditConfig::default(), None).await;
    *dropping.sink.broken.lock() = true;
    dropping.count().await.unwrap();
    until(|| dropping.counted("dropped") == 1).await;

    let config = AuditConfig { queue: 1, when_full: WhenFull::Refuse };
    let keeping = Audited::with(config, None).await;
    *keeping.sink.broken.lock() = true;
    keeping.count().await.unwrap();
    assert_eq!(keeping.count().await.unwrap_err().code(), Code::Unavailable);
    *keeping.sink.broken.lock() = false;
    until(|| keeping.counted("written") == 1).await;
    assert_eq!(keeping.lines().len(), 1);
    keeping.count().await.unwrap();
}
