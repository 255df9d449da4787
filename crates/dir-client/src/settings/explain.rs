//! Which value of a setting holds, and who said so.

use super::table::{SETTINGS, Setting};
use super::{Found, Sources};
use crate::config::Source;

/// Stands for a secret wherever settings are shown.
pub const HIDDEN: &str = "***";

/// A setting with the value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The key, as a profile spells it.
    pub key: &'static str,
    /// The value, [`HIDDEN`] for a secret; `None` where nobody says anything and there is no default.
    pub value: Option<String>,
    /// Who said so.
    pub source: Source,
}

/// Every setting with the value that holds and its source.
pub fn explain(sources: &Sources<'_>) -> Vec<Explained> {
    SETTINGS.iter().map(|setting| explained(setting, setting.find(sources))).collect()
}

fn explained(setting: &Setting, found: Option<Found>) -> Explained {
    let shown = |value: String| if setting.secret { HIDDEN.to_owned() } else { value };
    match found {
        Some(Found { value, source }) => Explained { key: setting.key, value: Some(shown(value)), source },
        None => Explained { key: setting.key, value: None, source: Source::Default },
    }
}
