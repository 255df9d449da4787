//! `audit verify`: a chain that is whole, and each way it can be broken.

use crate::world::run;
use dir_core::chain::Head;
use std::fs;
use tempfile::TempDir;

/// Two files of one chain: ten lines, and five more.
fn chained() -> (TempDir, String, String, Head) {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::default();
    let mut text = String::new();
    let mut paths = Vec::new();
    for number in 1..=15 {
        let mut line = format!("{{\"ts\":\"{number}\",\"event\":\"call\"}}").into_bytes();
        head.link(&mut line, 0);
        text += &String::from_utf8(line).unwrap();
        text += "\n";
        if number == 10 || number == 15 {
            let path = dir.path().join(format!("audit.{number}"));
            fs::write(&path, std::mem::take(&mut text)).unwrap();
            paths.push(path.display().to_string());
        }
    }
    let newer = paths.pop().unwrap();
    (dir, paths.pop().unwrap(), newer, head)
}

#[tokio::test]
async fn o4_a_whole_chain_over_two_files() {
    let (_dir, older, newer, head) = chained();
    let ran = run(&[], &["audit", "verify", &older, &newer]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.trim(), format!("audit log whole: 15 line(s) from number 1, head {head}"));
    let ran = run(&[], &["audit", "verify", "--output", "json", "--head", &head.to_string(), &newer]).await;
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &json["status"], &json["first"]), (Some(0), &"ok".into(), &11.into()));
}

#[tokio::test]
async fn o4_removed_changed_and_cut_off_lines_are_found() {
    let (_dir, older, newer, head) = chained();
    let whole = fs::read_to_string(&older).unwrap();
    let without = |n: usize| {
        let mut lines: Vec<_> = whole.lines().collect();
        lines.remove(n);
        lines.join("\n") + "\n"
    };
    let changed = whole.replacen("\"ts\":\"4\"", "\"ts\":\"9\"", 1);
    for (text, fault) in [
        (without(4), ":5: 1 line(s) before it are missing: 5 to 5"),
        (changed, ":5: line 4 of the chain, before it, was changed"),
        (format!("{whole}{{\"ts\":\"new\",\"event\":\"call\"}}\n"), ":11: the line is of no chain"),
        (whole.replacen("\"ts\":\"4\"", "\"ts\":\"4\n", 1), ":4: the line is of no chain"),
    ] {
        fs::write(&older, text).unwrap();
        let ran = run(&[], &["audit", "verify", &older, &newer]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains(fault) && ran.stdout.contains("NOT whole"), "{ran:?}");
    }
    fs::write(&older, &whole).unwrap();
    let ran = run(&[], &["audit", "verify", "--head", &head.to_string(), &older]).await;
    assert!(
        ran.code == Some(1) && ran.stdout.contains("line 15 of the chain, which was vouched for"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn o4_a_mixed_file_and_files_that_are_none() {
    let (dir, older, _, _) = chained();
    let mixed = fs::read_to_string(&older).unwrap().replace('\n', "\n2026 INFO something\n");
    fs::write(&older, mixed).unwrap();
    let ran = run(&[], &["audit", "verify", "--mixed", &older]).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("10 other line(s) passed over"), "{ran:?}");
    assert_eq!(run(&[], &["audit", "verify", &older]).await.code, Some(1));
    let absent = dir.path().join("absent").display().to_string();
    assert_eq!(run(&[], &["audit", "verify", &absent]).await.code, Some(4));
    let empty = dir.path().join("empty").display().to_string();
    fs::write(&empty, "").unwrap();
    let ran = run(&[], &["audit", "verify", &empty]).await;
    assert!(ran.code == Some(1) && ran.stdout.contains("is audit.hash_chain on?"), "{ran:?}");
}
