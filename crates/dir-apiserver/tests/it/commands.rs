//! The commands that start nothing.

use crate::node::command;
use serde_json::Value;
use std::process::Output;
use tempfile::tempdir;

fn run(args: &[&str]) -> Output {
    command(tempdir().unwrap().path()).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn version_names_commit_and_target() {
    let output = text(&run(&["--version"]));
    assert!(output.starts_with("dir-apiserver 0."), "{output}");
    assert!(output.contains(std::env::consts::ARCH), "{output}");
    let json: Value = serde_json::from_str(&text(&run(&["version", "--output", "json"]))).unwrap();
    assert_eq!(json["name"], "dir-apiserver");
    assert!(json["target"].as_str().unwrap().contains(std::env::consts::OS));
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(&["completion", shell]));
        assert!(script.contains("dir-apiserver") && script.contains("embedded-identity"), "{shell}");
    }
}

#[test]
fn check_finds_everything_at_once() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("server.config.yml");
    std::fs::write(&file, "authn: {enabled: true, mode: nonsense}\nlisten_adress: ':1'\n").unwrap();
    let file = file.to_str().unwrap();
    let output = run(&["config", "check", file]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(4), "{report}");
    assert!(report.contains("did you mean listen_address?"), "{report}");
    assert!(report.contains("invalid auth mode: nonsense"), "{report}");
    assert!(report.contains("socket path is required"), "{report}");
    assert!(report.ends_with("3 errors, 0 warnings\n"), "{report}");
    let json: Value = serde_json::from_str(&text(&run(&["config", "check", file, "-o", "json"]))).unwrap();
    assert_eq!(json["errors"], 3);

    std::fs::write(file, "listen_address: 127.0.0.1:8888\n").unwrap();
    assert_eq!(run(&["config", "check", file]).status.code(), Some(0));
    let production = run(&["config", "check", file, "--profile", "production"]);
    assert_eq!(production.status.code(), Some(4));
    assert!(text(&production).contains("authn.enabled: production: authentication must be on"));
}

#[test]
fn show_names_the_source_of_each_value() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("c.yml");
    std::fs::write(&file, "naming: {ttl: 24h}\npublication: {worker_count: 2}\n").unwrap();
    let output = command(dir.path())
        .args(["config", "show", "--changed", "-o", "json", "--config", file.to_str().unwrap()])
        .args(["--set", "publication.worker_count=3", "--dev"])
        .env("DIRECTORY_SERVER_NAMING_TTL", "48h")
        .output()
        .unwrap();
    let entries: Vec<Value> = serde_json::from_str(&text(&output)).unwrap();
    let of =
        |key: &str| entries.iter().find(|e| e["key"] == key).unwrap_or_else(|| panic!("{key}: {entries:?}"));
    assert_eq!(of("naming.ttl")["value"], "48h");
    assert_eq!(of("naming.ttl")["source"]["kind"], "env");
    assert_eq!(of("publication.worker_count")["value"], 3);
    assert_eq!(of("publication.worker_count")["source"]["name"], "--set");
    assert_eq!(of("database.type")["source"]["name"], "--dev");
    assert!(entries.iter().all(|e| e["source"]["kind"] != "default"));
}

#[test]
fn usage_errors_have_their_code() {
    assert_eq!(run(&["config", "explain", "authn.socket_pat"]).status.code(), Some(2));
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["config", "check", "/nowhere.yml"]).status.code(), Some(4));
}
