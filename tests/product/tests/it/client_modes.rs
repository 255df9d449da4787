//! What clients and servers make of each other when they do not agree, and what `dirctl` says of every failure: real
//! binaries on both sides.

use product_tests::proc::{Ran, run};
use product_tests::server::{AUDIENCE, Auth, Records, Server};
use product_tests::{init, our, root, workload};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// `dirctl` with this environment and no other.
fn dirctl(server: &str, env: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent").env("DIRECTORY_CLIENT_SERVER_ADDRESS", server);
    run(command.envs(env.iter().copied()).args(args)).unwrap()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// A failure as a program reads it and as a person does: the same kind of thing with the same exit code, both times with
/// a cause and a next step.
fn fails(server: &str, env: &[(&str, &str)], args: &[&str], (kind, code): (&str, i32), words: &str) {
    let read = dirctl(server, env, &[args, &["--json"]].concat());
    assert_eq!(read.status.code(), Some(code), "{read:?}");
    let document = json(&read);
    // Commands over many things tell each of them.
    let error = document.get("error").or_else(|| document.get(0)?.get("error")).unwrap_or(&document);
    assert_eq!(error["kind"], kind, "{read:?}");
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let told = format!("{}\n{}", text("message"), text("next"));
    assert!(told.contains(words) && text("next").len() > 10, "{words:?}: {read:?}");
    let human = dirctl(server, env, args);
    assert_eq!((human.status.code(), human.stdout.as_str()), (Some(code), ""), "{human:?}");
    assert!(human.stderr.starts_with("error: ") && human.stderr.contains("\n  next: "), "{human:?}");
    assert!(human.stderr.contains(words), "{words:?}: {human:?}");
}

fn local(server: &Server) -> String {
    format!("localhost:{}", server.port)
}

fn start(dir: &Path, name: &str, auth: &Auth, more: &str) -> Server {
    let home = dir.join(name);
    std::fs::create_dir(&home).unwrap();
    Server::start_with(&home, auth, &Records::Layout, more).unwrap()
}

/// A record of the examples.
fn record() -> String {
    let mut all: Vec<_> =
        root().join("examples/records").read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "json"));
    all.sort();
    all[0].to_str().unwrap().to_owned()
}

#[test]
fn a_client_without_a_mode_learns_it_from_the_server() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let x509 = start(dir.path(), "x", &Auth::X509(socket.clone()), "");
    let jwt = start(dir.path(), "j", &Auth::Jwt(socket.clone()), "");
    let plain = start(dir.path(), "p", &Auth::Insecure, "");
    let means = [("SPIFFE_ENDPOINT_SOCKET", socket.as_str()), ("DIRECTORY_CLIENT_JWT_AUDIENCE", AUDIENCE)];
    for (server, mode) in [(&x509, "x509"), (&jwt, "jwt"), (&plain, "insecure")] {
        let ran = dirctl(&local(server), &means, &["status", "--json"]);
        assert_eq!((ran.status.code(), &json(&ran)["auth_mode"]), (Some(0), &mode.into()), "{ran:?}");
        assert_eq!(
            mode != "insecure",
            ran.stderr.contains(&format!("auth mode {mode}, learnt from the server"))
        );
        let ran = dirctl(&local(server), &means, &["push", "--quiet", &record()]);
        assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    }
    // What is set counts, and what cannot be satisfied is said.
    let chosen = [&means[..], &[("DIRECTORY_CLIENT_AUTH_MODE", "x509")]].concat();
    fails(
        &local(&jwt),
        &chosen,
        &["search"],
        ("unauthenticated", 8),
        "set --auth-mode jwt and --jwt-audience (auth mode x509 is from $DIRECTORY_CLIENT_AUTH_MODE)",
    );
    fails(&local(&jwt), &means[..1], &["search"], ("config", 4), "--jwt-audience");
    let open =
        start(dir.path(), "o", &Auth::Jwt(socket.clone()), "auth: { allow_anonymous_discovery: true }\n");
    fails(&local(&open), &means[..1], &["search"], ("config", 4), &format!("(it says {AUDIENCE})"));
    let ran = dirctl(&local(&open), &means, &["status", "--json"]);
    assert_eq!((ran.status.code(), &json(&ran)["auth_mode"]), (Some(0), &"jwt".into()), "{ran:?}");
    fails(&local(&x509), &[], &["search"], ("protocol", 7), "no auth mode is set");
    let args = ["search", "--auth-mode", "jwt"];
    fails(
        &local(&x509),
        &means,
        &args,
        ("tls-refused", 7),
        "--auth-mode x509 (SPIFFE), tls or token (files) (auth mode jwt is from --auth-mode)",
    );
    fails(
        &local(&plain),
        &means,
        &["search", "--auth-mode", "x509"],
        ("protocol", 7),
        "auth mode x509 is from --auth-mode",
    );
}

/// State of a check of `dirctl doctor`, and its text.
fn check(document: &Value, name: &str) -> (String, String) {
    let all = document["checks"].as_array().unwrap();
    let found = all.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {document}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    (text("state").to_owned(), format!("{} {}", text("detail"), text("next")))
}

#[test]
fn doctor_and_verify_look_at_tokens() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let server = start(dir.path(), "j", &Auth::Jwt(socket.clone()), "");
    let address = local(&server);
    let with = |audience: &str, args: &[&str]| {
        let env = [
            ("DIRECTORY_CLIENT_AUTH_MODE", "jwt"),
            ("SPIFFE_ENDPOINT_SOCKET", socket.as_str()),
            ("DIRECTORY_CLIENT_JWT_AUDIENCE", audience),
        ];
        let ran = dirctl(&address, &env, &[args, &["--json"]].concat());
        (ran.status.code(), json(&ran))
    };
    let (code, told) = with(AUDIENCE, &["doctor"]);
    assert_eq!(code, Some(0), "{told}");
    for name in ["socket", "svid", "token", "jwt keys", "server", "skew"] {
        assert_eq!(check(&told, name).0, "ok", "{told}");
    }
    assert!(check(&told, "token").1.contains(&format!("for {AUDIENCE}, until ")), "{told}");
    let (code, told) = with(AUDIENCE, &["verify", "tls"]);
    assert_eq!((code, &told["verdict"]["cause"]), (Some(0), &"healthy".into()), "{told}");

    // A token for somebody else: good in itself, and refused.
    let (code, told) = with("https://other.example", &["doctor"]);
    assert_eq!((code, check(&told, "token").0), (Some(8), "ok".into()), "{told}");
    let (state, text) = check(&told, "server");
    assert!(state == "fault" && text.contains("https://other.example"), "{told}");
    let (code, told) = with("https://other.example", &["verify", "tls"]);
    assert_eq!((code, &told["verdict"]["cause"]), (Some(8), &"token-refused".into()), "{told}");
    assert!(told["verdict"]["next"].as_str().unwrap().contains("--jwt-audience"), "{told}");
    let (code, told) = with("", &["doctor"]);
    assert_eq!(code, Some(4), "{told}");
}

#[test]
fn every_failure_has_its_kind_exit_code_cause_and_next_step() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let policy = dir.path().join("policy.csv");
    std::fs::write(&policy, "p,example.org,/agntcy.dir.store.v1.StoreService/Pull\np,example.org,/agntcy.dir.search.v1.SearchService/*\n").unwrap();
    let more = format!(
        "authz: {{ enabled: true, enforcer_policy_file_path: {} }}\nratelimit: {{ enabled: true, method_limits: {{ \
         \"/agntcy.dir.search.v1.SearchService/CountRecords\": {{ rps: 1, burst: 0 }} }} }}\n",
        policy.display()
    );
    let server = start(dir.path(), "x", &Auth::X509(socket.clone()), &more);
    let at = local(&server);
    let env = [("DIRECTORY_CLIENT_AUTH_MODE", "x509"), ("SPIFFE_ENDPOINT_SOCKET", socket.as_str())];
    let record = record();
    let unknown = "baeareihdr6t7s6sr2q4zo456sza66eewqc7huzatyfgvoupaqyjw23ilvi";

    fails(&at, &env, &["push", &record], ("denied", 8), "StoreService/Push");
    fails(&at, &env, &["pull", unknown], ("not-found", 1), unknown);
    fails(&at, &env, &["search", "--count"], ("rate-limited", 9), "rate limit");
    fails(&at, &env, &["search", "--skill-id", "ten"], ("invalid", 4), "skill ID");
    let other = ["search", "--expected-server-id", "spiffe://example.org/ns/*/sa/other"];
    fails(&at, &env, &other, ("wrong-identity", 7), "spiffe://example.org/ns/dir/sa/apiserver");
    let other = ["search", "--expected-server-id", "partner.example"];
    fails(&at, &env, &other, ("wrong-trust-domain", 7), "partner.example");

    // The ops listener: HTTP, and no gRPC.
    let ops = format!("localhost:{}", server.ops_port);
    fails(&ops, &[], &["search"], ("protocol", 7), "check");
    // Nobody is authenticated, and somebody has to be.
    let authz = format!("authz: {{ enabled: true, enforcer_policy_file_path: {} }}\n", policy.display());
    let open = start(dir.path(), "p", &Auth::Insecure, &authz);
    fails(&local(&open), &[], &["search"], ("unauthenticated", 8), "authn.enabled");
    // Taken, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    fails(&address, &[], &["search", "--timeout", "300ms"], ("timeout", 75), "within 300 ms");
}

/// A registry that is none, and one that is not there.
#[test]
fn a_node_without_its_registry_is_temporarily_unavailable() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let web = start(dir.path(), "web", &Auth::Insecure, "");
    let held = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in = held.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = socket.local_addr().unwrap().port();
    for (name, port) in [("gone", gone), ("noreg", web.ops_port)] {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let registry = Records::Registry(format!("127.0.0.1:{port}"));
        let server = Server::start(&home, &Auth::Insecure, &registry).unwrap();
        fails(&local(&server), &[], &["push", &record()], ("unavailable", 75), "try again later");
        let ran = dirctl(&local(&server), &[], &["search", "--count"]);
        assert_eq!((ran.status.code(), ran.stdout.trim()), (Some(0), "0"), "nothing was indexed: {ran:?}");
    }
}

#[test]
fn a_server_of_another_make_is_version_skew() {
    init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (_reporter, health) = tonic_health::server::health_reporter();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
        address
    });
    fails(&address, &[], &["search"], ("version-skew", 1), "versions");
    fails(&address, &[], &["watch"], ("version-skew", 1), "versions");
}
