//! Profiles and where settings come from.

use crate::node::{Node, Ran, nobody, run};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A home of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("dirctl/config.yaml")
    }

    async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(&[], args, "").await
    }

    async fn run_with(&self, env: &[(&str, &str)], args: &[&str], stdin: &str) -> Ran {
        let home = self.0.path().to_str().unwrap();
        run(&[&[("XDG_CONFIG_HOME", home)], env].concat(), args, stdin.as_bytes()).await
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_profile_from_creation_to_deletion() {
    let (home, node) = (Home::new(), Node::plain().await);
    let ran = home.run(&["profile", "create", "lab", &node.address, "--timeout", "20s"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "lab\n"), "{ran:?}");
    assert_eq!(ran.stderr, "use it with: dirctl profile use lab\n");
    assert_eq!((mode(&home.config()), mode(home.config().parent().unwrap())), (0o600, 0o700));

    let unchosen = home.run(&["profile", "current"]).await;
    assert!(unchosen.code == Some(4) && unchosen.stderr.contains("no profile is in force"), "{unchosen:?}");
    assert_eq!(home.run(&["health", "-p", "lab"]).await.good(), "SERVING\n");
    assert_eq!(home.run(&["health", "--context", "lab"]).await.good(), "SERVING\n");
    assert_eq!(
        home.run_with(&[("DIRECTORY_CLIENT_CONTEXT", "lab")], &["health"], "").await.good(),
        "SERVING\n"
    );
    home.run(&["context", "use", "lab"]).await.good();
    assert_eq!(home.run(&["health"]).await.good(), "SERVING\n");
    assert_eq!(home.run(&["profile", "current"]).await.good(), "lab\n");

    home.run(&["profile", "create", "other", "localhost:1", "--use"]).await.good();
    let list = home.run(&["profile", "list", "--json"]).await.json();
    assert_eq!(list[0]["name"], "lab");
    assert_eq!((&list[1]["name"], &list[1]["current"]), (&"other".into(), &true.into()), "{list}");
    let human = home.run(&["profile", "list", "--profile", "lab"]).await.good();
    assert!(human.starts_with(&format!("* lab    {}  -\n  other  localhost:1  -", node.address)), "{human}");

    let ran = home.run(&["profile", "delete", "other"]).await;
    assert_eq!(ran.stderr, "other was in use; no profile is now\n", "{ran:?}");
    let absent = home.run(&["health", "-p", "other"]).await;
    assert!(absent.code == Some(4) && absent.stderr.contains("there are: lab"), "{absent:?}");
    // Nothing goes when one of them is absent.
    assert_eq!(home.run(&["profile", "delete", "lab", "other"]).await.code, Some(4));
    assert_eq!(home.run(&["profile", "show", "lab", "--offline"]).await.code, Some(0));
}

#[tokio::test]
async fn flag_over_environment_over_profile() {
    let home = Home::new();
    home.run(&["profile", "create", "prod", "profile.invalid:1", "--use"]).await.good();
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", "env.invalid:1")];
    let explain = async |env: &[(&str, &str)], args: &[&str]| {
        let args = [&["config", "explain", "server_address", "--json"], args].concat();
        home.run_with(env, &args, "").await.json()["settings"][0].clone()
    };
    let found = explain(&env, &["--server-addr", "flag.invalid:1"]).await;
    assert_eq!((&found["value"], &found["source"]["kind"]), (&"flag.invalid:1".into(), &"flag".into()));
    let found = explain(&env, &[]).await;
    assert_eq!(found["value"], "env.invalid:1");
    assert_eq!(found["source"]["name"], "DIRECTORY_CLIENT_SERVER_ADDRESS");
    let found = explain(&[], &[]).await;
    assert_eq!((&found["value"], &found["source"]["name"]), (&"profile.invalid:1".into(), &"prod".into()));
    home.run(&["profile", "use", "--none"]).await.good();
    let found = explain(&[], &[]).await;
    assert_eq!((&found["value"], &found["source"]["kind"]), (&"0.0.0.0:8888".into(), &"default".into()));

    let unknown = home.run(&["config", "explain", "sever"]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("server_address"), "{unknown:?}");
    let all = home.run(&["config", "explain"]).await.good();
    assert!(all.lines().any(|l| l.starts_with("timeout ") && l.ends_with(" default")), "{all}");
}

#[tokio::test]
async fn dial_errors_name_the_profile() {
    let home = Home::new();
    let (_held, address) = nobody();
    let address = address.replace("127.0.0.1", "localhost");
    home.run(&["profile", "create", "prod", &address, "--use"]).await.good();
    let ran = home.run(&["health"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let says = format!("connect to {address} (from profile prod): connection refused (localhost is ");
    assert!(ran.stderr.contains(&says), "{ran:?}");
    // Programs read the same as a document.
    let error = home.run(&["health", "--json"]).await.json()["error"].clone();
    assert_eq!(error["kind"], "refused");
    assert!(error["message"].as_str().unwrap().contains(&says) && error["next"].is_string(), "{error}");
}

#[tokio::test]
async fn l_secrets_of_a_profile_are_never_shown() {
    let home = Home::new();
    let text =
        "contexts:\n  ci:\n    auth_mode: insecure\n    auth_token: s3cret-a\n    sever_address: s3cret-b\n";
    home.run_with(&[], &["profile", "import", "-"], text).await.good();
    let env = [("DIRECTORY_CLIENT_OIDC_CLIENT_SECRET", "s3cret-c"), ("DIRECTORY_LOGGER_LOG_LEVEL", "DEBUG")];
    for args in [
        &["profile", "show", "ci", "--offline"][..],
        &["profile", "show", "ci", "--json", "--offline"],
        &["profile", "list"],
        &["config", "explain", "-p", "ci"],
        &["config", "explain", "-p", "ci", "--json"],
        &["health", "-p", "ci"],
    ] {
        let ran = home.run_with(&env, args, "").await;
        assert!(!format!("{ran:?}").contains("s3cret"), "{args:?}: {ran:?}");
    }
    let shown = home.run_with(&env, &["profile", "show", "ci", "--offline"], "").await;
    assert!(shown.stdout.contains("auth_token           ***\n"), "{shown:?}");
    let explained = home.run(&["config", "explain", "-p", "ci"]).await;
    assert!(explained.stderr.contains("\"sever_address\" is no setting"), "{explained:?}");
}

#[tokio::test]
async fn bad_profiles_are_refused_before_they_are_written() {
    let home = Home::new();
    for (args, code) in [
        (&["a/b", "h:1"][..], 2),
        (&["a", "ftp://h"], 2),
        (&["a", "h:1", "--server-addr", "h:2"], 2),
        (&["a", "h:1", "--auth-mode", "quantum"], 4),
        (&["a", "h:1", "--timeout", "soon"], 4),
    ] {
        let ran = home.run(&[&["profile", "create"], args].concat()).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    }
    assert!(!home.config().exists());
    home.run(&["profile", "create", "a", "h:1"]).await;
    let again = home.run(&["profile", "create", "a", "h:2"]).await;
    assert!(again.code == Some(4) && again.stderr.contains("--replace"), "{again:?}");
    assert_eq!(home.run(&["profile", "create", "a", "h:2", "--replace"]).await.code, Some(0));
    let ran = home.run_with(&[], &["profile", "import", "-"], "contexts: {a: {}, b: {}}").await;
    assert!(ran.code == Some(4) && ran.stderr.contains("nothing was imported"), "{ran:?}");
    assert_eq!(home.run(&["profile", "list", "--json"]).await.json().as_array().unwrap().len(), 1);
    for text in ["", "contexts: []", "- a"] {
        assert_eq!(home.run_with(&[], &["profile", "import", "-"], text).await.code, Some(4), "{text}");
    }
    std::fs::write(home.config(), "contexts: [").unwrap();
    for args in [&["health"][..], &["profile", "list"], &["profile", "use", "a"]] {
        let ran = home.run(args).await;
        assert!(ran.code == Some(4) && ran.stderr.contains("config.yaml"), "{args:?}: {ran:?}");
    }
    assert_eq!(home.run(&["version"]).await.code, Some(0), "what needs no settings works");
}

#[tokio::test]
async fn what_the_server_says_is_shown_with_the_profile() {
    let (home, node) = (Home::new(), Node::plain().await);
    home.run(&["profile", "create", "lab", &node.address, "--use"]).await;
    let shown = home.run(&["profile", "show"]).await.good();
    assert!(shown.contains(&format!("server_address       {}\n", node.address)), "{shown}");
    assert!(shown.contains("server auth modes    none\n") && shown.contains("server version"), "{shown}");
    let json = home.run(&["profile", "show", "--json"]).await.json();
    assert_eq!(json["server"]["info"]["auth_modes"][0], "none", "{json}");
    let json = home.run(&["profile", "show", "--json", "--offline"]).await.json();
    assert!(json.get("server").is_none() && json["settings"]["server_address"].is_string(), "{json}");

    let status = home.run(&["status"]).await.good();
    for line in ["profile          lab", "auth mode        insecure", "health           SERVING"] {
        assert!(status.lines().any(|l| l == line), "{status}");
    }
    let json = home.run(&["status", "--json"]).await.json();
    assert_eq!((&json["source"], &json["health"]), (&"from profile lab".into(), &"SERVING".into()));
    assert!(json["info"]["limits"]["max_receive_bytes"].as_u64() > Some(0), "{json}");
    node.ready.send(false).unwrap();
    assert_eq!(home.run(&["status"]).await.code, Some(75));

    // A server that is not there takes nothing away from what the profile says.
    home.run(&["profile", "create", "gone", "unix:///nowhere/s"]).await;
    let ran = home.run(&["profile", "show", "gone", "--json"]).await;
    assert_eq!(
        (ran.code, &ran.json()["server"]["error"]["kind"]),
        (Some(10), &"unreachable".into()),
        "{ran:?}"
    );
    assert_eq!(ran.json()["settings"]["server_address"], "unix:///nowhere/s");
}
