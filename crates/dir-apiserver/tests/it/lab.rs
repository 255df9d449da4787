//! `lab`: the story of the example, and how it ends.

use crate::node::{PATIENCE, command, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::mpsc;

const STORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/lab/story.lab");

/// Rotation under traffic without a failed call, a policy tightened, a workload revoked, a partner killed, its
/// bundle too old, and everything healed: the script itself expects each step, and fails at the first that is not so.
#[test]
fn the_story_of_two_organisations_holds() {
    let home = tempfile::tempdir().unwrap();
    let output = command(home.path())
        .args(["lab", "--script", STORY, "--rotation", "3s", "--output", "json"])
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{errors}\n{out}");
    let events: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let has = |event: &str, text: &str| {
        events.iter().any(|e| e["event"] == event && e["text"].as_str().unwrap().contains(text))
    };
    for (event, text) in [
        ("calls", "no call failed"),
        ("calls", "calls are denied: not allowed to access"),
        ("calls", "calls are no-identity"),
        ("log", "partner untrusted"),
        ("calls", "calls are untrusted"),
        ("ca", "signs from the next rotation on"),
    ] {
        assert!(has(event, text), "{event}: {text} is missing in:\n{out}");
    }
    let folder = events[0]["text"].as_str().unwrap().rsplit(' ').next().unwrap();
    assert!(folder.starts_with("/tmp/dir-lab-") && !std::path::Path::new(folder).exists(), "{folder}");
}

/// From a terminal: a wrong word is told and nothing ends; `quit` ends everything, the servers too.
#[test]
fn commands_come_from_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let dir = tempfile::Builder::new().prefix("lab").tempdir_in("/tmp").unwrap();
    let mut child = command(home.path())
        .args(["lab", "--output", "json", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, told) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| lines.send(l)));
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"dance\nexpect alpha beta ok\nkill beta\nexpect alpha beta down\nquit\n").unwrap();
    let mut heard = String::new();
    while let Ok(line) = told.recv_timeout(PATIENCE) {
        heard.push_str(&line);
        heard.push('\n');
    }
    assert_eq!(until("the end", || child.try_wait().unwrap()).code(), Some(0), "{heard}");
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("\"dance\" is no command"), "{errors}");
    assert!(heard.contains("server killed") && heard.contains("calls are down"), "{heard}");
    // A folder that was named stays, with the logs; nobody serves any more.
    assert!(dir.path().join("alpha/server.log").exists());
    let config = std::fs::read_to_string(dir.path().join("alpha/server.config.yml")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let address = config["listen_address"].as_str().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err(), "alpha still serves");
}

#[test]
fn a_wrong_script_starts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("wrong.lab");
    std::fs::write(&script, "expect alpha beta ok\nkill gamma\n").unwrap();
    let output = command(home.path()).args(["lab", "--script"]).arg(&script).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{errors}");
    assert!(errors.contains("line 2 of the script") && errors.contains("alpha, beta"), "{errors}");
    for wrong in [["--domains", "1"], ["--rotation", "0s"], ["--max-stale", "x"]] {
        let output = command(home.path()).arg("lab").args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// A step that does not hold ends the lab with status 1 and names the step.
#[test]
fn a_script_that_fails_says_where() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("fails.lab");
    std::fs::write(&script, "expect alpha beta ok\nexpect-push alpha beta ok\n").unwrap();
    let output = command(home.path()).args(["lab", "--script"]).arg(&script).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("expect-push alpha beta ok: the push is denied"), "{errors}");
}
