//! mTLS with development SVIDs, and servers that are not what they should be.

use crate::node::{Node, cid, record, run, workload_api};
use std::sync::Arc;
use tokio::net::TcpListener;

#[tokio::test]
async fn the_whole_way_with_svids() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let socket = api.socket_uri();
    let node = Node::x509(socket.clone()).await;
    let env = [
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str()),
        ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
        ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket.as_str()),
    ];
    let text = record("a");
    let id = run(&env, &["push", "-"], text.as_bytes()).await.good();
    assert_eq!(id.trim(), cid(&text));
    assert_eq!(run(&env, &["search", "--name", "a"], b"").await.good(), id);
    assert_eq!(cid(&run(&env, &["pull", id.trim()], b"").await.good()), id.trim());

    let ran = run(&env, &["health", "--expected-server-id", "spiffe://example.org/other"], b"").await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("spiffe://example.org/node"), "{ran:?}");

    // Without SVID, and in plaintext, the server is not for us.
    let ran = run(&env, &["health", "--spiffe-socket-path", "/absent.sock", "--timeout", "300ms"], b"").await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("socket absent"), "{ran:?}");
    // In a client's words, once.
    assert!(ran.stderr.starts_with("error: get an SVID from /absent.sock: none within 300 ms"), "{ran:?}");
    assert!(!ran.stderr.contains("server"), "{ran:?}");
    let ran = run(&env, &["health", "--auth-mode", "insecure"], b"").await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("the server speaks TLS, this client does not"), "{ran:?}");
}

#[tokio::test]
async fn f5_access_explain_says_who_i_am_and_which_rule_decides() {
    use dir_core::policy::{Matching, UnknownMethod};
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let socket = api.socket_uri();
    let text = "p,other.example,*\np,example.org,/agntcy.dir.store.v1.StoreService/Pull\n";
    let catalogue = dir_api::method_catalogue();
    let loaded =
        dir_core::Policy::parse_csv(text, Matching::Strict, &catalogue, UnknownMethod::Error).unwrap();
    let node = Node::guarded(socket.clone(), Some(loaded.policy)).await;
    let env = [
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str()),
        ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
        ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket.as_str()),
    ];
    let ran = run(&env, &["access", "explain"], b"").await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert_eq!(
        ran.stdout,
        "deny: spiffe://example.org/node calling /agntcy.dir.store.v1.StoreService/Push\n  \
         no rule allows it\n  nearest rule line-1 (line 1) differs in trust domain\n  \
         nearest rule line-2 (line 2) differs in method\n  policy number 1 since the start of the server\n"
    );
    let ran = run(&env, &["access", "explain", "StoreService/Pull", "-o", "json"], b"").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    assert_eq!((&told["decision"], &told["rule"]["line"]), (&"allow".into(), &2.into()), "{told}");
    assert_eq!(told["subject"], "spiffe://example.org/node");
    // About others only who may: the policy gives nobody @admin here.
    let ran = run(&env, &["access", "explain", "--subject", "spiffe://other.example/w"], b"").await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("AdminService/ExplainAccess"), "{ran:?}");
    assert_eq!(run(&env, &["access", "explain", "Push"], b"").await.code, Some(2));
    assert_eq!(run(&env, &["access", "explain", "--gateway", "x"], b"").await.code, Some(2));
}

#[tokio::test]
async fn access_explain_says_of_a_record_whether_it_may_be_deleted_and_is_shown() {
    use dir_core::policy::{Conditions, NativeRule, Ownership, RuleEffect, SEARCH_METHODS, UnknownMethod};
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let socket = api.socket_uri();
    let rule = |id: &str, effect, methods: &[&str], resources| NativeRule {
        id: id.to_owned(),
        line: None,
        effect,
        principals: vec!["spiffe://example.org/**".to_owned()],
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        not_after: None,
        limits: None,
        resources,
    };
    let own = Conditions { owner: Some(Ownership::Own), labels: Vec::new() };
    let secret = Conditions { owner: None, labels: vec!["/skills/secret/*".to_owned()] };
    let rules = vec![
        rule("work", RuleEffect::Allow, &["@read", "/agntcy.dir.store.v1.StoreService/Push"], None),
        rule("own", RuleEffect::Allow, &["/agntcy.dir.store.v1.StoreService/Delete"], Some(own)),
        rule("secret", RuleEffect::Deny, &SEARCH_METHODS, Some(secret)),
    ];
    let catalogue = dir_api::method_catalogue();
    let policy = dir_core::Policy::from_rules(rules, None, &catalogue, UnknownMethod::Error).unwrap().policy;
    let node = Node::guarded(socket.clone(), Some(policy)).await;
    let env = [
        ("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str()),
        ("DIRECTORY_CLIENT_AUTH_MODE", "x509"),
        ("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket.as_str()),
    ];
    let mut value: serde_json::Value = serde_json::from_str(&record("a")).unwrap();
    value["skills"] = serde_json::json!([{"id": 1, "name": "secret/plan"}]);
    let (open, hidden) = (record("b"), value.to_string());
    for text in [&open, &hidden] {
        run(&env, &["push", "-"], text.as_bytes()).await.good();
    }
    assert_eq!(run(&env, &["search"], b"").await.good().trim(), cid(&open));

    let explain = async |method: &str, record: &str| {
        let ran = run(&env, &["access", "explain", method, "--resource", record, "-o", "json"], b"").await;
        let told = ran.json();
        assert_eq!(told["resource"], record, "{told}");
        (ran.code, told["decision"].clone(), told["rule"]["id"].clone())
    };
    // A service is known by its last word.
    let search = "SearchService/SearchCIDs";
    let allowed = |id: &str| (Some(0), "allow".into(), id.into());
    assert_eq!(explain("StoreService/Delete", &cid(&open)).await, allowed("own"));
    assert_eq!(explain(search, &cid(&open)).await, allowed("work"));
    let refused = (Some(8), "deny".into(), "secret".into());
    assert_eq!(explain(search, &cid(&hidden)).await, refused);
    // Of a record that is not there nobody is the owner.
    assert_eq!(explain("StoreService/Delete", &cid(&record("absent"))).await.0, Some(8));
    let ran = run(&env, &["access", "explain", "StoreService/Delete", "--resource", "x"], b"").await;
    assert!(ran.code == Some(4) && ran.stderr.contains("resource: not a CID"), "{ran:?}");
}

#[tokio::test]
async fn tls_met_with_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let node = Node::plain().await;
    let args = ["health", "--auth-mode", "x509", "--spiffe-socket-path", &api.socket_uri()];
    let ran = run(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &node.address)], &args, b"").await;
    assert!(matches!(ran.code, Some(7 | 75)), "{ran:?}");
    assert!(ran.stderr.contains("TLS"), "{ran:?}");
}

/// A proxy with a certificate of its own: no SPIFFE ID.
async fn proxy(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, made.cert.pem() + &made.signing_key.serialize_pem())
}

#[tokio::test]
async fn a_proxy_answers_instead_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let api = workload_api(dir.path(), "example.org", "spiffe://example.org/node").await;
    let (address, _) = proxy("ingress.local").await;
    let args = ["health", "--auth-mode", "x509", "--spiffe-socket-path", &api.socket_uri()];
    let ran = run(&[("DIRECTORY_CLIENT_SERVER_ADDRESS", &address)], &args, b"").await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("ingress.local"), "{ran:?}");
    assert!(ran.stderr.contains("next: SSL passthrough is probably off"), "{ran:?}");
}

#[tokio::test]
async fn names_and_authorities_of_pem_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |name: &str, trusted: bool| {
        let (address, own) = proxy(name).await;
        let (_, other) = proxy(name).await;
        let (ca, client) = (dir.path().join("ca.pem"), dir.path().join("client.pem"));
        std::fs::write(&ca, if trusted { &own } else { &other }).unwrap();
        std::fs::write(&client, &other).unwrap();
        let (ca, client) = (ca.to_str().unwrap(), client.to_str().unwrap());
        let files = ["--tls-ca-file", ca, "--tls-cert-file", client, "--tls-key-file", client];
        let args = [&["health", "--auth-mode", "tls", "--server-addr", &address], &files[..]].concat();
        run(&[], &args, b"").await
    };
    let name = check("elsewhere.example", true).await;
    assert!(name.code == Some(7) && name.stderr.contains("--tls-server-name"), "{name:?}");
    let untrusted = check("localhost", false).await;
    assert!(untrusted.code == Some(7) && untrusted.stderr.contains("not trusted"), "{untrusted:?}");
}
