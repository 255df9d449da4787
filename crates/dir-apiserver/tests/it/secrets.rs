//! Planted secrets: a sentinel of its own in every key that is a secret, by every way into the server, and none of
//! them shows up anywhere, at the most talkative level.

use crate::agent::{self, LONG, OWN};
use crate::client::{plain, pull, push, record, secure, store};
use crate::node::{Node, command, get, until};
use dir_apiserver::config::all_keys;
use dir_apiserver::config::section::{Flag, Key};
use dir_testkit::fake_registry::{Access, FakeRegistry, Switches};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use tempfile::tempdir;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// How every sentinel begins.
const SENTINEL: &str = "sentinel-";
/// What is said of a credential in a file that everybody may read.
const EXPOSED: &str = "holds a credential and everybody on this machine may read it";

/// Every key that is a secret, with a sentinel.
fn planted() -> Vec<(Key, String)> {
    let secrets = all_keys().into_iter().filter(|key| key.has(Flag::Secret));
    let planted: Vec<_> =
        secrets.enumerate().map(|(n, key)| (key.clone(), format!("{SENTINEL}{n}-{}", key.path))).collect();
    assert!(planted.len() >= 7, "{planted:?}");
    planted
}

/// A way into the configuration: arguments, variables, and a file that the values are read from.
struct Way {
    name: &'static str,
    args: Vec<String>,
    vars: Vec<(String, String)>,
    file: Option<PathBuf>,
}

fn private(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

fn ways(dir: &Path) -> Vec<Way> {
    let way = |name| Way { name, args: Vec::new(), vars: Vec::new(), file: None };
    let (mut flags, mut vars, mut files, mut yaml) = (way("flag"), way("env"), way("_FILE"), way("yaml"));
    let mut tree = json!({ "listen_address": "127.0.0.1:0" });
    for (n, (key, sentinel)) in planted().into_iter().enumerate() {
        flags.args.extend(["--set".to_owned(), format!("{}={sentinel}", key.path)]);
        vars.vars.push((key.env(), sentinel.clone()));
        let path = private(&dir.join(format!("secret-{n}")), &format!("{sentinel}\n"));
        files.vars.push((format!("{}_FILE", key.env()), path.display().to_string()));
        files.file = Some(path);
        let mut at = &mut tree;
        for name in key.path.split('.') {
            at = &mut at[name];
        }
        *at = Value::String(sentinel);
    }
    let path = private(&dir.join("server.yml"), &tree.to_string());
    yaml.args = vec!["--config".to_owned(), path.display().to_string()];
    yaml.file = Some(path);
    vec![flags, vars, files, yaml]
}

fn assert_hidden(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(SENTINEL));
    assert!(line.is_none(), "{what} shows a secret: {line:?}");
}

/// What a command says on both of its outputs.
fn said(home: &Path, way: &Way, args: &[&str]) -> String {
    let vars = way.vars.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let output = command(home).args(args).args(&way.args).envs(vars).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn l_no_command_shows_what_is_planted_in_any_key_by_any_way() {
    let (home, dir) = (tempdir().unwrap(), tempdir().unwrap());
    for way in ways(dir.path()) {
        for output in ["human", "json", "yaml"] {
            for args in
                [&["config", "show", "--output", output][..], &["config", "show", "--changed", "-o", output]]
            {
                let text = said(home.path(), &way, args);
                assert_hidden(way.name, &text);
                assert_eq!(text.matches("***").count(), planted().len(), "{} {args:?}: {text}", way.name);
            }
            assert_hidden(way.name, &said(home.path(), &way, &["config", "check", "--output", output]));
        }
        for (key, _) in planted() {
            let text = said(home.path(), &way, &["config", "explain", &key.path]);
            assert!(text.contains("now       \"***\""), "{} {}: {text}", way.name, key.path);
            assert_hidden(way.name, &text);
        }
        for args in [
            &["config", "env"][..],
            &["config", "env", "--markdown"],
            &["authz", "explain", "--subject", "spiffe://a.x/w", "--method", "/a.B/C"],
            &["version"],
            // Refused, with everything that is wrong.
            &["config", "check", "--profile", "production"],
            &["serve", "--set", "database.type=postgres"],
        ] {
            assert_hidden(way.name, &said(home.path(), &way, args));
        }
    }
}

#[test]
fn l_a_file_with_credentials_that_everybody_may_read_is_told_of() {
    let (home, dir) = (tempdir().unwrap(), tempdir().unwrap());
    for way in ways(dir.path()) {
        let Some(file) = &way.file else { continue };
        assert!(!said(home.path(), &way, &["config", "check"]).contains(EXPOSED), "{}", way.name);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let text = said(home.path(), &way, &["config", "check"]);
        let told = format!("{}: {EXPOSED}", file.display());
        assert!(text.contains(&told), "{}: {text}", way.name);
    }
}

#[test]
fn l_faults_of_a_file_do_not_quote_its_secrets() {
    let (home, dir) = (tempdir().unwrap(), tempdir().unwrap());
    for (n, broken) in [
        // No YAML, on and around the line of the secret.
        "password: sentinel-a\n  : [\n",
        "password: [sentinel-a\n",
        "password: \"sentinel-a\n",
        "password: sentinel-a\npassword: sentinel-b\n",
        // YAML in which no secret belongs.
        "store: {oci: {auth_config: {password: {sentinel-a: sentinel-b}}}}\n",
        "store: {oci: {auth_config: {password: [sentinel-a]}}}\n",
        "store: {oci: {auth_config: {passwrod: sentinel-a}}}\n",
        "store: {oci: {auth_config: sentinel-a}}\n",
        // Addresses in which they do not belong either.
        "store: {oci: {registry_address: \"https://ann:sentinel-a@registry.example\"}}\n",
        "store: {oci: {registry_address: \"ftp://ann:sentinel-a@registry.example\"}}\n",
        "oasf_api_validation: {schema_url: \"ftp://ann:sentinel-a@schemas.example\"}\n",
        "federation: {trust_domains: [{name: b.x, url: \"https://ann:sentinel-a@b.x/bundle\"}]}\n",
    ]
    .into_iter()
    .enumerate()
    {
        let path = private(&dir.path().join(format!("{n}.yml")), broken);
        let way = Way {
            name: broken,
            args: vec!["--config".to_owned(), path.display().to_string()],
            vars: Vec::new(),
            file: None,
        };
        for args in [&["config", "check"][..], &["config", "show"], &["serve"]] {
            let text = said(home.path(), &way, args);
            assert_hidden(broken, &text);
            assert!(args[0] == "config" && args[1] == "show" || text.contains("rror"), "{broken}: {text}");
        }
    }
}

/// Every file below a folder with one of these byte strings in it.
fn files_with(dir: &Path, needles: &[Vec<u8>], seen: &mut usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needles, seen));
        } else if let Ok(bytes) = std::fs::read(&path) {
            *seen += bytes.len();
            let holds = |needle: &Vec<u8>| bytes.windows(needle.len()).any(|w| w == needle.as_slice());
            found.extend(needles.iter().any(holds).then_some(path));
        }
    }
    found
}

/// A registry that wants a password or a token, which are sentinels, and a node over it with mTLS, a policy and an
/// audit log.
async fn guarded_node(
    home: &Path,
    socket: &str,
    access: Access,
    vars: &[(&str, &str)],
) -> (FakeRegistry, Node) {
    let registry = FakeRegistry::start(Switches { access, ..Switches::zot() }).await.unwrap();
    std::fs::write(home.join("policy.csv"), format!("p,{OWN},/agntcy.dir.store.v1.StoreService/*\n"))
        .unwrap();
    let set = [
        format!("store.oci.registry_address={}", registry.address()),
        "store.oci.auth_config.username=ann".to_owned(),
        "authz.enabled=true".to_owned(),
        format!("authz.enforcer_policy_file_path={}", home.join("policy.csv").display()),
        "audit.output=file".to_owned(),
        format!("audit.path={}", home.join("audit.jsonl").display()),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let flags = agent::flags(socket, &set);
    let vars = [vars, &[("DIRECTORY_LOGGER_LOG_LEVEL", "trace")]].concat();
    (registry, Node::spawn(home, &agent::args(&flags), &vars))
}

#[tokio::test(flavor = "multi_thread")]
async fn l_a_node_at_work_writes_no_secret_anywhere() {
    let user = || "ann".to_owned();
    let password = |n: usize| planted()[n].1.clone();
    let at = |path: &str| planted().iter().position(|(key, _)| key.path == path).unwrap();
    let (basic, refresh) = (at("store.oci.auth_config.password"), at("store.oci.auth_config.refresh_token"));
    for (key, access) in [
        (basic, Access::Basic(user(), password(basic))),
        (basic, Access::Token(user(), password(basic))),
        (refresh, Access::Token(user(), password(refresh))),
    ] {
        let (home, away) = (tempdir().unwrap(), tempdir().unwrap());
        let api = agent::agent(away.path(), LONG).await;
        let (key, sentinel) = planted().remove(key);
        let others: Vec<_> =
            planted().into_iter().filter(|(k, _)| !k.path.starts_with("store.oci")).collect();
        let others: Vec<_> = others.iter().map(|(k, s)| (k.env(), s.as_str())).collect();
        let mut vars: Vec<(&str, &str)> = others.iter().map(|(k, s)| (k.as_str(), *s)).collect();
        let name = key.env();
        vars.push((&name, &sentinel));
        let (registry, mut node) = guarded_node(home.path(), &api.socket_uri(), access, &vars).await;
        node.ready();
        let channel = secure(node.grpc(), &api.socket_uri()).await;
        let cids = push(&channel, vec![record("one")]).await.unwrap();
        pull(&channel, &cids).await.unwrap();
        assert!(!registry.repositories().is_empty(), "the credentials are used");
        // Headers that mean nothing here, with a call that is let in and one that is not.
        let mut request = Request::new(tokio_stream::iter([record("two")]));
        headed(&mut request);
        store(&channel).push(request).await.unwrap().into_inner().message().await.unwrap();
        let mut request = Request::new(dir_proto::agntcy::dir::search::v1::CountRecordsRequest::default());
        headed(&mut request);
        let mut search = dir_proto::agntcy::dir::search::v1::search_service_client::SearchServiceClient::new(
            channel.clone(),
        );
        assert_eq!(search.count_records(request).await.unwrap_err().code(), Code::PermissionDenied);
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        drop((search, channel));
        let pages = ["/metrics", "/healthz", "/readyz", "/version", "/info", "/"]
            .map(|path| get(node.ops(), path).unwrap().1)
            .concat();
        assert_hidden("a page", &pages);
        node.signal(Signal::SIGHUP);
        node.signal(Signal::SIGTERM);
        assert_eq!(node.wait(), Some(0));
        let log = node.log();
        assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "talkative");
        assert!(log.len() > 10_000, "there is something to look at");
        assert_hidden("the log", &log);
        assert_hidden("standard error", &node.errors());
        nothing_written(home.path(), &api.material());
    }
}

fn headed<T>(request: &mut Request<T>) {
    for (name, value) in [
        ("authorization", "Bearer sentinel-token"),
        ("x-auth-principal", "oidc:idp:sentinel-principal"),
        ("cookie", "session=sentinel-cookie"),
        ("x-api-key", "sentinel-api-key"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
}

/// Neither a sentinel nor the private key of the node is in any file below its home.
fn nothing_written(home: &Path, material: &dir_identity::devapi::Material) {
    let mut needles = vec![SENTINEL.as_bytes().to_vec(), b"PRIVATE KEY".to_vec()];
    let mut keys = 0;
    for svid in &material.svids {
        keys += 1;
        // The scalar of a P-256 key in PKCS#8: as it is, in hexadecimal, and as a list of numbers.
        let scalar = &svid.key[36..68];
        needles.push(scalar.to_vec());
        let hex = scalar.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        needles.push(hex.into_bytes());
        needles.push(format!("{scalar:?}").trim_matches(['[', ']']).as_bytes().to_vec());
    }
    let mut seen = 0;
    let found = files_with(home, &needles, &mut seen);
    assert!(found.is_empty(), "{found:?}");
    assert!(keys > 0 && seen > 0, "there is something to look at: {keys} keys, {seen} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn l_a_node_whose_registry_refuses_it_does_not_say_with_what() {
    for (key, secret, starts) in [
        ("PASSWORD", "sentinel-wrong", true),
        ("ACCESS_TOKEN", "sentinel-wrong", true),
        ("REFRESH_TOKEN", "sentinel-wrong", true),
        // No header can carry it.
        ("ACCESS_TOKEN", "sentinel-\u{7f}-wrong", false),
    ] {
        let (home, away) = (tempdir().unwrap(), tempdir().unwrap());
        let api = agent::agent(away.path(), LONG).await;
        let access = Access::Token("ann".to_owned(), "right".to_owned());
        let name = format!("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_{key}");
        let vars = [(name.as_str(), secret)];
        let (_registry, mut node) = guarded_node(home.path(), &api.socket_uri(), access, &vars).await;
        if starts {
            node.wait_line("the registry does not answer; starting without it");
            node.signal(Signal::SIGTERM);
            assert_eq!(node.wait(), Some(0));
        } else {
            assert_eq!(node.wait(), Some(4), "{}", node.errors());
        }
        assert_hidden("the log", &node.log());
        assert_hidden("standard error", &node.errors());
        nothing_written(home.path(), &api.material());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l_a_crash_leaves_no_memory_behind() {
    let home = tempdir().unwrap();
    let mut node = Node::start(home.path(), &["--dev"]);
    plain(node.grpc()).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let before = std::fs::read_dir(home.path()).unwrap().count();
    node.signal(Signal::SIGABRT);
    let end = until("the end", || node.ended());
    assert_eq!(end.signal(), Some(Signal::SIGABRT as i32));
    assert!(!end.core_dumped());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), before, "no core file");
}
