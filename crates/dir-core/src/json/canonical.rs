//! The canonical form: compact JSON whose bytes decide the CID.
//!
//! Members ascend by the UTF-8 bytes of their names (not the order of RFC 8785), nothing is left out, numbers
//! print as the shortest digits that round-trip, and `<`, `>`, `&`, U+2028 and U+2029 are escaped.

use super::{Doc, Entry, Node, Slot, number};
use crate::class::{Class, Classified};
use bytes::Bytes;

/// Why a document has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number that JSON cannot spell.
    #[error("a number is NaN or infinite")]
    NotFinite,
    /// A record's data must be an object.
    #[error("a record must be a JSON object")]
    NotAnObject,
}

impl Classified for CanonicalError {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

/// A container being written: children still to come, and what closes it.
struct Open {
    next: u32,
    end: u32,
    object: bool,
}

impl Node<'_> {
    /// The canonical bytes of this value alone, for instance the `data` of a module.
    pub fn canonical(self) -> Result<Bytes, CanonicalError> {
        self.doc.canonical_of(self.entry, 0)
    }
}

impl Doc {
    /// The canonical bytes. One output buffer, no recursion.
    pub fn canonical(&self) -> Result<Bytes, CanonicalError> {
        let guess = self.text.len() + 6 * self.entries.len() + 2;
        self.canonical_of(&self.entries[self.root as usize], guess)
    }

    fn canonical_of(&self, entry: &Entry, guess: usize) -> Result<Bytes, CanonicalError> {
        let mut out = Vec::with_capacity(guess);
        let mut open: Vec<Open> = Vec::new();
        self.write_value(&mut out, &mut open, entry)?;
        while let Some(top) = open.last_mut() {
            let object = top.object;
            if top.next == top.end {
                out.push(if object { b'}' } else { b']' });
                open.pop();
                continue;
            }
            let entry = &self.entries[self.kids[top.next as usize] as usize];
            top.next += 1;
            // Directly after an opening bracket no comma is due; a string ends in a quote, so
            // the last byte tells.
            if !matches!(out.last(), Some(b'{' | b'[')) {
                out.push(b',');
            }
            if object {
                write_string(&mut out, self.text(entry.key));
                out.push(b':');
            }
            self.write_value(&mut out, &mut open, entry)?;
        }
        Ok(Bytes::from(out))
    }

    fn write_value(
        &self,
        out: &mut Vec<u8>,
        open: &mut Vec<Open>,
        entry: &Entry,
    ) -> Result<(), CanonicalError> {
        match entry.slot {
            Slot::Null => out.extend_from_slice(b"null"),
            Slot::Bool(true) => out.extend_from_slice(b"true"),
            Slot::Bool(false) => out.extend_from_slice(b"false"),
            Slot::Number(value) if !value.is_finite() => return Err(CanonicalError::NotFinite),
            Slot::Number(value) => number::write(out, value),
            Slot::String(span) => write_string(out, self.text(span)),
            Slot::Array(span) => {
                out.push(b'[');
                open.push(Open { next: span.start, end: span.start + span.len, object: false });
            }
            Slot::Object(span) => {
                out.push(b'{');
                open.push(Open { next: span.start, end: span.start + span.len, object: true });
            }
        }
        Ok(())
    }
}

/// Bytes that need a look: those escaped, and the first byte of U+2028 and U+2029.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xE2] = true;
    table
};

/// Writes a string with quotes and canonical escapes.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut done = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if !SPECIAL[usize::from(byte)] {
            at += 1;
            continue;
        }
        let mut len = 1;
        let mut code = [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x0C => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0xE2 => {
                let Some(&[0x80, last @ (0xA8 | 0xA9)]) = bytes.get(at + 1..at + 3) else {
                    at += 1;
                    continue;
                };
                len = 3;
                code = if last == 0xA8 { *b"\\u2028" } else { *b"\\u2029" };
                &code
            }
            _ => &code,
        };
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(escape);
        at += len;
        done = at;
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}
