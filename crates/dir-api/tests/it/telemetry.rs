//! The metrics page: every series before the first call, and what calls do to it.

use crate::node::{Node, Setup, push, record, reference, until};
use dir_api::{App, AppConfig, AppDeps};
use dir_proto::agntcy::dir::core::v1::RecordRef;
use futures::StreamExt;
use std::collections::BTreeSet;

/// Methods of health and reflection, which are not in the descriptors of the API.
const FOREIGN: usize = 5;

#[tokio::test]
async fn every_series_is_there_before_the_first_call() {
    let node = Node::start().await;
    let page = node.page();
    let samples = |name: &str| {
        let prefix = format!("{name}{{");
        page.lines().filter(|line| line.starts_with(&prefix) && !line.contains("\"unknown\"")).count()
    };
    let methods = dir_proto::methods().len() + FOREIGN;
    assert_eq!(samples("grpc_server_started_total"), methods);
    assert_eq!(samples("grpc_server_msg_received_total"), methods);
    assert_eq!(samples("grpc_server_msg_sent_total"), methods);
    assert_eq!(samples("grpc_server_handled_total"), 17 * methods);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (head, value) = line.rsplit_once(' ').unwrap();
        assert!(head.contains('{') && head.contains('='), "a sample without a label: {line}");
        // The index here was never compared with its store: one state is always the present one.
        let expected = if head == "directory_index_state{state=\"pending\"}" { 1.0 } else { 0.0 };
        assert_eq!(value.parse(), Ok(expected), "{line}");
    }
    for help in [
        "# HELP grpc_server_started_total Total number of RPCs started on the server.",
        "# HELP grpc_server_handled_total Total number of RPCs completed on the server, regardless of success or failure.",
        "# HELP grpc_server_msg_received_total Total number of RPC stream messages received on the server.",
        "# HELP grpc_server_msg_sent_total Total number of gRPC stream messages sent by the server.",
    ] {
        assert!(page.lines().any(|line| line == help), "{help}");
    }
    let kinds: BTreeSet<_> =
        page.split("grpc_type=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(kinds, ["bidi_stream", "client_stream", "server_stream", "unary"].into());
}

#[tokio::test]
async fn calls_and_messages_are_counted_by_method_and_code() {
    let node = Node::start().await;
    let cids = push(&node, vec![record("a"), record("b"), record("c")]).await;
    let asked: Vec<RecordRef> = cids.iter().map(|c| reference(c)).chain([reference("nothing")]).collect();
    let answers = node.store_client().await.pull(futures::stream::iter(asked)).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 4);
    let pull = "grpc_service=\"agntcy.dir.store.v1.StoreService\"";
    let sample = |family: &str, method: &str| {
        node.sample(&[family, pull, "\"bidi_stream\"", &format!("grpc_method=\"{method}\"")])
    };
    assert_eq!(sample("grpc_server_started_total", "Push"), Some(1.0));
    assert_eq!(sample("grpc_server_msg_received_total", "Push"), Some(3.0));
    assert_eq!(sample("grpc_server_msg_sent_total", "Push"), Some(3.0));
    assert_eq!(sample("grpc_server_msg_received_total", "Pull"), Some(4.0));
    assert_eq!(sample("grpc_server_msg_sent_total", "Pull"), Some(3.0));
    until(|| node.sample(&["handled_total", "\"Pull\"", "grpc_code=\"NotFound\""]) == Some(1.0)).await;
    assert_eq!(node.sample(&["handled_total", "\"Push\"", "grpc_code=\"OK\""]), Some(1.0));
    assert_eq!(node.sample(&["grpc_server_handling_seconds_count", "\"Pull\""]), Some(1.0));
    assert_eq!(node.sample(&["directory_engine_total", "cache_miss"]), Some(3.0));
}

#[tokio::test]
async fn two_nodes_cannot_share_a_page() {
    let node = Node::with(Setup::default()).await;
    let deps = AppDeps {
        engine: node.engine.clone(),
        identity: None,
        authorization: None,
        ready: node.ready.subscribe(),
        clock: node.clock.clone(),
        registry: &node.registry,
    };
    let error = App::new(deps, AppConfig::default()).err().expect("the names are taken");
    assert!(error.to_string().starts_with("metrics: "), "{error}");
}

#[tokio::test]
async fn ten_thousand_callers_and_methods_that_do_not_exist_make_no_series() {
    let setup = Setup {
        app: AppConfig {
            rates: Some(dir_api::RateConfig {
                per_client: Some(dir_api::Rate { rps: 100.0, burst: 1 }),
                ..dir_api::RateConfig::default()
            }),
            ..AppConfig::default()
        },
        authorized: true,
        ..Setup::default()
    };
    let number = std::sync::atomic::AtomicU64::new(0);
    // Each connection is somebody else's.
    let node = Node::shaped(setup, move |_, mut conn| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let id = format!("spiffe://domain-{}.example/agent/{number}", number % 1000);
        let mut peer = dir_core::Peer::clone(&conn.peer);
        peer.principal = dir_core::Principal::Spiffe(id.parse().unwrap());
        conn.peer = std::sync::Arc::new(peer);
        conn
    })
    .await;
    node.authorization.as_ref().unwrap().set(crate::authz::csv(crate::authz::EVERYTHING));
    let series = || node.page().lines().filter(|line| !line.starts_with('#')).count();
    let call = |n: usize, path: String| {
        let node = &node;
        async move {
            let channel = node.channel().await;
            // The second is refused by the limit of its caller.
            for _ in 0..if n < 100 { 2 } else { 1 } {
                crate::frames::call_with(channel.clone(), &path, tonic::Request::new(Vec::new())).await;
            }
        }
    };
    // One of each kind first: what they count is there then.
    let real = || "/agntcy.dir.store.v1.StoreService/Pull".to_owned();
    call(0, real()).await;
    call(0, "/made.up.Service/Method".to_owned()).await;
    let before = series();
    let calls = futures::stream::iter(0..10_000);
    calls
        .for_each_concurrent(64, |n| {
            call(n, if n % 2 == 0 { real() } else { format!("/made.up{n}.Service/Method{n}") })
        })
        .await;
    assert_eq!(series(), before);
    assert!(node.page().len() < 1 << 20);
}
