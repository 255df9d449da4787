//! The acceptance tests of identity and access carry an id in their names, and the threat model cites them: both
//! are compared with the tests that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Ids with a number: first letter, first number, last number.
const NUMBERED: [(char, u8, u8); 6] =
    [('a', 1, 10), ('f', 1, 16), ('h', 1, 35), ('i', 1, 6), ('n', 1, 9), ('o', 1, 4)];

/// Ids that many tests share.
const SHARED: [&str; 12] = ["abuse", "c", "d", "d0", "e", "g", "j", "k", "l", "m", "p", "a2b"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "gen" {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names of all test functions of the workspace.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for dir in ["crates", "tests/product"] {
        rust_files(&root().join(dir), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable file");
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if marked && let Some(at) = line.find("fn ") {
                let name = &line[at + 3..];
                let end = name.find(['(', '<']).unwrap_or(name.len());
                names.insert(name[..end].to_owned());
                marked = false;
            } else if let Some((name, _)) = line.split_once(": ").filter(|(name, _)| is_row(name)) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// A row of a macro that makes tests: `h9_own_id_by_a_federated_ca: BadChain, …`.
fn is_row(name: &str) -> bool {
    let id = name.split('_').next().unwrap_or_default();
    let (letter, number) = id.split_at(id.len().min(1));
    name.contains('_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && letter.bytes().all(|b| b.is_ascii_lowercase())
        && number.parse::<u8>().is_ok()
}

/// Whether a test is named by an id: `h12` is in `h12_an_empty_bundle` and in `short_chains_h12_and_h13`.
fn carries(name: &str, id: &str) -> bool {
    name.split('_').any(|word| word == id)
}

#[test]
fn every_id_of_the_catalogue_has_a_test() {
    let names = tests();
    let mut ids: Vec<String> = SHARED.iter().map(ToString::to_string).collect();
    for (letter, first, last) in NUMBERED {
        ids.extend((first..=last).map(|n| format!("{letter}{n}")));
    }
    let starts = |id: &str| names.iter().any(|name| name.starts_with(&format!("{id}_")));
    let missing: Vec<_> = ids
        .iter()
        .filter(|id| {
            if SHARED.contains(&id.as_str()) { !starts(id) } else { !names.iter().any(|n| carries(n, id)) }
        })
        .collect();
    assert!(missing.is_empty(), "no test carries {missing:?} in its name");
}

#[test]
fn the_threat_model_cites_tests_that_exist() {
    let names = tests();
    let text = fs::read_to_string(root().join("docs/security/threat-model.md")).expect("the threat model");
    let mut cited = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some(id) = quoted.strip_suffix('_') else { continue };
        cited += 1;
        let found = names.iter().any(|n| n.starts_with(quoted) || carries(n, id));
        assert!(found, "no test is named {quoted}…");
    }
    assert!(cited > 30, "{cited} citations found");
}
