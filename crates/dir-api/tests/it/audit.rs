//! The audit log as auditors read it.

use crate::node::{Node, Setup, push, record, reference, soon, until};
use dir_api::{
    AppConfig, Audit, AuditConfig, AuditSink, Rate, RateConfig, RefusedHandshake, SecurityEvent, WhenFull,
};
use dir_core::chain::{Fault, Verifier};
use dir_core::{Clock, Principal, Timestamp};
use dir_proto::agntcy::dir::naming::v1::naming_service_client::NamingServiceClient;
use dir_proto::agntcy::dir::naming::v1::{GetVerificationInfoRequest, ResolveRequest};
use dir_proto::agntcy::dir::search::v1::CountRecordsRequest;
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::store::v1::store_service_client::StoreServiceClient;
use futures::StreamExt;
use parking_lot::{Condvar, Mutex};
use prometheus::Registry;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::Arc;
use tonic::transport::Channel;
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

impl AuditSink for Sink {}

/// A clock that stands still.
pub(crate) struct At(pub(crate) Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

struct Audited {
    node: Node,
    audit: Audit,
    sink: Sink,
    metrics: Registry,
    /// One connection for all calls of `count`.
    channel: Channel,
}

impl Audited {
    async fn with(config: AuditConfig, rates: Option<RateConfig>) -> Self {
        let (sink, metrics) = (Sink::default(), Registry::new());
        let out = sink.clone();
        let audit = Audit::start(
            config,
            Box::new(move || Ok(Box::new(out.clone()))),
            Arc::new(At(Timestamp(0))),
            &metrics,
        )
        .unwrap();
        let app = AppConfig { audit: Some(audit.clone()), rates, ..AppConfig::default() };
        let node = Node::shaped(Setup { app, ..Setup::default() }, |_, mut conn| {
            let peer = Arc::make_mut(&mut conn.peer);
            peer.principal = Principal::Spiffe("spiffe://acme.example/agent".parse().unwrap());
            "0a1b".clone_into(&mut peer.serial);
            peer.real_addr = Some("192.0.2.7:55".parse().unwrap());
            conn
        })
        .await;
        let channel = node.channel().await;
        let audited = Self { node, audit, sink, metrics, channel };
        // The line of the connection is there before a test holds anything up.
        until(|| audited.text().contains("authenticated")).await;
        audited
    }

    fn text(&self) -> String {
        assert!(self.audit.close());
        String::from_utf8(self.sink.text.lock().clone()).unwrap()
    }

    /// Every line but those of connections.
    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let all = text.lines().map(|line| serde_json::from_str(line).expect(line));
        all.filter(|line: &Value| line["event"] != "authenticated").collect()
    }

    fn counted(&self, result: &str) -> u64 {
        let page = prometheus::TextEncoder::new().encode_to_string(&self.metrics.gather()).unwrap();
        let sample = format!("audit_lines_total{{result=\"{result}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&sample)).expect(result);
        value.parse().unwrap()
    }

    async fn count(&self) -> Result<(), Status> {
        let mut client = SearchServiceClient::new(self.channel.clone());
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
    assert_eq!(audited.counted("written"), 5 + 3, "three connections");
    let records = |line: &Value| line["resources"].as_array().unwrap().clone();
    assert_eq!(
        (records(&lines[0]), records(&lines[1])),
        (vec![], vec![]),
        "nothing is touched at the beginning"
    );
    let (mut told, mut pushed) = (records(push), cids.clone());
    told.sort_by_key(ToString::to_string);
    pushed.sort();
    assert_eq!(told, pushed);
    assert_eq!(
        (records(&lines[4]), &lines[4]["resources_omitted"]),
        (vec![cids[0].clone().into()], &0.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn o2_names_and_filters_are_told_and_bodies_are_not() {
    let audited = Audited::with(AuditConfig::default(), None).await;
    let cids = push(&audited.node, vec![record("acme.example/a")]).await;
    let mut naming = NamingServiceClient::new(audited.channel.clone());
    let ask = ResolveRequest { name: "acme.example/a".to_owned(), version: None };
    soon(naming.resolve(ask)).await.unwrap();
    let info = GetVerificationInfoRequest { cid: Some(cids[0].clone()), ..Default::default() };
    soon(naming.get_verification_info(info)).await.unwrap();
    let mut store = audited.node.store_client().await;
    soon(store.delete(futures::stream::iter([reference(&cids[0])]))).await.unwrap();
    let of = |method: &str| {
        let lines = audited.lines().into_iter();
        let found = lines.filter(|l| l["method"].as_str().unwrap().ends_with(method) && l["event"] != "open");
        found.map(|l| l["resources"].clone()).collect::<Vec<_>>()
    };
    until(|| of("/Delete").len() == 1).await;
    assert_eq!(of("/Resolve"), [json!(["acme.example/a"])]);
    assert_eq!(of("/GetVerificationInfo"), [json!([cids[0]])]);
    assert_eq!(of("/Delete"), [json!([cids[0]])]);
    assert!(!audited.text().contains("schema_version"), "no body");
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_who_connects_and_what_happens_to_trust_is_told() {
    let config = AuditConfig { queue: 1, ..AuditConfig::default() };
    let audited = Audited::with(config, None).await;
    let text = audited.text();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["event"], &line["spiffe_id"]),
        (&"authenticated".into(), &"spiffe://acme.example/agent".into())
    );
    assert_eq!((&line["serial"], &line["real_addr"]), (&"0a1b".into(), &"192.0.2.7:55".into()));
    assert!(line["conn_id"].is_u64() && line["peer_addr"].is_string());
    audited.hold(true);
    for policy_generation in 1..10 {
        let reason = "line 3: no such method".to_owned();
        audited.audit.event(SecurityEvent::PolicyRefused { policy_generation, reason });
    }
    audited.hold(false);
    let lines = audited.lines();
    assert_eq!(lines.len(), 9, "a full queue costs none of them");
    let wanted = json!({
        "ts": "1970-01-01T00:00:00Z", "event": "policy_refused", "policy_generation": 1,
        "reason": "line 3: no such method",
    });
    assert_eq!(lines[0], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn o4_the_chain_goes_through_calls_losses_and_failed_writes() {
    let config = AuditConfig { queue: 4, hash_chain: true, ..AuditConfig::default() };
    let audited = Audited::with(config, None).await;
    for _ in 0..3 {
        audited.count().await.unwrap();
    }
    until(|| audited.lines().len() == 3).await;
    *audited.sink.broken.lock() = true;
    audited.count().await.unwrap();
    until(|| audited.counted("dropped") == 1).await;
    *audited.sink.broken.lock() = false;
    audited.count().await.unwrap();
    let text = audited.text();
    let mut verifier = Verifier::default();
    assert!(text.lines().all(|line| verifier.line(line.as_bytes()).is_ok()), "{text}");
    let lines = audited.lines();
    assert_eq!((lines.len(), &lines[3]["event"], &lines[3]["lines_dropped"]), (5, &"lost".into(), &1.into()));
    assert_eq!(verifier.head().unwrap().seq(), 6);
    let mut without = Verifier::default();
    let removed = text.lines().filter(|line| !line.contains("lost"));
    let faults: Vec<_> = removed.filter_map(|line| without.line(line.as_bytes()).err()).collect();
    assert_eq!(faults, [Fault::Missing { first: 5, last: 5 }]);
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
    let config = AuditConfig { queue: 4, when_full: WhenFull::Drop, ..AuditConfig::default() };
    let audited = Audited::with(config, None).await;
    audited.hold(true);
    for _ in 0..10 {
        audited.count().await.unwrap();
    }
    assert_eq!(audited.counted("dropped"), 6, "four wait, calls do not");
    audited.hold(false);
    until(|| audited.lines().len() == 5).await;
    let lost = audited.lines().into_iter().find(|line| line["event"] == "lost").unwrap();
    let told = [&lost["event"], &lost["lines_dropped"], &lost["calls_refused"]];
    assert_eq!(told, [&json!("lost"), &json!(6), &json!(0)], "the log says what is missing in it");
    audited.count().await.unwrap();
    assert_eq!(audited.lines().len(), 6, "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_a_call_without_room_is_refused_and_none_goes_without_a_line() {
    let config = AuditConfig { queue: 4, when_full: WhenFull::Refuse, ..AuditConfig::default() };
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
    // A stream finds no room either, and is told of like the call.
    let mut store = StoreServiceClient::new(audited.channel.clone());
    let refused = soon(store.pull(futures::stream::empty())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    audited.hold(false);
    until(|| audited.lines().len() == 5).await;
    let lost = audited.lines().into_iter().find(|line| line["event"] == "lost").unwrap();
    let told = [&lost["event"], &lost["lines_dropped"], &lost["calls_refused"]];
    assert_eq!(told, [&json!("lost"), &json!(1), &json!(2)]);
    audited.count().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_counted_or_kept() {
    let dropping = Audited::with(AuditConfig::default(), None).await;
    *dropping.sink.broken.lock() = true;
    dropping.count().await.unwrap();
    until(|| dropping.counted("dropped") == 1).await;
    *dropping.sink.broken.lock() = false;
    dropping.count().await.unwrap();
    assert_eq!(dropping.lines()[0]["lines_dropped"], 1);

    let config = AuditConfig { queue: 1, when_full: WhenFull::Refuse, ..AuditConfig::default() };
    let keeping = Audited::with(config, None).await;
    *keeping.sink.broken.lock() = true;
    keeping.count().await.unwrap();
    assert_eq!(keeping.count().await.unwrap_err().code(), Code::Unavailable);
    *keeping.sink.broken.lock() = false;
    until(|| keeping.counted("written") == 2).await;
    until(|| keeping.lines().len() == 2).await;
    assert!(keeping.lines().iter().any(|line| line["calls_refused"] == 1));
    keeping.count().await.unwrap();
}
