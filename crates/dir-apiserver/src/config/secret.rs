//! A credential in memory: it compares and moves, and never shows itself.

use super::leaf::{Leaf, Raw, scalar};
use serde_json::Value;
use std::fmt;

/// What is shown in place of a secret.
pub const HIDDEN: &str = "***";

/// A credential. `Debug`, `Display` and `config show` print `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

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
        scalar(raw, "a secret").map(Self)
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}
