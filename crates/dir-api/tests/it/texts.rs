//! N2: what refused callers read, to the byte, and that it reaches them however much of what they sent it repeats. Those of tokens are with the tests of tokens, those of deadlines with the
//! protocol's.

use crate::frames::call_with;
use crate::node::{Mood, Node, Setup, json, message, reference};
use bytes::Bytes;
use dir_api::{AppConfig, Rate, RateConfig, method_catalogue};
use dir_core::policy::{Matching, UnknownMethod};
use dir_core::{Policy, Principal};
use dir_proto::agntcy::dir::naming::v1::ResolveRequest;
use dir_proto::agntcy::dir::search::v1::{CountRecordsRequest, RecordQuery, RecordQueryType};
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use tonic::{Code, Request};

const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";
const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";
const DELETE: &str = "/agntcy.dir.store.v1.StoreService/Delete";
const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
const RESOLVE: &str = "/agntcy.dir.naming.v1.NamingService/Resolve";
const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";

#[tokio::test]
async fn n2_the_texts_of_refusals() {
    let once = Rate { rps: 0.001, burst: 1 };
    let rates = RateConfig { methods: [(LOOKUP.to_owned(), once)].into(), ..RateConfig::default() };
    let app = AppConfig { rates: Some(rates), ..AppConfig::default() };
    let who = Arc::new(Mutex::new(Principal::Anonymous));
    let next = who.clone();
    let node = Node::shaped(Setup { app, authorized: true, ..Setup::default() }, move |_, mut conn| {
        Arc::make_mut(&mut conn.peer).principal = next.lock().clone();
        conn
    })
    .await;
    let caller = |id: &str| *who.lock() = Principal::Spiffe(id.parse().unwrap());
    let ask = async |path: &str, messages: Vec<bytes::Bytes>| {
        let status = call_with(node.channel().await, path, Request::new(messages)).await.status;
        (status.code(), status.message().to_owned())
    };
    let says = |code, text: &str| (code, text.to_owned());

    caller("spiffe://acme.example/w");
    assert_eq!(ask(COUNT, vec![]).await, says(Code::Internal, "authorization unavailable"));
    let text = "p,acme.example,*\n";
    let loaded =
        Policy::parse_csv(text, Matching::Strict, &method_catalogue(), UnknownMethod::Error).unwrap();
    node.authorization.as_ref().unwrap().set(loaded.policy);

    *who.lock() = Principal::Anonymous;
    assert_eq!(ask(COUNT, vec![]).await, says(Code::Unauthenticated, "not authenticated"));
    caller("spiffe://partner.example/w");
    let denied = format!("not allowed to access {COUNT}");
    assert_eq!(ask(COUNT, vec![]).await, says(Code::PermissionDenied, &denied));

    caller("spiffe://acme.example/w");
    ask(LOOKUP, vec![]).await;
    let limited = format!(
        "{LOOKUP} is rejected by grpc_ratelimit middleware, please retry later. \
         rpc error: code = ResourceExhausted desc = rate limit exceeded"
    );
    assert_eq!(ask(LOOKUP, vec![]).await, says(Code::ResourceExhausted, &limited));
    node.store.mood(Mood::Panics);
    let cid = dir_core::Cid::of(b"x").to_string();
    let message = prost::Message::encode_to_vec(&crate::node::reference(&cid)).into();
    assert_eq!(ask(PULL, vec![message]).await, says(Code::Internal, "internal server error"));
}

/// What headers of an answer count against the limits of clients, some of which are 8 KB.
const HEADERS_MAX: usize = 6 * 1024;

/// Calls that are refused in words that repeat this text of the caller.
fn repeating(long: &str) -> Vec<(&'static str, Bytes, Code, &'static str)> {
    let resolve = |name: &str, version: &str| {
        ResolveRequest { name: name.to_owned(), version: Some(version.to_owned()) }.encode_to_vec().into()
    };
    let count = |kind: RecordQueryType| {
        let query = RecordQuery { r#type: kind.into(), value: long.to_owned(), negate: false };
        CountRecordsRequest { queries: vec![query] }.encode_to_vec().into()
    };
    let named = || reference(long).encode_to_vec().into();
    let mut odd = json("a");
    odd["schema_version"] = long.into();
    vec![
        (RESOLVE, resolve(long, ""), Code::NotFound, "no record found with name \""),
        (RESOLVE, resolve("a", long), Code::NotFound, "no record found with name \"a\" and version \""),
        (COUNT, count(RecordQueryType::SkillId), Code::InvalidArgument, "failed to create filter options: "),
        (COUNT, count(RecordQueryType::IdentityVerified), Code::InvalidArgument, ""),
        (
            COUNT,
            count(RecordQueryType::ScanSeverity),
            Code::InvalidArgument,
            "failed to create filter options: unknown scan severity \"",
        ),
        (PULL, named(), Code::NotFound, ""),
        (LOOKUP, named(), Code::NotFound, ""),
        (DELETE, named(), Code::NotFound, ""),
        (PUSH, message(&odd).encode_to_vec().into(), Code::InvalidArgument, "record validation failed: ["),
    ]
}

#[tokio::test]
async fn a_status_fits_into_the_headers_that_every_client_takes() {
    let node = Node::start().await;
    for long in ["x".repeat(16_000), "x y ".repeat(2_000), "🦀%\n".repeat(1_000), "x".repeat(1 << 20)] {
        for (path, request, code, begin) in repeating(&long) {
            let outcome = call_with(node.channel().await, path, Request::new(vec![request])).await;
            let (status, text) = (&outcome.status, outcome.status.message());
            assert_eq!(status.code(), code, "{path}: {text}");
            assert!(text.starts_with(begin), "{path}: {text}");
            assert!(text.contains(" characters left out] ... "), "{path}: {text}");
            let headers = outcome.trailers.into_headers();
            // Those that a client does not show: code and text.
            let spelled = text.bytes().map(|b| if matches!(b, b' '..=b'~') && b != b'%' { 1 } else { 3 });
            let size = spelled.sum::<usize>() + 100;
            let size =
                headers.iter().fold(size, |sum, (name, value)| sum + name.as_str().len() + value.len() + 32);
            assert!((2 * 1024..HEADERS_MAX).contains(&size), "{path}: {size}");
        }
    }
    // An end that tells of the cause is kept.
    let (path, request, ..) = repeating(&"1x".repeat(8_000)).swap_remove(2);
    let outcome = call_with(node.channel().await, path, Request::new(vec![request])).await;
    assert!(outcome.status.message().ends_with("1x1x\": invalid syntax"), "{}", outcome.status.message());
}

#[tokio::test]
async fn a_long_path_is_repeated_in_part() {
    let once = Rate { rps: 0.001, burst: 1 };
    let rates = RateConfig { global: Some(once), ..RateConfig::default() };
    let app = AppConfig { rates: Some(rates), ..AppConfig::default() };
    let node = Node::with(Setup { app, ..Setup::default() }).await;
    let path = format!("/{}/Method", "made.up.".repeat(1_500));
    for code in [Code::Unimplemented, Code::ResourceExhausted] {
        let outcome = call_with(node.channel().await, &path, Request::new(vec![])).await;
        assert_eq!(outcome.status.code(), code);
        let (text, details) = (outcome.status.message(), outcome.status.details());
        assert!(text.contains(" characters left out] ... ") && text.len() < 5_000, "{text}");
        assert!(text.len() + details.len() * 4 / 3 < HEADERS_MAX - 500, "{} {}", text.len(), details.len());
    }
}
