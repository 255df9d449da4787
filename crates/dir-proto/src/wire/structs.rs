//! Documents to and from `prost_types::Struct`, for referrer data and clients that hold generated types.

use super::{STRUCT_DEPTH_MAX, WireError};
use dir_core::json::{Doc, DocBuilder, Duplicates, Kind as NodeKind, Node};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::collections::btree_map;

/// What is left of a container that is being read.
enum Rest<'a> {
    Fields(btree_map::Iter<'a, String, Value>),
    Items(std::slice::Iter<'a, Value>),
}

/// The document in a `Struct`. Values without a kind, NaN and infinities are refused.
pub fn doc_from_struct(data: &Struct) -> Result<Doc, WireError> {
    let mut out = DocBuilder::new(Duplicates::Refuse);
    out.object_begin()?;
    let mut stack = vec![Rest::Fields(data.fields.iter())];
    while let Some(top) = stack.last_mut() {
        let value = match top {
            Rest::Fields(fields) => {
                let Some((key, value)) = fields.next() else {
                    out.object_end()?;
                    stack.pop();
                    continue;
                };
                out.key(key)?;
                value
            }
            Rest::Items(items) => {
                let Some(value) = items.next() else {
                    out.array_end()?;
                    stack.pop();
                    continue;
                };
                value
            }
        };
        match value.kind.as_ref().ok_or(WireError::NoKind)? {
            Kind::NullValue(_) => out.null()?,
            Kind::NumberValue(number) if !number.is_finite() => return Err(WireError::NotFinite),
            Kind::NumberValue(number) => out.number(*number)?,
            Kind::StringValue(text) => out.string(text)?,
            Kind::BoolValue(value) => out.bool(*value)?,
            Kind::StructValue(inner) => {
                out.object_begin()?;
                stack.push(Rest::Fields(inner.fields.iter()));
            }
            Kind::ListValue(inner) => {
                out.array_begin()?;
                stack.push(Rest::Items(inner.values.iter()));
            }
        }
    }
    Ok(out.finish()?)
}

/// A container that is being made: its node, how many children are done, and they.
struct Made<'a> {
    node: Node<'a>,
    done: usize,
    fields: Struct,
    items: ListValue,
}

impl<'a> Made<'a> {
    fn of(node: Node<'a>) -> Self {
        Self { node, done: 0, fields: Struct::default(), items: ListValue::default() }
    }

    fn add(&mut self, key: &str, kind: Kind) {
        let value = Value { kind: Some(kind) };
        if self.node.kind() == NodeKind::Object {
            self.fields.fields.insert(key.to_owned(), value);
        } else {
            self.items.values.push(value);
        }
    }
}

/// The `Struct` of a document, which must be an object of at most [`STRUCT_DEPTH_MAX`] levels.
pub fn struct_from_doc(doc: &Doc) -> Result<Struct, WireError> {
    if doc.root().kind() != NodeKind::Object {
        return Err(WireError::NotAnObject);
    }
    let mut stack = Vec::new();
    let mut top = Made::of(doc.root());
    loop {
        if let Some(child) = top.node.child(top.done) {
            top.done += 1;
            if matches!(child.kind(), NodeKind::Object | NodeKind::Array) {
                if stack.len() + 1 >= STRUCT_DEPTH_MAX {
                    return Err(WireError::StructDepth);
                }
                stack.push(std::mem::replace(&mut top, Made::of(child)));
            } else {
                top.add(child.key(), scalar(child));
            }
            continue;
        }
        let Some(parent) = stack.pop() else { return Ok(top.fields) };
        let made = std::mem::replace(&mut top, parent);
        let kind = match made.node.kind() {
            NodeKind::Object => Kind::StructValue(made.fields),
            _ => Kind::ListValue(made.items),
        };
        top.add(made.node.key(), kind);
    }
}

fn scalar(node: Node<'_>) -> Kind {
    if let Some(text) = node.as_str() {
        Kind::StringValue(text.to_owned())
    } else if let Some(number) = node.as_f64() {
        Kind::NumberValue(number)
    } else if let Some(value) = node.as_bool() {
        Kind::BoolValue(value)
    } else {
        Kind::NullValue(0)
    }
}
