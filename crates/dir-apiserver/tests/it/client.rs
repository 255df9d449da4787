//! The generated clients, in plaintext and with an SVID.

use dir_identity::{Connector, Identity, ServerCheck, WorkloadConfig};
use dir_proto::agntcy::dir::core::v1::{Record, RecordRef};
use dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient;
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, RecordQuery, RecordQueryType, SearchCiDsRequest,
};
use dir_proto::agntcy::dir::store::v1::store_service_client::StoreServiceClient;
use dir_runtime::SystemClock;
use hyper_util::rt::TokioIo;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// A plaintext channel.
pub(crate) async fn plain(port: u16) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap()
}

/// A channel over mTLS with the first SVID of a Workload API.
pub(crate) async fn secure(port: u16, socket: &str) -> Channel {
    let config = WorkloadConfig { socket: socket.to_owned(), ..WorkloadConfig::default() };
    let metrics = prometheus::Registry::new();
    let identity = Identity::obtain(config, Arc::new(SystemClock), &metrics).await.unwrap();
    let connector = Connector::new(identity, ServerCheck::AnyKnown);
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

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn object(fields: &[(&str, Value)]) -> Struct {
    Struct { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect() }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

fn class(id: f64, name: &str) -> Value {
    let id = Value { kind: Some(Kind::NumberValue(id)) };
    Value { kind: Some(Kind::StructValue(object(&[("id", id), ("name", text(name))]))) }
}

/// A valid OASF 1.0.0 record of this name.
pub(crate) fn record(name: &str) -> Record {
    let data = object(&[
        ("name", text(name)),
        ("version", text("v1.0.0")),
        ("schema_version", text("1.0.0")),
        ("description", text("An agent of a test.")),
        ("created_at", text("2026-01-01T00:00:00Z")),
        ("authors", list(vec![text("Acme")])),
        ("skills", list(vec![class(10201.0, "natural_language_processing/text_completion")])),
        ("domains", list(vec![class(101.0, "technology/internet_of_things")])),
        ("locators", list(vec![])),
        ("modules", list(vec![module()])),
    ]);
    Record { data: Some(data) }
}

fn module() -> Value {
    let data = Value { kind: Some(Kind::StructValue(object(&[("note", text("none"))]))) };
    let fields = [("name", text("integration/test")), ("data", data)];
    Value { kind: Some(Kind::StructValue(object(&fields))) }
}

/// A client of the store over a channel.
pub(crate) fn store(channel: &Channel) -> StoreServiceClient<Channel> {
    StoreServiceClient::new(channel.clone())
}

/// Opens a push stream: records go in at one end, references come out at the other.
pub(crate) async fn open_push(channel: &Channel) -> (mpsc::Sender<Record>, Streaming<RecordRef>) {
    let (tx, rx) = mpsc::channel(64);
    let answers = store(channel).push(ReceiverStream::new(rx)).await.unwrap().into_inner();
    (tx, answers)
}

/// Pushes records and answers their CIDs in order.
pub(crate) async fn push(channel: &Channel, records: Vec<Record>) -> Result<Vec<String>, Status> {
    let answers = store(channel).push(tokio_stream::iter(records)).await?.into_inner();
    answers.map(|a| a.map(|r| r.cid)).collect().await
}

/// Pulls records in order.
pub(crate) async fn pull(channel: &Channel, cids: &[String]) -> Result<Vec<Record>, Status> {
    let wanted: Vec<_> = cids.iter().map(|cid| RecordRef { cid: cid.clone() }).collect();
    store(channel).pull(tokio_stream::iter(wanted)).await?.into_inner().collect().await
}

fn by_name(pattern: &str) -> Vec<RecordQuery> {
    vec![RecordQuery { r#type: RecordQueryType::Name.into(), value: pattern.to_owned(), negate: false }]
}

/// The CIDs of all records whose name fits.
pub(crate) async fn search(channel: &Channel, pattern: &str) -> Vec<String> {
    let queries = by_name(pattern);
    let request = SearchCiDsRequest { queries, limit: Some(1_000_000), ..Default::default() };
    let found = SearchServiceClient::new(channel.clone()).search_ci_ds(request).await.unwrap().into_inner();
    found.map(|a| a.unwrap().record_cid).collect().await
}

/// How many records' names fit.
pub(crate) async fn count(channel: &Channel, pattern: &str) -> u32 {
    let request = CountRecordsRequest { queries: by_name(pattern) };
    let mut client = SearchServiceClient::new(channel.clone());
    client.count_records(request).await.unwrap().into_inner().total_count
}
