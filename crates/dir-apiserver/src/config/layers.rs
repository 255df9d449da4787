//! Where values come from, and which one wins: flag over variable over file over default.

use super::leaf::{Leaf, Raw};
use super::section::{Flag, Key};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. The order of the variants is their rank.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Source {
    /// The built-in value.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag that stands for several keys, such as `--dev`.
    Preset(String),
    /// A flag for this key.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Env(name) => write!(f, "env {name}"),
            Source::Preset(name) | Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The start is refused.
    Error,
    /// Said once in the log.
    Warning,
}

/// Something that is wrong, or worth saying, about the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The key concerned, or the variable or file when there is no key.
    pub key: String,
    /// Cause and way out.
    pub text: String,
    /// Whether it is about a secret that is not there: nothing else is wrong then.
    #[serde(skip)]
    pub is_missing_secret: bool,
}

impl Problem {
    /// A refusal.
    pub fn error(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, key: key.into(), text: text.into(), is_missing_secret: false }
    }

    /// A secret that cannot be read.
    pub fn missing_secret(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { is_missing_secret: true, ..Self::error(key, text) }
    }

    /// A remark.
    pub fn warning(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, text) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.key, self.text) }
    }
}

/// Every value that was set, by key.
#[derive(Debug, Clone, Default)]
pub struct Layers(BTreeMap<String, (Raw, Source)>);

impl Layers {
    /// Sets a key, unless something of higher rank did.
    pub fn set(&mut self, key: &str, raw: Raw, source: Source) {
        match self.0.get(key) {
            Some((_, held)) if *held > source => {}
            _ => {
                self.0.insert(key.to_owned(), (raw, source));
            }
        }
    }

    /// What holds for a key, when it was set.
    pub fn get(&self, key: &str) -> Option<&(Raw, Source)> {
        self.0.get(key)
    }
}

/// A key with the value in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value, `***` for a secret.
    pub value: Value,
    /// Where the value comes from.
    pub source: Source,
}

/// Turns layers into typed values, collecting what is wrong instead of stopping at the first.
#[derive(Debug)]
pub struct Reader<'a> {
    layers: &'a Layers,
    home: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader over layers. `home` stands for `<home>` in defaults.
    pub fn new(layers: &'a Layers, home: &'a str) -> Self {
        Self { layers, home, entries: Vec::new(), problems: Vec::new() }
    }

    /// The value of one key. One that does not parse is a problem, and the default stands in so that the rest
    /// can be read too.
    #[expect(clippy::expect_used, reason = "defaults are literals of ours, parsed by a test")]
    pub fn leaf<T: Leaf>(&mut self, path: &str, default: &str) -> T {
        let standard = || {
            T::parse(&Raw::Text(default.replace("<home>", self.home))).expect("a default of the table parses")
        };
        let (value, source) = match self.layers.get(path) {
            None => (standard(), Source::Default),
            Some((raw, source)) => match T::parse(raw) {
                Ok(value) => (value, source.clone()),
                Err(text) => {
                    self.problems.push(Problem::error(path, format!("{text} ({source})")));
                    (standard(), Source::Default)
                }
            },
        };
        self.entries.push(Entry { key: path.to_owned(), value: value.show(), source });
        value
    }

    /// Everything read, and everything found wrong.
    pub fn finish(self) -> (Vec<Entry>, Vec<Problem>) {
        (self.entries, self.problems)
    }
}

/// What there is to say of keys that were set and change nothing in this build.
pub fn idle_keys(keys: &[Key], entries: &[Entry], standard: &[Entry]) -> Vec<Problem> {
    let mut found = Vec::new();
    for ((key, now), default) in keys.iter().zip(entries).zip(standard) {
        if now.source == Source::Default {
            continue;
        }
        if key.has(Flag::NoEffect) {
            found.push(Problem::warning(&key.path, format!("has no effect: {}", key.path)));
        } else if key.has(Flag::Absent) && now.value != default.value {
            found.push(Problem::warning(&key.path, format!("not available in this build: {}", key.path)));
        }
    }
    found
}
