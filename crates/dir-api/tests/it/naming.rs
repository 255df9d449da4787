//! `NamingService` and `IdentityService`: one answer behind both.

use crate::node::{Node, json, message, push, soon};
use dir_api::AppConfig;
use dir_proto::agntcy::dir::core::v1::NamedRecordRef;
use dir_proto::agntcy::dir::identity::v1 as identity;
use dir_proto::agntcy::dir::identity::v1::identity_service_client::IdentityServiceClient;
use dir_proto::agntcy::dir::naming::v1 as naming;
use dir_proto::agntcy::dir::naming::v1::naming_service_client::NamingServiceClient;
use std::time::Duration;
use tonic::{Code, Status};

async fn named(node: &Node, name: &str, version: &str) -> NamedRecordRef {
    let mut value = json(name);
    value["version"] = version.into();
    let cid = push(node, vec![message(&value)]).await.remove(0);
    node.clock.advance(Duration::from_secs(1));
    NamedRecordRef { name: name.into(), version: version.into(), cid }
}

/// Asks both services; they must say the same.
async fn resolve(node: &Node, name: &str, version: Option<&str>) -> Result<Vec<NamedRecordRef>, Status> {
    let channel = node.channel().await;
    let version = version.map(ToOwned::to_owned);
    let request = naming::ResolveRequest { name: name.into(), version: version.clone() };
    let one = soon(NamingServiceClient::new(channel.clone()).resolve(request)).await;
    let request = identity::ResolveRequest { name: name.into(), version };
    let other = soon(IdentityServiceClient::new(channel).resolve(request)).await;
    match (one, other) {
        (Ok(one), Ok(other)) => {
            let records = one.into_inner().records;
            assert_eq!(records, other.into_inner().records);
            Ok(records)
        }
        (Err(one), Err(other)) => {
            assert_eq!((one.code(), one.message()), (other.code(), other.message()));
            Err(one)
        }
        differ => panic!("{differ:?}"),
    }
}

async fn refused(node: &Node, name: &str, version: Option<&str>) -> (Code, String) {
    let status = resolve(node, name, version).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_name_is_its_records_newest_first() {
    let node = Node::start().await;
    let plain = named(&node, "acme.org/Agent", "v1.0.0").await;
    let secure = named(&node, "https://acme.org/agent", "v1.10.0").await;
    let insecure = named(&node, "http://acme.org/agent", "V2.0.0-rc1").await;
    let other = named(&node, "acme.org/agent-b", "v1.0.0").await;

    let all = [insecure.clone(), secure.clone(), plain.clone()];
    assert_eq!(resolve(&node, "ACME.org/agent", None).await.unwrap(), all, "all spellings, stored spelling");
    assert_eq!(resolve(&node, "acme.org/agent", Some("")).await.unwrap(), all, "an empty version is none");
    let shouted = resolve(&node, "HTTPS://acme.org/agent", None).await.unwrap();
    assert_eq!(shouted, std::slice::from_ref(&secure), "case is ignored in the scheme as well");
    assert_eq!(resolve(&node, "https://Acme.org/agent", None).await.unwrap(), std::slice::from_ref(&secure));
    assert_eq!(resolve(&node, "http://*", None).await.unwrap(), std::slice::from_ref(&insecure));
    let wild = [other, insecure.clone(), secure.clone(), plain.clone()];
    assert_eq!(resolve(&node, "acme.org/a?ent*", None).await.unwrap(), wild);

    assert_eq!(resolve(&node, "acme.org/agent", Some("v2.0.0-RC1")).await.unwrap(), [insecure]);
    let textual = resolve(&node, "acme.org/agent", Some(">=v1.1")).await.unwrap();
    assert_eq!(textual, std::slice::from_ref(&secure), "comparisons are by text and by case");
    assert_eq!(resolve(&node, "acme.org/agent", Some("v1.*")).await.unwrap(), [secure, plain]);
}

#[tokio::test]
async fn what_is_no_name_says_so() {
    let node = Node::start().await;
    let known = named(&node, "a", "v1").await;
    assert_eq!(refused(&node, "", None).await, (Code::InvalidArgument, "name is required".into()));
    let text = "no record found with name \"b\" and version \"v9\"";
    assert_eq!(refused(&node, "b", Some("v9")).await, (Code::NotFound, text.into()));
    for name in ["b", "%", "_", "a\\", "\"x\"\n", "🦀", "a:v1@x", &known.cid] {
        let text = format!("no record found with name \"{name}\"");
        assert_eq!(refused(&node, name, None).await, (Code::NotFound, text));
        assert_eq!(refused(&node, name, Some("")).await.0, Code::NotFound);
    }
    node.engine.settle().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_at_its_edge() {
    let limit = 300;
    let app = AppConfig { max_send_msg_size: limit, ..AppConfig::default() };
    let node = Node::with(crate::node::Setup { app, ..Default::default() }).await;
    // Tag, length, then name (7), version (8) and CID (61): 78 bytes each.
    for n in 0..3 {
        named(&node, "same1", &format!("v1.0.{n}")).await;
    }
    assert_eq!(resolve(&node, "same1", None).await.unwrap().len(), 3);
    named(&node, "same1", "v1.0.3").await;
    let (code, text) = refused(&node, "same1", None).await;
    let expected = "failed to send records of a name: larger than max (312 vs. 300); \
                    ask for a version, or for a name with fewer records";
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, expected));
}

#[tokio::test]
async fn nothing_is_verified_as_long_as_nothing_verifies() {
    let node = Node::start().await;
    let known = named(&node, "acme.org/agent", "v1").await;
    let mut client = NamingServiceClient::new(node.channel().await);
    let ask = |cid: Option<&str>, name: Option<&str>| naming::GetVerificationInfoRequest {
        cid: cid.map(Into::into),
        name: name.map(Into::into),
        version: None,
    };
    for request in [
        ask(Some(&known.cid), None),
        ask(None, Some("acme.org/agent")),
        ask(Some(""), Some("acme.org/agent")),
        // A CID is taken as it is, and goes before the name.
        ask(Some("unknown"), Some("no such name")),
    ] {
        let answer = soon(client.get_verification_info(request)).await.unwrap().into_inner();
        assert_eq!((answer.verified, answer.verification), (false, None));
        assert_eq!(answer.error_message.as_deref(), Some("no verification found"));
    }
    let status = client.get_verification_info(ask(None, Some("x"))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no record found with name \"x\""));
    for request in [ask(None, None), ask(Some(""), Some(""))] {
        let status = client.get_verification_info(request).await.unwrap_err();
        let expected = (Code::InvalidArgument, "either cid or name is required");
        assert_eq!((status.code(), status.message()), expected);
    }
}

#[tokio::test]
async fn claims_that_nobody_verified_are_left_out() {
    let node = Node::start().await;
    let known = named(&node, "acme.org/agent", "v1").await;
    let mut client = IdentityServiceClient::new(node.channel().await);
    let ask =
        |cid: Option<&str>, name: Option<&str>, version: Option<&str>| identity::GetIdentityStatusRequest {
            cid: cid.map(Into::into),
            name: name.map(Into::into),
            version: version.map(Into::into),
        };
    for request in [ask(Some(&known.cid), None, None), ask(None, Some("acme.org/agent"), Some("v1"))] {
        let answer = soon(client.get_identity_status(request)).await.unwrap().into_inner();
        assert_eq!(answer, identity::GetIdentityStatusResponse::default());
    }
    let status = client.get_identity_status(ask(None, Some("acme.org/agent"), Some("v2"))).await.unwrap_err();
    let text = "no record found with name \"acme.org/agent\" and version \"v2\"";
    assert_eq!((status.code(), status.message()), (Code::NotFound, text));
    let status = client.get_identity_status(ask(None, None, Some("v1"))).await.unwrap_err();
    let expected = (Code::InvalidArgument, "either cid or name is required");
    assert_eq!((status.code(), status.message()), expected);
}

#[tokio::test]
async fn an_index_that_fails_is_an_internal_error() {
    let node = Node::start().await;
    named(&node, "a", "v1").await;
    dir_core::index::RecordIndex::close(node.index.as_ref()).await.unwrap();
    let (code, text) = refused(&node, "a", None).await;
    assert_eq!((code, text.as_str()), (Code::Internal, "failed to search records: index unavailable"));
}
