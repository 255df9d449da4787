//! A credential in memory: it compares and moves, and never shows itself.

use super::Loaded;
use super::layers::{Problem, Source};
use super::leaf::{Leaf, Raw, scalar};
use super::section::{Flag, Key};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// What is shown in place of a secret.
pub const HIDDEN: &str = "***";
/// What there is to say of a file with a credential that every account of the machine may read.
pub(super) const EXPOSED: &str = "holds a credential and everybody on this machine may read it: chmod o-rwx";

/// A credential. `Debug`, `Display` and `config show` print `***`; the memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The credential itself: hand it to the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { HIDDEN })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Leaf for Secret {
    fn kind() -> String {
        "secret".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        scalar(raw, "a secret").map(|text| Self(Zeroizing::new(text)))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Whether every account of the machine may read a file. A group may: that is how secrets are mounted in a pod.
pub(super) fn others_may_read(path: &Path) -> bool {
    /// The bit of everybody else's reading.
    const OTHERS_READ: u32 = 0o004;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS_READ != 0)
}

/// A configuration file with credentials in it that others may read.
pub(super) fn exposed(loaded: &Loaded, keys: &[Key]) -> Vec<Problem> {
    let secrets =
        keys.iter().zip(&loaded.entries).filter(|(key, entry)| key.has(Flag::Secret) && entry.value != "");
    let files: BTreeSet<&Path> = secrets
        .filter_map(|(_, entry)| match &entry.source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        })
        .collect();
    let exposed = files.into_iter().filter(|path| others_may_read(path));
    exposed.map(|path| Problem::warning(path.display().to_string(), EXPOSED)).collect()
}
