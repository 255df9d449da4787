//! The configuration file: YAML into layers.

use super::layers::{Layers, Problem, Source};
use super::leaf::Raw;
use super::section::Key;
use super::suggest;
use serde_json::{Map, Value};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads one file into `layers`. Unknown keys are errors, each with the nearest known name.
pub(super) fn read(path: &Path, keys: &[Key], layers: &mut Layers) -> Vec<Problem> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => return vec![Problem::error(name, format!("cannot be read: {error}"))],
    };
    // A file with nothing but comments is an empty configuration.
    let value: Option<Value> = match serde_saphyr::from_str(&text) {
        Ok(value) => value,
        // Never the excerpt that the parser offers: the line may hold a secret.
        Err(error) => {
            let text = error.without_snippet().to_string();
            // The parser's advice to whoever calls it is no advice to whoever writes the file.
            let text = text.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
            let text = format!("is not YAML: {text}");
            return vec![Problem::error(name, text)];
        }
    };
    let tree = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(tree)) => tree,
        Some(_) => return vec![Problem::error(name, "a map of keys belongs at the top")],
    };
    let mut walk = Walk { path, keys, layers, problems: Vec::new() };
    walk.map("", tree);
    walk.problems
}

struct Walk<'a> {
    path: &'a Path,
    keys: &'a [Key],
    layers: &'a mut Layers,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn map(&mut self, above: &str, tree: Map<String, Value>) {
        for (name, value) in tree {
            // Key names are taken in any case, as existing loaders do; the names inside a value are not touched.
            let here = super::section::join(above, &name.to_ascii_lowercase());
            self.value(&here, value);
        }
    }

    fn value(&mut self, here: &str, value: Value) {
        if self.keys.iter().any(|k| k.path == here) {
            if !value.is_null() {
                self.layers.set(here, Raw::Tree(value), Source::File(self.path.to_owned()));
            }
            return;
        }
        let below = format!("{here}.");
        if self.keys.iter().any(|k| k.path.starts_with(&below)) {
            match value {
                Value::Object(tree) => self.map(here, tree),
                Value::Null => {}
                _ => self.problems.push(Problem::error(here, "a map of keys belongs here")),
            }
            return;
        }
        self.problems.push(unknown(here, self.keys, &format!("in {}", self.path.display())));
    }
}

/// The problem of a key that does not exist.
pub(super) fn unknown(key: &str, keys: &[Key], place: &str) -> Problem {
    let mut groups: Vec<&str> = keys.iter().filter_map(|k| k.path.rsplit_once('.').map(|(g, _)| g)).collect();
    groups.dedup();
    let known = keys.iter().map(|k| k.path.as_str()).chain(groups);
    let hint = match suggest::nearest(key, known) {
        Some(name) => format!("did you mean {name}?"),
        None => "`dir-apiserver config env` lists every key".to_owned(),
    };
    Problem::error(key, format!("unknown key {place}; {hint}"))
}
