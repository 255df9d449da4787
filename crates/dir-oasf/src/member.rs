//! Typed reading of members, with the place of a fault. `null` is never a wrong type: it leaves things as they are.

use data_encoding::{BASE64, Encoding};
use dir_core::json::{Kind, Node};
use std::fmt;
use std::sync::LazyLock;

/// Where in a record something is: `skills[0].id`.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    pub(crate) const fn top(name: &'a str) -> Self {
        Self { parent: None, step: Step::Member(name) }
    }

    pub(crate) const fn member(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Member(name) }
    }

    pub(crate) const fn item(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Member(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Member(name) => f.write_str(name),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// A member of a wrong type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at} must be {expected}, found {found}")]
pub(crate) struct WrongType {
    at: String,
    expected: &'static str,
    found: &'static str,
}

pub(crate) const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

fn wrong(at: At<'_>, expected: &'static str, node: Node<'_>) -> WrongType {
    WrongType { at: at.to_string(), expected, found: name_of(node.kind()) }
}

/// `None` for null.
pub(crate) fn string<'a>(at: At<'_>, node: Node<'a>) -> Result<Option<&'a str>, WrongType> {
    match node.as_str() {
        None if !node.is_null() => Err(wrong(at, "a string", node)),
        text => Ok(text),
    }
}

/// Takes over a string that is not null.
pub(crate) fn set_string(at: At<'_>, node: Node<'_>, target: &mut String) -> Result<(), WrongType> {
    if let Some(text) = string(at, node)? {
        text.clone_into(target);
    }
    Ok(())
}

/// A whole number from 0 to `max` (inclusive); negative zero is none. `None` for null.
fn whole(at: At<'_>, node: Node<'_>, max: u64, expected: &'static str) -> Result<Option<u64>, WrongType> {
    if node.is_null() {
        return Ok(None);
    }
    let exact = node.as_f64().filter(|value| value.is_sign_positive() && value.fract() == 0.0);
    // Below `max + 1`, whole and positive: the cast is exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let value = exact.filter(|value| *value < max as f64 + 1.0).map(|value| value as u64);
    match value.filter(|value| *value <= max) {
        Some(value) => Ok(Some(value)),
        None => Err(wrong(at, expected, node)),
    }
}

/// A taxonomy id.
pub(crate) fn id(at: At<'_>, node: Node<'_>) -> Result<Option<u64>, WrongType> {
    whole(at, node, u64::from(u32::MAX), "a whole number from 0 to 4294967295")
}

/// A size in bytes.
pub(crate) fn size(at: At<'_>, node: Node<'_>) -> Result<Option<u64>, WrongType> {
    whole(at, node, u64::MAX, "a whole number from 0 to 18446744073709551615")
}

/// Standard base64 as it is usually read: line ends are ignored and trailing bits need not be zero.
static LENIENT: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = BASE64.specification();
    specification.ignore.push_str("\r\n");
    specification.check_trailing_bits = false;
    specification.encoding().unwrap_or(BASE64)
});

/// Bytes as base64 text.
pub(crate) fn base64(at: At<'_>, node: Node<'_>) -> Result<(), WrongType> {
    let Some(text) = string(at, node)? else { return Ok(()) };
    match LENIENT.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_error) => Err(wrong(at, "standard base64", node)),
    }
}

/// The items of an array; `None` for null.
pub(crate) fn items<'a>(
    at: At<'_>,
    node: Node<'a>,
) -> Result<Option<impl ExactSizeIterator<Item = Node<'a>> + use<'a>>, WrongType> {
    match node.kind() {
        Kind::Array => Ok(Some(node.items())),
        Kind::Null => Ok(None),
        _ => Err(wrong(at, "an array", node)),
    }
}

/// The members of an object, nulls left out; nothing for null.
pub(crate) fn members<'a>(
    at: At<'_>,
    node: Node<'a>,
) -> Result<impl Iterator<Item = (&'a str, Node<'a>)> + use<'a>, WrongType> {
    match node.kind() {
        Kind::Object | Kind::Null => Ok(node.members()),
        _ => Err(wrong(at, "an object", node)),
    }
}

/// The known name that a member name stands for: names are matched without regard to case.
pub(crate) fn known<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    names.iter().copied().find(|known| *known == name).or_else(|| {
        names.iter().copied().find(|known| {
            known.eq_ignore_ascii_case(name) || (!name.is_ascii() && name.chars().map(fold).eq(known.chars()))
        })
    })
}

/// Simple case folding onto ASCII; two letters beyond ASCII fold into it.
fn fold(letter: char) -> char {
    match letter {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}
