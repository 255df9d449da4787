//! Values: how each type of key is read from a file, a variable or a flag, and how it is shown.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroize;

/// A value as it was found. It may be a credential: `Debug` does not show it, and the memory is cleared when it is
/// dropped.
#[derive(Clone, PartialEq)]
pub enum Raw {
    /// From a variable, a flag or the table of defaults.
    Text(String),
    /// From a file.
    Tree(Value),
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Raw::Text(_) => "Text(..)",
            Raw::Tree(_) => "Tree(..)",
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        match self {
            Raw::Text(text) => text.zeroize(),
            Raw::Tree(value) => clear(value),
        }
    }
}

/// Clears every text of a tree. Trees that are read are no deeper than the parser allows.
fn clear(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(clear),
        Value::Object(fields) => fields.values_mut().for_each(clear),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A type that a key can have.
pub trait Leaf: Sized {
    /// The type in words, for the reference page.
    fn kind() -> String;
    /// Reads a value. The error completes the sentence `key <path>: `.
    fn parse(raw: &Raw) -> Result<Self, String>;
    /// The value for people and for `config show`. Never a secret.
    fn show(&self) -> Value;
}

/// The text of a scalar; a tree that is no scalar is an error.
pub fn scalar(raw: &Raw, wanted: &str) -> Result<String, String> {
    match raw {
        Raw::Text(text) => Ok(text.trim().to_owned()),
        Raw::Tree(Value::String(text)) => Ok(text.clone()),
        Raw::Tree(Value::Bool(b)) => Ok(b.to_string()),
        Raw::Tree(Value::Number(n)) => Ok(n.to_string()),
        Raw::Tree(Value::Array(_)) => Err(format!("a list where {wanted} belongs")),
        Raw::Tree(_) => Err(format!("a map where {wanted} belongs")),
    }
}

impl Leaf for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = scalar(raw, "true or false")?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Ok(true),
            // A variable set to the empty string counts, and means the zero value of its type.
            "" | "false" | "0" | "f" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn show(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! number {
    ($($ty:ty, $kind:literal;)+) => {$(
        impl Leaf for $ty {
            fn kind() -> String {
                $kind.to_owned()
            }

            fn parse(raw: &Raw) -> Result<Self, String> {
                let text = scalar(raw, $kind)?;
                if text.is_empty() {
                    return Ok(<$ty>::default());
                }
                text.parse().map_err(|e| format!("{text:?} is not {}: {e}", $kind))
            }

            fn show(&self) -> Value {
                Value::from(*self)
            }
        }
    )+};
}
number! {
    u16, "a number from 0 to 65535";
    u32, "a whole number from 0";
    u64, "a whole number from 0";
    usize, "a whole number from 0";
}

/// Calls a second; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate(pub f64);

impl Leaf for Rate {
    fn kind() -> String {
        "a number from 0".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = scalar(raw, "a number")?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(Self(rate)),
            Ok(_) => Err(format!("{text} is negative or not finite; 0 switches the limit off")),
            Err(e) => Err(format!("{text:?} is not a number: {e}")),
        }
    }

    fn show(&self) -> Value {
        Value::from(self.0)
    }
}

impl Leaf for String {
    fn kind() -> String {
        "text".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        scalar(raw, "text")
    }

    fn show(&self) -> Value {
        Value::String(without_credentials(self))
    }
}

/// An address may hold a user and a password, where they do not belong: they do not show.
fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{host}")
        }
        None => text.to_owned(),
    }
}

/// The same of every text in a tree.
fn shown_tree<T: Serialize>(tree: &T) -> Value {
    fn hide(value: &mut Value) {
        match value {
            Value::String(text) => *text = without_credentials(text),
            Value::Array(items) => items.iter_mut().for_each(hide),
            Value::Object(fields) => fields.values_mut().for_each(hide),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut value = serde_json::to_value(tree).unwrap_or_default();
    hide(&mut value);
    value
}

/// A path; empty means none.
impl Leaf for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        scalar(raw, "a path").map(PathBuf::from)
    }

    fn show(&self) -> Value {
        Value::String(self.display().to_string())
    }
}

/// A list of texts: a sequence in the file, comma-separated in a variable.
impl Leaf for Vec<String> {
    fn kind() -> String {
        "list (comma-separated in a variable)".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Tree(Value::Array(items)) => {
                items.iter().map(|v| scalar(&Raw::Tree(v.clone()), "text")).collect()
            }
            other => Ok(scalar(other, "a list")?
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
        }
    }

    fn show(&self) -> Value {
        shown_tree(self)
    }
}

/// A list of objects. In a variable: JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Items<T>(pub Vec<T>);

impl<T: DeserializeOwned + Serialize> Leaf for Items<T> {
    fn kind() -> String {
        "list of objects".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        tree(raw)?.map_or_else(|| Ok(Self(Vec::new())), from_tree).map(|v: Self| v)
    }

    fn show(&self) -> Value {
        shown_tree(&self.0)
    }
}

fn from_tree<T: DeserializeOwned>(value: Value) -> Result<Items<T>, String> {
    serde_json::from_value(value).map(Items).map_err(|e| e.to_string())
}

/// A map from free names, which keep their dots and capitals, to objects. In a variable: JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Named<T>(pub BTreeMap<String, T>);

impl<T: DeserializeOwned + Serialize> Leaf for Named<T> {
    fn kind() -> String {
        "map of objects".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        match tree(raw)? {
            None => Ok(Self(BTreeMap::new())),
            Some(value) => serde_json::from_value(value).map(Self).map_err(|e| e.to_string()),
        }
    }

    fn show(&self) -> Value {
        shown_tree(&self.0)
    }
}

fn tree(raw: &Raw) -> Result<Option<Value>, String> {
    match raw {
        Raw::Text(text) if text.is_empty() => Ok(None),
        Raw::Text(text) => serde_json::from_str(text).map(Some).map_err(|e| format!("not JSON: {e}")),
        Raw::Tree(value) => Ok(Some(value.clone())),
    }
}

/// Declares an enumeration: variant and its spelling.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $help:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $help])+ $variant,)+ }

        impl $crate::config::leaf::Leaf for $name {
            fn kind() -> String {
                [$(concat!("`", $text, "`")),+].join(", ")
            }

            fn parse(raw: &$crate::config::leaf::Raw) -> Result<Self, String> {
                let text = $crate::config::leaf::scalar(raw, "one word")?;
                match text.as_str() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($text),+].join(", "))),
                }
            }

            fn show(&self) -> serde_json::Value {
                match self { $(Self::$variant => $text.into(),)+ }
            }
        }
    };
}
pub(crate) use choice;
