//! A document to `Record` message bytes.
//!
//! Lengths come before contents on the wire, so the message is written from its end to its start: every length is
//! then known when it is due, in one pass. Entries are in canonical order, so equal records are equal bytes.

use super::WireError;
use bytes::Bytes;
use dir_core::json::{Doc, Kind, Node};

// Tags: field number and wire type in one byte.
const RECORD_DATA: u8 = 0x0A;
const STRUCT_FIELDS: u8 = 0x0A;
const ENTRY_KEY: u8 = 0x0A;
const ENTRY_VALUE: u8 = 0x12;
const LIST_VALUES: u8 = 0x0A;
const VALUE_NULL: u8 = 0x08;
const VALUE_NUMBER: u8 = 0x11;
const VALUE_STRING: u8 = 0x1A;
const VALUE_BOOL: u8 = 0x20;
const VALUE_STRUCT: u8 = 0x2A;
const VALUE_LIST: u8 = 0x32;

/// The bytes of an `agntcy.dir.core.v1.Record` message. The document must be an object.
pub fn encode_record(doc: &Doc) -> Result<Bytes, WireError> {
    let root = doc.root();
    if root.kind() != Kind::Object {
        return Err(WireError::NotAnObject);
    }
    let (text, nodes) = doc.weight();
    let mut out = Backwards::with_room(text + 13 * nodes + 16);
    let mut stack = vec![Open { node: root, left: root.len(), mark: 0 }];
    while let Some(top) = stack.last_mut() {
        let in_object = top.node.kind() == Kind::Object;
        if let Some(next) = top.left.checked_sub(1) {
            top.left = next;
            let Some(child) = top.node.child(next) else { continue };
            let mark = out.written();
            if matches!(child.kind(), Kind::Object | Kind::Array) {
                stack.push(Open { node: child, left: child.len(), mark });
            } else {
                out.scalar(child);
                out.wrap(child, in_object, mark);
            }
            continue;
        }
        let Open { node, mark, .. } = *top;
        stack.pop();
        match stack.last() {
            None => out.length(RECORD_DATA, mark),
            Some(parent) => {
                out.length(if in_object { VALUE_STRUCT } else { VALUE_LIST }, mark);
                out.wrap(node, parent.node.kind() == Kind::Object, mark);
            }
        }
    }
    Ok(Bytes::copy_from_slice(out.bytes()))
}

/// The bytes of a `Record` message from a record's canonical JSON.
pub fn encode_record_from_canonical(canonical: &[u8]) -> Result<Bytes, WireError> {
    encode_record(&Doc::parse(canonical)?)
}

/// A container whose children are being written, last one first.
struct Open<'a> {
    node: Node<'a>,
    left: usize,
    /// Bytes that were written before it: they follow it in the message.
    mark: usize,
}

/// A buffer that is filled from its end.
struct Backwards {
    buffer: Vec<u8>,
    at: usize,
}

impl Backwards {
    fn with_room(room: usize) -> Self {
        Self { buffer: vec![0; room], at: room }
    }

    fn written(&self) -> usize {
        self.buffer.len() - self.at
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > self.at {
            self.grow(bytes.len());
        }
        let start = self.at - bytes.len();
        self.buffer[start..self.at].copy_from_slice(bytes);
        self.at = start;
    }

    #[cold]
    fn grow(&mut self, need: usize) {
        let more = self.buffer.len() + need;
        let mut buffer = vec![0; more + self.buffer.len()];
        buffer[more + self.at..].copy_from_slice(self.bytes());
        self.buffer = buffer;
        self.at += more;
    }

    /// Puts tag and length before everything written since `mark`.
    fn length(&mut self, tag: u8, mark: usize) {
        let len = self.written() - mark;
        if let Some(short) = u8::try_from(len).ok().filter(|len| *len < 0x80) {
            return self.put(&[tag, short]);
        }
        let mut prefix = [0_u8; 11];
        prefix[0] = tag;
        let mut rest = len;
        let mut size = 1;
        while rest > 0 {
            let low = rest.to_le_bytes()[0] & 0x7F;
            rest >>= 7;
            prefix[size] = if rest > 0 { low | 0x80 } else { low };
            size += 1;
        }
        self.put(&prefix[..size]);
    }

    /// The kind of a value that has no children.
    fn scalar(&mut self, node: Node<'_>) {
        if let Some(text) = node.as_str() {
            let mark = self.written();
            self.put(text.as_bytes());
            self.length(VALUE_STRING, mark);
        } else if let Some(number) = node.as_f64() {
            self.put(&number.to_le_bytes());
            self.put(&[VALUE_NUMBER]);
        } else if let Some(value) = node.as_bool() {
            self.put(&[VALUE_BOOL, u8::from(value)]);
        } else {
            self.put(&[VALUE_NULL, 0]);
        }
    }

    /// Makes the kind written since `mark` a value of its parent: an entry of a struct or an item of a list.
    fn wrap(&mut self, node: Node<'_>, in_object: bool, mark: usize) {
        if in_object {
            self.length(ENTRY_VALUE, mark);
            let key = self.written();
            self.put(node.key().as_bytes());
            self.length(ENTRY_KEY, key);
            self.length(STRUCT_FIELDS, mark);
        } else {
            self.length(LIST_VALUES, mark);
        }
    }
}
