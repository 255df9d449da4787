//! Lists of networks: a sequence in the file, comma-separated in a variable.

use super::leaf::{Leaf, Raw};
use dir_identity::proxy::Network;
use serde_json::Value;

/// Networks in CIDR notation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Networks(pub Vec<Network>);

impl Leaf for Networks {
    fn kind() -> String {
        "list of networks (comma-separated in a variable)".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        let texts = Vec::<String>::parse(raw)?;
        let parse = |text: &String| text.parse().map_err(|error| format!("{text:?} {error}"));
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Value {
        self.0.iter().map(ToString::to_string).collect()
    }
}
