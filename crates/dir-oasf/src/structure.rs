//! The built-in check: structure only. It knows no taxonomy, no enumeration and no length limits.

use crate::member::name_of;
use crate::version::{Schema, Version};
use dir_core::json::{Doc, Kind, Node};

/// Members that every version requires, with their types.
const REQUIRED: &[(&str, Kind)] = &[
    ("name", Kind::String),
    ("version", Kind::String),
    ("schema_version", Kind::String),
    ("description", Kind::String),
    ("authors", Kind::Array),
    ("created_at", Kind::String),
    ("skills", Kind::Array),
];

/// What is wrong with the structure of a record of this version: one text each, none when it is acceptable.
pub fn problems(doc: &Doc, version: Version) -> Vec<String> {
    let mut out = Vec::new();
    for &(name, kind) in REQUIRED {
        let found = require(&mut out, doc.root(), name, name, kind);
        if kind == Kind::Array && found.is_some_and(Node::is_empty) {
            out.push(text(format_args!("{name} must not be empty"), name));
        }
    }
    if version.schema == Schema::V0_7 {
        require(&mut out, doc.root(), "locators", "locators", Kind::Array);
    }
    for (list, check) in [
        ("skills", class as fn(&mut Vec<String>, Node<'_>, &str, Version)),
        ("domains", class),
        ("locators", locator),
        ("modules", module),
    ] {
        let items = doc.get(list).into_iter().flat_map(Node::items).enumerate();
        for (index, item) in items {
            check(&mut out, item, &format!("{list}[{index}]"), version);
        }
    }
    out
}

fn text(message: impl std::fmt::Display, path: &str) -> String {
    format!("{message}. Attribute path: {path}.")
}

/// A member that must be there with this type; says so when it is not.
fn require<'a>(
    out: &mut Vec<String>,
    owner: Node<'a>,
    name: &str,
    path: &str,
    kind: Kind,
) -> Option<Node<'a>> {
    match owner.get(name) {
        Some(node) if node.kind() == kind => Some(node),
        None => {
            out.push(text(format_args!("required attribute {name} is missing"), path));
            None
        }
        Some(node) => {
            let (expected, found) = (name_of(kind), name_of(node.kind()));
            out.push(text(format_args!("{name} must be {expected}, found {found}"), path));
            None
        }
    }
}

fn given(owner: Node<'_>, name: &str) -> bool {
    owner.get(name).is_some_and(|node| !node.is_null())
}

fn class(out: &mut Vec<String>, item: Node<'_>, path: &str, _: Version) {
    if !given(item, "id") && !given(item, "name") {
        out.push(text("at least one of id and name is required", path));
    }
}

fn locator(out: &mut Vec<String>, item: Node<'_>, path: &str, version: Version) {
    require(out, item, "type", &format!("{path}.type"), Kind::String);
    if version.schema != Schema::V1 {
        require(out, item, "url", &format!("{path}.url"), Kind::String);
        return;
    }
    let path = format!("{path}.urls");
    if require(out, item, "urls", &path, Kind::Array).is_some_and(Node::is_empty) {
        out.push(text("urls must not be empty", &path));
    }
}

fn module(out: &mut Vec<String>, item: Node<'_>, path: &str, version: Version) {
    require(out, item, "name", &format!("{path}.name"), Kind::String);
    if version.artifacts && given(item, "artifact") && !given(item, "data") {
        require(out, item, "artifact", &format!("{path}.artifact"), Kind::Object);
    } else {
        require(out, item, "data", &format!("{path}.data"), Kind::Object);
    }
}
