//! Settings that were given a name.

use super::table::SETTINGS;
use std::collections::BTreeMap;
use std::fmt;

/// A named set of settings, by key ([`super::Setting::key`]). Its `Debug` shows no value: some are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

impl Profile {
    /// A profile from its keys and values. Keys of nobody's are kept, see [`Profile::unknown_keys`].
    pub fn new(name: impl Into<String>, values: BTreeMap<String, String>) -> Self {
        Self { name: name.into(), values }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of a key; an empty value says nothing.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every key and value, those of nobody's included.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Keys that no client knows: probably misspelt.
    pub fn unknown_keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).filter(|key| SETTINGS.iter().all(|s| s.key != *key))
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("keys", &self.values.keys().collect::<Vec<_>>())
            .finish()
    }
}
