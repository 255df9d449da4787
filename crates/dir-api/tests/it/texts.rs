//! N2: what refused callers read, to the byte. Those of tokens are with the tests of tokens, those of deadlines with the
//! protocol's.

use crate::frames::call_with;
use crate::node::{Mood, Node, Setup};
use dir_api::{AppConfig, Rate, RateConfig, method_catalogue};
use dir_core::policy::{Matching, UnknownMethod};
use dir_core::{Policy, Principal};
use parking_lot::Mutex;
use std::sync::Arc;
use tonic::{Code, Request};

const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";
const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";
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
