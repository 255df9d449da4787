//! The development Workload API as strangers see it: a public client library, and plain gRPC.

use crate::support::*;
use dir_identity::devapi::{DevError, DevWorkloadApi};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

/// The messages once more, as an independent reader of the public specification would write them.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct Bundles {
    #[prost(map = "string, bytes", tag = "1")]
    jwt: HashMap<String, Vec<u8>>,
    #[prost(map = "string, bytes", tag = "2")]
    x509: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JwtRequest {
    #[prost(string, repeated, tag = "1")]
    audience: Vec<String>,
    #[prost(string, tag = "2")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JwtResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Jwt>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Jwt {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Check {
    #[prost(string, tag = "1")]
    audience: String,
    #[prost(string, tag = "2")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Checked {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    claims: Option<prost_types::Struct>,
}

struct Plain {
    grpc: tonic::client::Grpc<tonic::transport::Channel>,
    header: bool,
}

impl Plain {
    async fn connect(api: &DevWorkloadApi) -> Self {
        let endpoint = api.socket_uri().parse().unwrap();
        let channel = spiffe::transport::connect(&endpoint).await.unwrap();
        Self { grpc: tonic::client::Grpc::new(channel), header: true }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if self.header {
            request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
        }
        request
    }

    async fn first<Q, A>(&mut self, call: &'static str, message: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Default + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.unwrap();
        let (request, path) = (self.request(message), PathAndQuery::from_static(call));
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let mut stream = self.grpc.server_streaming(request, path, codec).await?.into_inner();
        Ok(soon("a message", stream.message()).await?.unwrap())
    }

    async fn ask<Q, A>(&mut self, call: &'static str, message: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Default + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.unwrap();
        let (request, path) = (self.request(message), PathAndQuery::from_static(call));
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        Ok(self.grpc.unary(request, path, codec).await?.into_inner())
    }
}

#[tokio::test]
async fn a_public_client_library_follows_it() {
    let world = World::start().await;
    let source = spiffe::X509Source::builder().endpoint(world.server_api.socket_uri()).build();
    let source = soon("a source", source).await.unwrap();
    let svid = source.svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), SERVER_ID);
    let partner = spiffe::TrustDomain::new(PARTNER).unwrap();
    assert_eq!(source.bundle_set().unwrap().get(&partner).unwrap().authorities().len(), 1);
    let first = svid.leaf().as_bytes().to_vec();
    world.server_api.rotate();
    until("it rotates", || source.svid().is_ok_and(|s| s.leaf().as_bytes() != first)).await;
    world.server_api.vanish().await;
    world.server_api.appear().await.unwrap();
    world.server_api.rotate_ca(OWN);
    let own = spiffe::TrustDomain::new(OWN).unwrap();
    until("it comes back with two roots", || {
        source.bundle_set().is_ok_and(|set| set.get(&own).is_some_and(|b| b.authorities().len() == 2))
    })
    .await;
    source.shutdown().await;
}

#[tokio::test]
async fn the_security_header_is_demanded_by_every_call() {
    let world = World::start().await;
    let mut plain = Plain::connect(&world.server_api).await;
    plain.header = false;
    let refused = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "security header missing from request");
    };
    for call in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"] {
        let path: &'static str = format!("/SpiffeWorkloadAPI/{call}").leak();
        refused(plain.first::<_, Nothing>(path, Nothing {}).await.unwrap_err());
    }
    for call in ["FetchJWTSVID", "ValidateJWTSVID"] {
        let path: &'static str = format!("/SpiffeWorkloadAPI/{call}").leak();
        refused(plain.ask::<_, Nothing>(path, Nothing {}).await.unwrap_err());
    }
}

#[tokio::test]
async fn bundles_and_tokens() {
    let world = World::start().await;
    let mut plain = Plain::connect(&world.server_api).await;
    let x509: Bundles = plain.first("/SpiffeWorkloadAPI/FetchX509Bundles", Nothing {}).await.unwrap();
    let mut names: Vec<_> = x509.x509.keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["spiffe://example.org", "spiffe://partner.example"]);
    let jwt: Bundles = plain.first("/SpiffeWorkloadAPI/FetchJWTBundles", Nothing {}).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&jwt.jwt["spiffe://example.org"]).unwrap();
    assert_eq!(document["keys"][0]["use"], "jwt-svid");
    assert_eq!(document["keys"][0]["crv"], "P-256");

    let call = "/SpiffeWorkloadAPI/FetchJWTSVID";
    let nobody = JwtRequest { audience: vec![], id: String::new() };
    assert_eq!(plain.ask::<_, JwtResponse>(call, nobody).await.unwrap_err().code(), Code::InvalidArgument);
    let another =
        JwtRequest { audience: vec!["dir".to_owned()], id: "spiffe://example.org/other".to_owned() };
    assert_eq!(plain.ask::<_, JwtResponse>(call, another).await.unwrap_err().code(), Code::PermissionDenied);
    let request = JwtRequest { audience: vec!["dir".to_owned()], id: String::new() };
    let tokens: JwtResponse = plain.ask(call, request).await.unwrap();
    assert_eq!(tokens.svids[0].id, SERVER_ID);
    let token = tokens.svids[0].token.clone();

    // A partner's workload checks it with what federation gives it.
    let mut partner = Plain::connect(&world.partner_api).await;
    let call = "/SpiffeWorkloadAPI/ValidateJWTSVID";
    let check = |audience: &str| Check { audience: audience.to_owned(), token: token.clone() };
    let valid: Checked = partner.ask(call, check("dir")).await.unwrap();
    assert_eq!(valid.id, SERVER_ID);
    let subject = prost_types::value::Kind::StringValue(SERVER_ID.to_owned());
    assert_eq!(valid.claims.unwrap().fields["sub"].kind, Some(subject));
    let wrong = partner.ask::<_, Nothing>(call, check("other")).await.unwrap_err();
    assert!(wrong.message().contains("expected audience"), "{wrong}");
    assert!(!wrong.message().contains(&token));
}

#[tokio::test]
async fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/api.sock");
    let config = || dev_config(&path, vec![domain(OWN, vec![svid(SERVER_ID, &[])], &[])]);
    let api = DevWorkloadApi::start(config(), clock()).await.unwrap();
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let second = DevWorkloadApi::start(config(), clock()).await.unwrap_err();
    assert!(second.to_string().contains("another process serves it"), "{second}");
    api.stop().await;
    assert!(!path.exists());

    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    DevWorkloadApi::start(config(), clock()).await.unwrap().stop().await;
    std::fs::write(&path, "precious").unwrap();
    let third = DevWorkloadApi::start(config(), clock()).await.unwrap_err();
    assert!(third.to_string().contains("no socket"), "{third}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = || domain(OWN, vec![svid(SERVER_ID, &[])], &[]);
    let refused = |domains| {
        let config = dev_config(&dir.path().join("s"), domains);
        DevWorkloadApi::prepare(config, clock()).unwrap_err()
    };
    assert!(matches!(refused(vec![]), DevError::Config(_)));
    assert!(matches!(refused(vec![domain("No Domain", vec![], &[])]), DevError::Name { .. }));
    assert!(matches!(refused(vec![domain(PARTNER, good().svids, &[])]), DevError::Config(_)));
    assert!(matches!(
        refused(vec![domain(OWN, vec![svid("spiffe://example.org", &[])], &[])]),
        DevError::Config(_)
    ));
    let edge = |len: usize| {
        let folder = dir.path().as_os_str().len();
        dir.path().join("x".repeat(len - folder - 1))
    };
    let at = async |len| DevWorkloadApi::start(dev_config(&edge(len), vec![good()]), clock()).await;
    assert!(at(100).await.is_ok());
    assert!(at(101).await.unwrap_err().to_string().contains("longer than 100 bytes"));
}

#[tokio::test]
async fn svids_are_renewed_at_half_their_life_and_cas_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = dev_config(&dir.path().join("s"), vec![domain(OWN, vec![svid(SERVER_ID, &[])], &[])]);
    config.svid_ttl = Duration::from_millis(400);
    config.ca_ttl = Duration::from_secs(2);
    let api = DevWorkloadApi::start(config, clock()).await.unwrap();
    let first = api.material().svids[0].clone();
    until("the leaf is renewed", || api.material().svids[0].chain != first.chain).await;
    until("the next CA is announced", || api.material().svids[0].bundle.len() > first.bundle.len()).await;
    let second = api.authority(OWN).unwrap();
    let signed = |api: &DevWorkloadApi| {
        let der = &api.material().svids[0].chain[0];
        let (_, leaf) = x509_parser::parse_x509_certificate(der).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(second.root()).unwrap();
        leaf.issuer() == root.subject()
    };
    until("it signs", || signed(&api)).await;
}
