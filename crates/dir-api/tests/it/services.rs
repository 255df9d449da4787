//! Health, reflection, admin, and every method that is not offered yet.

use crate::frames::call;
use crate::node::{Node, Setup, push, record, soon};
use bytes::Bytes;
use dir_core::Timestamp;
use dir_core::identity::{BundleReport, IdentityReport, IdentityStatus};
use dir_engine::MemoryJournal;
use dir_proto::directory::admin::v1::admin_service_client::AdminServiceClient;
use dir_proto::directory::admin::v1::get_index_status_response::State;
use dir_proto::directory::admin::v1::{GetIdentityRequest, GetIndexStatusRequest};
use dir_proto::directory::info::v1::server_info_service_client::ServerInfoServiceClient;
use dir_proto::directory::info::v1::{AuthMode, GetServerInfoRequest};
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// What this server offers. A method of the API that is not here must answer UNIMPLEMENTED, and one that is here
/// must not: a new RPC needs its row on one side or the other.
const OFFERED: [&str; 25] = [
    "/agntcy.dir.events.v1.EventService/Listen",
    "/agntcy.dir.identity.v1.IdentityService/GetIdentityStatus",
    "/agntcy.dir.identity.v1.IdentityService/Resolve",
    "/agntcy.dir.naming.v1.NamingService/GetVerificationInfo",
    "/agntcy.dir.naming.v1.NamingService/Resolve",
    "/agntcy.dir.search.v1.SearchService/CountRecords",
    "/agntcy.dir.search.v1.SearchService/ListFilterValues",
    "/agntcy.dir.search.v1.SearchService/ListRecordSummaries",
    "/agntcy.dir.search.v1.SearchService/SearchCIDs",
    "/agntcy.dir.search.v1.SearchService/SearchRecords",
    "/agntcy.dir.store.v1.StoreService/Delete",
    "/agntcy.dir.store.v1.StoreService/Lookup",
    "/agntcy.dir.store.v1.StoreService/Pull",
    "/agntcy.dir.store.v1.StoreService/Push",
    "/directory.admin.v1.AdminService/ExplainAccess",
    "/directory.admin.v1.AdminService/ExplainOwnAccess",
    "/directory.admin.v1.AdminService/GetIdentity",
    "/directory.admin.v1.AdminService/GetIndexStatus",
    "/directory.admin.v1.FederationService/ListPartners",
    "/directory.admin.v1.FederationService/RefreshPartner",
    "/directory.admin.v1.StoreJobsService/AuditStore",
    "/directory.admin.v1.StoreJobsService/RepairStore",
    "/directory.admin.v1.StoreJobsService/ReshardStore",
    "/directory.info.v1.ServerInfoService/GetServerInfo",
    "/directory.watch.v1.WatchService/Watch",
];

/// Offered streams that wait for something to happen; tests of their own call them.
const ENDLESS: [&str; 2] =
    ["/agntcy.dir.events.v1.EventService/Listen", "/directory.watch.v1.WatchService/Watch"];

#[tokio::test]
async fn each_method_of_the_api_is_offered_or_says_that_it_is_not() {
    let node = Node::start().await;
    let mut offered = BTreeSet::new();
    for method in dir_proto::methods() {
        let path = method.path();
        if ENDLESS.contains(&path.as_str()) {
            offered.insert(path);
            continue;
        }
        let outcome = call(&node, &path, vec![Bytes::new()]).await;
        if outcome.status.code() != Code::Unimplemented {
            offered.insert(path);
            continue;
        }
        let text = outcome.status.message();
        if path == "/agntcy.dir.sign.v1.SignService/Sign" {
            assert_eq!(text, "server-side signing not implemented - use client SDK");
        } else {
            assert_eq!(text, format!("{path} is not implemented by this server"));
        }
        let labels = [method.service.as_str(), method.method.as_str(), "\"Unimplemented\""];
        assert_eq!(node.sample(&labels), Some(1.0), "{path} is counted");
    }
    assert_eq!(offered, OFFERED.iter().map(ToString::to_string).collect());
    let outcome = call(&node, "/no.such.Service/Method", vec![]).await;
    let text = "unknown method Method for service no.such.Service";
    assert_eq!((outcome.status.code(), outcome.status.message()), (Code::Unimplemented, text));
}

#[tokio::test]
async fn what_a_client_has_to_know() {
    let node = Node::start().await;
    let mut client = ServerInfoServiceClient::new(node.channel().await);
    let info = client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.api_versions, ["1.7", "1.8"]);
    assert_eq!(info.auth_modes().collect::<Vec<_>>(), [AuthMode::None]);
    let limits = info.limits.unwrap();
    assert_eq!((limits.max_receive_bytes, limits.max_send_bytes), (4_194_304, 4_194_304));
    // Exactly the services of which something is offered.
    let offered = OFFERED.iter().map(|path| path[1..].split_once('/').unwrap().0);
    let mut expected: BTreeSet<&str> = offered.collect();
    expected.extend(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
    expected.insert("grpc.reflection.v1alpha.ServerReflection");
    assert_eq!(info.services, expected.into_iter().collect::<Vec<_>>());
    assert!(info.capabilities.contains(&"resumable-watch".to_owned()) && info.trust_domain.is_empty());
    assert!(!info.capabilities.contains(&"authorization".to_owned()));
}

fn asks(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_mirrors_readiness() {
    let node = Node::start().await;
    let mut client = HealthClient::new(node.channel().await);
    let status =
        async |client: &mut HealthClient<_>| client.check(asks("")).await.unwrap().into_inner().status();
    assert_eq!(status(&mut client).await, ServingStatus::Serving);
    let mut watch = client.watch(asks("")).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    node.ready.send_replace(true);
    node.ready.send_replace(false);
    assert_eq!(
        soon(watch.message()).await.unwrap().unwrap().status(),
        ServingStatus::NotServing,
        "the same state twice is one message"
    );
    assert_eq!(status(&mut client).await, ServingStatus::NotServing);
    node.ready.send_replace(true);
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    let unknown = client.check(asks("agntcy.dir.store.v1.StoreService")).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "unknown service"));
    let mut watch = client.watch(asks("other")).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);

    // List is newer than the generated client: { statuses = 1: map<string, HealthCheckResponse> }.
    let listed = call(&node, "/grpc.health.v1.Health/List", vec![Bytes::new()]).await;
    let serving = HealthCheckResponse { status: ServingStatus::Serving.into() }.encode_to_vec();
    let mut entry = vec![0x12, serving.len().try_into().unwrap()];
    entry.extend_from_slice(&serving);
    let without_key = [&[0x0a, u8::try_from(entry.len()).unwrap()], &entry[..]].concat();
    let with_key = [&[0x0a, u8::try_from(entry.len() + 2).unwrap(), 0x0a, 0], &entry[..]].concat();
    assert!([without_key, with_key].contains(&listed.messages[0].to_vec()), "{:?}", listed.messages);
}

async fn reflect(node: &Node, version: &str, ask: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let outcome = call(node, &path, vec![request.encode_to_vec().into()]).await;
    let message = outcome.messages.first().unwrap_or_else(|| panic!("{}", outcome.status)).clone();
    ServerReflectionResponse::decode(message).unwrap().message_response.unwrap()
}

#[tokio::test]
async fn m_reflection_names_every_service_and_shows_its_descriptors() {
    let node = Node::start().await;
    // The messages of both versions are the same on the wire.
    for version in ["v1", "v1alpha"] {
        let listed = reflect(&node, version, MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
        let names: BTreeSet<_> = listed.service.into_iter().map(|s| s.name).collect();
        let mut expected: BTreeSet<_> = dir_proto::methods().iter().map(|m| m.service.clone()).collect();
        expected.insert("grpc.health.v1.Health".into());
        expected.insert(format!("grpc.reflection.{version}.ServerReflection"));
        assert_eq!(names, expected);
        let symbol = "agntcy.dir.store.v1.StoreService".to_owned();
        let shown = reflect(&node, version, MessageRequest::FileContainingSymbol(symbol)).await;
        let MessageResponse::FileDescriptorResponse(shown) = shown else { panic!("{shown:?}") };
        let file = prost_types::FileDescriptorProto::decode(&shown.file_descriptor_proto[0][..]).unwrap();
        assert_eq!(file.service[0].method.len(), 7);
    }
}

/// An identity as a node holds it.
struct Identity;

impl IdentityStatus for Identity {
    fn report(&self) -> Option<IdentityReport> {
        let bundle = |domain: &str| BundleReport {
            trust_domain: domain.parse().unwrap(),
            source: "workload_api".into(),
            authorities: 2,
            updated_at: Timestamp::from_secs(1000),
            earliest_expiry: Some(Timestamp::from_secs(2000)),
        };
        Some(IdentityReport {
            id: "spiffe://example.org/ns/dir/sa/apiserver".parse().unwrap(),
            dns_names: vec!["localhost".into()],
            serial: "0a".into(),
            not_before: Timestamp::from_secs(1),
            not_after: Timestamp::from_secs(3),
            generation: 7,
            bundles: vec![bundle("example.org"), bundle("partner.org")],
        })
    }
}

#[tokio::test]
async fn an_operator_sees_the_identity_of_the_node() {
    let setup = Setup { identity: Some(Arc::new(Identity)), ..Setup::default() };
    let node = Node::with(setup).await;
    let mut client = AdminServiceClient::new(node.channel().await);
    let identity = client.get_identity(GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!(identity.spiffe_id, "spiffe://example.org/ns/dir/sa/apiserver");
    assert_eq!((identity.trust_domain.as_str(), identity.generation), ("example.org", 7));
    assert_eq!(identity.svid_not_after.unwrap().seconds, 3);
    let bundles: Vec<_> = identity.bundles.iter().map(|b| (b.trust_domain.as_str(), b.authorities)).collect();
    assert_eq!(bundles, [("example.org", 2), ("partner.org", 2)]);
}

#[tokio::test]
async fn an_operator_sees_identity_and_index() {
    let node = Node::start().await;
    let mut client = AdminServiceClient::new(node.channel().await);
    let identity = client.get_identity(GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!(identity.spiffe_id, "", "a node without identity");
    assert_eq!(identity.version, env!("CARGO_PKG_VERSION"));
    assert!(identity.now.is_some());

    let index = client.get_index_status(GetIndexStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(index.state(), State::Rebuilding, "an empty index was not compared with the store yet");
    node.engine.rebuild(&MemoryJournal::default(), &CancellationToken::new()).await.unwrap();
    push(&node, vec![record("a"), record("b")]).await;
    let index = client.get_index_status(GetIndexStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((index.state(), index.records, index.walked, index.added), (State::Ready, 2, 0, 0));
    assert!(index.started_at.is_some());
}
