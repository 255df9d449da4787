//! The table of keys against files, variables and flags.

mod judge;
mod sources;
mod table;

use super::layers::{Problem, Severity};
use super::{Inputs, Loaded, load};
use serde_json::Value;
use std::io::Write;
use tempfile::NamedTempFile;

/// A configuration from the text of a file and from variables.
fn loaded(yaml: &str, vars: &[(&str, &str)]) -> Loaded {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let inputs =
        Inputs { file: Some(file.path().to_owned()), vars, home: "/home/u".to_owned(), ..Inputs::default() };
    load(&inputs, None)
}

fn value(loaded: &Loaded, key: &str) -> Value {
    loaded.entries.iter().find(|e| e.key == key).unwrap().value.clone()
}

fn errors(loaded: &Loaded) -> Vec<String> {
    loaded.errors().map(Problem::to_string).collect()
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().filter(|p| p.severity == Severity::Warning).map(|p| p.text.clone()).collect()
}

/// Enough to be started: nothing but loopback.
const LOOPBACK: &str = "listen_address: 127.0.0.1:8888\n";
