//! Records in and out, in every format.

use crate::node::{Node, cid, command, record, run};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::test]
async fn the_whole_way() {
    let node = Node::plain().await;
    let (a, b) = (record("a"), record("b"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::fs::write(dir.path().join("a.json"), &a).unwrap();
    std::fs::write(dir.path().join("deep/b.json"), &b).unwrap();
    let (a, b) = (cid(&a), cid(&b));
    let folder = dir.path().to_str().unwrap();

    assert_eq!(node.dirctl(&["push", folder]).await.good(), format!("{a}\n{b}\n"));
    assert_eq!(node.dirctl(&["search", "--count"]).await.good(), "2\n");
    assert_eq!(node.dirctl(&["search", "--name", "A"]).await.good(), format!("{a}\n"));
    assert_eq!(node.dirctl(&["search", "--filter", "name!=a"]).await.good(), format!("{b}\n"));
    assert_eq!(node.dirctl(&["delete", &a]).await.good(), format!("{a}\n"));
    assert_eq!(node.dirctl(&["search"]).await.good(), format!("{b}\n"));
    let gone = node.dirctl(&["pull", &a]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stderr.contains("record not found"), "{gone:?}");
}

#[tokio::test]
async fn push_in_three_formats() {
    let node = Node::plain().await;
    let text = record("a");
    let id = cid(&text);
    let push =
        async |format: &str| node.dirctl_with(&["push", "-", "-o", format], text.as_bytes()).await.good();
    assert_eq!(push("human").await, format!("{id}\n"));
    assert_eq!(
        push("json").await,
        format!("[\n  {{\n    \"cid\": \"{id}\",\n    \"source\": \"stdin\"\n  }}\n]\n")
    );
    assert_eq!(push("yaml").await, format!("- cid: {id}\n  source: stdin\n"));
}

#[tokio::test]
async fn info_in_three_formats() {
    let node = Node::plain().await;
    let text = record("a");
    let id = node.dirctl_with(&["push", "-"], text.as_bytes()).await.good();
    let id = id.trim();
    let human = node.dirctl(&["info", id]).await.good();
    assert!(human.starts_with(&format!("cid:             {id}\nschema version:  0.8.0\n")), "{human}");
    assert!(human.contains("team:            blue\n"), "{human}");
    let json = node.dirctl(&["info", id, "--json"]).await.json();
    assert_eq!((&json["cid"], &json["annotations"]["name"]), (&id.into(), &"a".into()), "{json}");
    let yaml = node.dirctl(&["info", id, "-o", "yaml"]).await.good();
    assert!(yaml.contains(&format!("cid: {id}\n")) && yaml.contains("schema_version: \"0.8.0\"\n"), "{yaml}");
    // Several make a list.
    let other = node.dirctl_with(&["push", "-"], record("b").as_bytes()).await.good();
    let both = node.dirctl(&["info", id, other.trim(), "--json"]).await.json();
    assert_eq!(both.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn search_and_pull_in_three_formats() {
    let node = Node::plain().await;
    let text = record("a");
    let id = node.dirctl_with(&["push", "-"], text.as_bytes()).await.good();
    let id = id.trim();
    assert_eq!(node.dirctl(&["search", "--json"]).await.good(), format!("[\n  \"{id}\"\n]\n"));
    assert_eq!(node.dirctl(&["search", "-o", "yaml"]).await.good(), format!("- {id}\n"));
    for more in [&["--json"][..], &["--format", "record", "--json"]] {
        let ran = node.dirctl(&[&["search", "--name", "none"][..], more].concat()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "[]\n"));
        assert!(ran.stderr.starts_with("nothing found: "), "{ran:?}");
    }
    let quiet = node.dirctl(&["search", "--name", "none", "--quiet"]).await;
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(node.dirctl(&["search", "--count", "--json"]).await.good(), "{\n  \"count\": 1\n}\n");

    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(node.dirctl(&["pull", id, "--json"]).await.json(), expected);
    let found = node.dirctl(&["search", "--format", "record", "--json"]).await.json();
    assert_eq!(found, serde_json::Value::Array(vec![expected.clone()]));
    // JSON is indented, whatever is in it.
    for (args, value) in [
        (&["pull", id, "--json"][..], expected.clone()),
        (&["search", "--format", "record", "--json"], vec![expected.clone()].into()),
    ] {
        let pretty = serde_json::to_string_pretty(&value).unwrap() + "\n";
        assert_eq!(node.dirctl(args).await.good(), pretty, "{args:?}");
    }
    let human = node.dirctl(&["pull", id]).await.good();
    assert_eq!(human, serde_json::to_string_pretty(&expected).unwrap() + "\n");
    let yaml = node.dirctl(&["pull", id, "-o", "yaml"]).await.good();
    assert!(yaml.contains("name: a\n") && yaml.contains("team: blue\n"), "{yaml}");
    let raw = node.dirctl(&["pull", id, "--raw"]).await.good();
    assert_eq!(cid(&raw), id);
    assert_eq!(dir_core::Cid::of(raw.trim_end().as_bytes()).to_string(), id);
}

#[tokio::test]
async fn pulled_files_are_what_was_pushed() {
    let node = Node::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{}\n", record("a").replace('\n', " "), record("b").replace('\n', " "));
    node.dirctl_with(&["push", "-", "--input", "ndjson"], lines.as_bytes()).await.good();
    let cids = node.dirctl(&["search", "--json"]).await.good();
    let out = dir.path().join("out");
    let args = ["pull", "--stdin", "--output-dir", out.to_str().unwrap()];
    let paths = node.dirctl_with(&args, cids.as_bytes()).await.good();
    assert_eq!(paths.lines().count(), 2);
    for path in paths.lines() {
        let bytes = std::fs::read(path).unwrap();
        assert!(path.ends_with(&format!("{}.json", dir_core::Cid::of(&bytes))), "{path}");
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2, "nothing else is left behind");
}

#[tokio::test]
async fn bad_documents_do_not_stop_good_ones() {
    let node = Node::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let not_a_record = "{\"schema_version\":\"0.8.0\",\"name\":\"x\"}";
    for (name, text) in [("1.json", record("a")), ("2.json", "{".into()), ("3.json", not_a_record.into())] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::write(dir.path().join("4.json"), record("b")).unwrap();
    let folder = dir.path().to_str().unwrap();
    let ran = node.dirctl(&["push", folder]).await;
    assert_eq!(ran.code, Some(10), "{ran:?}");
    assert_eq!(ran.stdout, format!("{}\n{}\n", cid(&record("a")), cid(&record("b"))));
    assert!(ran.stderr.contains("2.json: invalid JSON"), "{ran:?}");
    assert!(
        ran.stderr.contains("3.json: Push to ") && ran.stderr.contains("record validation failed"),
        "{ran:?}"
    );
    assert!(ran.stderr.ends_with("stored 2 of 4 documents; 2 failed\n"), "{ran:?}");

    let ran = node.dirctl(&["push", folder, "--json", "--quiet"]).await;
    let rows = ran.json();
    let kinds: Vec<_> = rows.as_array().unwrap().iter().map(|r| r["error"]["kind"].as_str()).collect();
    assert_eq!(kinds, [None, Some("document"), Some("invalid"), None], "{rows}");
    assert!(!ran.stderr.contains("stored 2"), "{ran:?}");

    let only_bad = dir.path().join("3.json");
    let ran = node.dirctl(&["push", only_bad.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
    let ran = node.dirctl(&["push", dir.path().join("2.json").to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
}

#[tokio::test]
async fn missing_and_existing_records_together() {
    let node = Node::plain().await;
    let id = node.dirctl_with(&["push", "-"], record("a").as_bytes()).await.good();
    let (id, missing) = (id.trim(), cid("{}"));
    for command in ["pull", "info"] {
        let ran = node.dirctl(&[command, id, &missing]).await;
        assert_eq!(ran.code, Some(10), "{ran:?}");
        assert!(ran.stderr.contains(&format!("error: {missing}: ")), "{ran:?}");
        let found = if command == "pull" { "\"name\": \"a\"" } else { id };
        assert!(ran.stdout.contains(found), "{ran:?}");
    }
}

#[tokio::test]
async fn arrays_and_lines_on_stdin() {
    let node = Node::plain().await;
    let array = format!("[{}, {}]", record("a"), record("b"));
    let cids = node.dirctl_with(&["push", "-", "--input", "array"], array.as_bytes()).await.good();
    assert_eq!(cids.lines().count(), 2);
    let deleted = node.dirctl_with(&["delete", "--stdin"], cids.as_bytes()).await.good();
    assert_eq!(deleted, cids);
    let empty = node.dirctl_with(&["delete", "--stdin"], b"[]").await;
    assert_eq!(empty.code, Some(2), "{empty:?}");
}

#[tokio::test]
async fn a_record_of_three_thousand_levels() {
    let node = Node::plain().await;
    let depth = 3_000;
    let data = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let text = record("deep")
        .replace("\"modules\":[]", &format!("\"modules\":[{{\"name\":\"m\",\"data\":{data}}}]"));
    let id = node.dirctl_with(&["push", "-"], text.as_bytes()).await.good();
    let id = id.trim();
    assert_eq!(id, cid(&text));
    for args in [&["--json"][..], &["-o", "yaml"], &["-o", "human"], &["--raw"]] {
        let pulled = node.dirctl(&[&["pull", id], args].concat()).await.good();
        assert_eq!(cid(&pulled), id, "{args:?}");
    }
    let found = node.dirctl(&["search", "--name", "deep", "--format", "record", "--raw"]).await;
    assert_eq!(found.code, Some(2), "--raw belongs to pull: {found:?}");
    let found = node.dirctl(&["search", "--name", "deep", "--format", "record"]).await.good();
    assert_eq!(cid(&found), id);
}

#[tokio::test]
async fn many_records_over_several_windows() {
    let node = Node::plain().await;
    let names: Vec<String> = (0..300).map(|n| format!("agent-{n:03}")).collect();
    let lines: String = names.iter().map(|name| record(name).replace('\n', " ") + "\n").collect();
    let pushed = node.dirctl_with(&["push", "-", "--input", "ndjson"], lines.as_bytes()).await.good();
    let expected: String = names.iter().map(|name| cid(&record(name)) + "\n").collect();
    assert_eq!(pushed, expected, "in the order of the input");
    assert_eq!(node.dirctl(&["search"]).await.good().lines().count(), 100, "the default limit");
    assert_eq!(node.dirctl(&["search", "--limit", "0"]).await.good().lines().count(), 300);
    assert_eq!(node.dirctl(&["search", "--limit", "0", "--offset", "290"]).await.good().lines().count(), 10);
    let pulled = node.dirctl_with(&["pull", "--stdin", "--raw"], pushed.as_bytes()).await.good();
    assert_eq!(pulled.lines().count(), 300);
}

#[tokio::test]
async fn an_open_pipe_is_answered_line_by_line() {
    let node = Node::plain().await;
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str())];
    let mut child = command(&env, &["push", "-", "--input", "ndjson"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for name in ["a", "b", "c"] {
        let text = record(name);
        input.write_all((text.replace('\n', " ") + "\n").as_bytes()).await.unwrap();
        assert_eq!(output.next_line().await.unwrap(), Some(cid(&text)), "before the next line is sent");
    }
    drop(input);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let node = Node::plain().await;
    let lines: String = (0..200).map(|n| record(&format!("{n}")).replace('\n', " ") + "\n").collect();
    node.dirctl_with(&["push", "-", "--input", "ndjson"], lines.as_bytes()).await.good();
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str())];
    let mut child = command(&env, &["search", "--format", "record", "--limit", "0"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[tokio::test]
async fn ctrl_c_is_code_130() {
    let node = Node::plain().await;
    let env = [("DIRECTORY_CLIENT_SERVER_ADDRESS", node.address.as_str())];
    let mut child = command(&env, &["push", "-", "--input", "ndjson"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all((record("a").replace('\n', " ") + "\n").as_bytes()).await.unwrap();
    assert!(output.next_line().await.unwrap().is_some(), "it is at work");
    let pid = child.id().unwrap().to_string();
    let killed = tokio::process::Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
    assert!(killed.await.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "interrupted\n");
    drop(input);
}

#[tokio::test]
async fn cids_without_a_server() {
    let text = record("a");
    let ran = run(&[], &["cid", "-"], text.as_bytes()).await;
    assert_eq!(ran.good(), format!("{}\n", cid(&text)));
    let empty = run(&[], &["cid", "-"], b"{}").await.good();
    assert_eq!(empty, "baeareicecnx2gvntm6fbcrvnc336qze6st5u7qq7457igegamd3bzkx7ri\n");
}

#[tokio::test]
async fn health_and_versions() {
    let node = Node::plain().await;
    assert_eq!(node.dirctl(&["health"]).await.good(), "SERVING\n");
    let json = node.dirctl(&["health", "--json"]).await.json();
    assert_eq!((&json["status"], &json["server"]), (&"SERVING".into(), &node.address.as_str().into()));
    node.ready.send(false).unwrap();
    let ran = node.dirctl(&["health"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(75), "NOT_SERVING\n"), "{ran:?}");

    let own = concat!("dirctl ", env!("CARGO_PKG_VERSION"), " (");
    let version = node.dirctl(&["version", "--server"]).await.good();
    assert!(version.starts_with(own) && version.ends_with("\nserver 9.8.7\n"), "{version}");
    assert!(run(&[], &["--version"], b"").await.good().starts_with(own));
}

#[tokio::test]
async fn completion_scripts() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&[], &["completion", shell], b"").await.good();
        assert!(script.contains("output-dir") && script.contains("schema-version"), "{shell}");
    }
}
