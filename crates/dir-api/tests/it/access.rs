//! The access log, and what the log knows that clients are not told.

use crate::frames::call_with;
use crate::node::{Mood, Node, Setup, push, record, reference, until};
use bytes::Bytes;
use dir_core::Principal;
use dir_proto::agntcy::dir::events::v1::ListenRequest;
use dir_proto::agntcy::dir::events::v1::event_service_client::EventServiceClient;
use dir_proto::directory::watch::v1::WatchRequest;
use dir_proto::directory::watch::v1::watch_service_client::WatchServiceClient;
use prost::Message;
use serde_json::Value;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use tonic::metadata::MetadataValue;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tracing_subscriber::fmt::MakeWriter;

/// Lines of the log, as JSON.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// Logs of this thread, on which a test runs its whole node, from `level` up.
    fn listen(level: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        // As long as a process has one subscriber, whichever thread comes first to a place that logs decides for all
        // threads whether it does: a test beside this one, which listens to nothing. With two, all are asked.
        static SECOND: LazyLock<tracing::Dispatch> =
            LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&SECOND);
        let lines = Self::default();
        let subscriber =
            tracing_subscriber::fmt().json().with_max_level(level).with_writer(lines.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn all(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Access lines of one method.
    fn of(&self, method: &str) -> Vec<Value> {
        let lines = self.all().into_iter();
        lines.filter(|line| line["fields"]["grpc.method"] == *method).collect()
    }
}

/// Asks for a record with headers that the log takes over.
async fn pull(node: &Node, cid: &str) -> tonic::Status {
    let mut request = tonic::Request::new(vec![reference(cid).encode_to_vec().into()]);
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("req-1"));
    request.metadata_mut().insert("x-correlation-id", MetadataValue::from_static("corr-1"));
    call_with(node.channel().await, "/agntcy.dir.store.v1.StoreService/Pull", request).await.status
}

#[tokio::test]
async fn a_call_is_two_lines_with_the_fields_that_operators_look_for() {
    let (lines, _listening) = Lines::listen(tracing::Level::INFO);
    let node = Node::shaped(Setup::default(), |_, mut conn| {
        let mut peer = (*conn.peer).clone();
        peer.principal = Principal::Spiffe("spiffe://example.org/client".parse().unwrap());
        conn.peer = Arc::new(peer);
        conn
    })
    .await;
    pull(&node, "nothing").await;
    until(|| lines.of("Pull").len() == 2).await;
    let both = lines.of("Pull");
    for line in &both {
        let fields = &line["fields"];
        assert_eq!(fields["protocol"], "grpc");
        assert_eq!(fields["grpc.component"], "server");
        assert_eq!(fields["grpc.service"], "agntcy.dir.store.v1.StoreService");
        assert_eq!(fields["grpc.method_type"], "bidi_stream");
        assert_eq!(fields["grpc.start_time"], "2026-01-01T00:00:00Z");
        assert!(fields["peer.address"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(fields["spiffe_id"], "spiffe://example.org/client");
        assert_eq!((&fields["request_id"], &fields["correlation_id"]), (&"req-1".into(), &"corr-1".into()));
        assert!(fields["user_agent"].as_str().unwrap().starts_with("tonic/"));
        assert_eq!(line["level"], "INFO", "NotFound is no alarm");
    }
    assert_eq!(both[0]["fields"]["message"], "started call");
    let finished = &both[1]["fields"];
    assert_eq!(finished["message"], "finished call");
    assert_eq!(finished["grpc.code"], "NotFound");
    assert_eq!(finished["grpc.error"], "failed to pull record: record not found: nothing");
    assert!(finished["grpc.time_ms"].as_f64().unwrap() >= 0.0);
    let spelled = finished["grpc.time_ms"].to_string();
    assert!(spelled.split_once('.').is_none_or(|(_, decimals)| decimals.len() <= 3), "{spelled}");
}

#[tokio::test]
async fn the_level_says_whose_fault_it_was_and_health_is_quiet() {
    let (lines, _listening) = Lines::listen(tracing::Level::INFO);
    let node = Node::start().await;
    pull(&node, "").await;
    let channel = node.channel().await;
    let ask = async |path: &str, message: Bytes| {
        call_with(channel.clone(), path, tonic::Request::new(vec![message])).await.status.code()
    };
    ask("/grpc.health.v1.Health/Check", Bytes::new()).await;
    ask("/agntcy.dir.search.v1.SearchService/CountRecords", Bytes::from_static(&[0xff])).await;
    ask("/agntcy.dir.search.v1.SearchService/CountRecords", Bytes::new()).await;
    until(|| lines.of("CountRecords").len() == 4).await;
    let levels = |method: &str| {
        let lines = lines.of(method).into_iter();
        let finished = lines.filter(|l| l["fields"]["message"] == "finished call");
        finished.map(|l| (l["level"].clone(), l["fields"]["grpc.error"].is_string())).collect::<Vec<_>>()
    };
    assert_eq!(levels("Pull"), [("WARN".into(), true)]);
    assert_eq!(levels("CountRecords"), [("ERROR".into(), true), ("INFO".into(), false)]);
    assert!(lines.of("Check").is_empty());
}

#[tokio::test]
async fn a_failing_store_is_explained_in_the_log_under_the_request_id() {
    let (lines, _listening) = Lines::listen(tracing::Level::WARN);
    let node = Node::start().await;
    let known = push(&node, vec![record("a")]).await.remove(0);
    node.store.mood(Mood::Unavailable);
    assert!(!pull(&node, &known).await.message().contains("secret-host"));
    let told =
        lines.all().into_iter().find(|line| line["fields"]["message"] == "call failed").expect("a line");
    assert_eq!(told["fields"]["request_id"], "req-1");
    let detail = told["fields"]["detail"].as_str().unwrap();
    assert!(detail.contains("connection refused (secret-host)") && detail.contains(&known), "{detail}");
    until(|| lines.of("Pull").len() == 1).await;
    assert_eq!(lines.of("Pull")[0]["level"], "ERROR");
}

#[tokio::test]
async fn a_listener_that_hangs_up_has_ended_its_call_well() {
    let (lines, _listening) = Lines::listen(tracing::Level::INFO);
    let node = Node::start().await;
    let channel = node.channel().await;
    let heard = EventServiceClient::new(channel.clone()).listen(ListenRequest::default()).await.unwrap();
    let watched = WatchServiceClient::new(channel.clone()).watch(WatchRequest::default()).await.unwrap();
    let health = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap();
    drop((heard, watched, health));
    // Other calls do not end so by themselves.
    for (service, method, code) in [
        ("agntcy.dir.events.v1.EventService", "Listen", "OK"),
        ("directory.watch.v1.WatchService", "Watch", "OK"),
        ("grpc.health.v1.Health", "Watch", "Canceled"),
    ] {
        let (service, method) = (format!("\"{service}\""), format!("\"{method}\""));
        let code = format!("grpc_code=\"{code}\"");
        until(|| node.sample(&["grpc_server_handled_total", &service, &method, &code]) == Some(1.0)).await;
    }
    for method in ["Listen", "Watch"] {
        let last = lines.of(method).pop().unwrap();
        assert_eq!(last["fields"]["message"], "finished call");
        assert_eq!((&last["fields"]["grpc.code"], &last["level"]), (&"OK".into(), &"INFO".into()));
        assert!(last["fields"]["grpc.error"].is_null());
    }
}
