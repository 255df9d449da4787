//! JSON documents as records are made of: strict parsing, building from events, and the canonical form.
//!
//! A [`Doc`] is an arena: one flat list of nodes, one text buffer, children as index ranges. Nothing in this
//! module recurses, neither while building nor reading nor dropping, so nesting costs memory and never stack.

mod build;
mod canonical;
mod number;
mod parse;

pub use build::{BuildError, DocBuilder, Duplicates};
pub use canonical::CanonicalError;
pub use parse::{JsonError, JsonFault};

pub(crate) use canonical::write_string;

/// Deepest nesting of objects and arrays that a document may have.
pub const JSON_DEPTH_MAX: usize = 10_000;

/// A range in the text buffer, or in the list of children.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

#[derive(Clone, Copy)]
enum Slot {
    Null,
    Bool(bool),
    Number(f64),
    String(Span),
    /// Range of `kids`, in document order.
    Array(Span),
    /// Range of `kids`, ascending by key bytes, each key once.
    Object(Span),
}

/// One node; `key` is its member name and empty outside of objects.
#[derive(Clone, Copy)]
struct Entry {
    key: Span,
    slot: Slot,
}

/// A JSON document. Equality is equality of the canonical form; a document without one equals nothing.
#[derive(Clone)]
pub struct Doc {
    entries: Vec<Entry>,
    kids: Vec<u32>,
    text: String,
    root: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// An IEEE-754 double.
    Number,
    /// UTF-8 text.
    String,
    /// Items in order.
    Array,
    /// Members with distinct names.
    Object,
}

/// A cursor into a document. Copying it is free.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    doc: &'a Doc,
    entry: &'a Entry,
}

impl Doc {
    /// Parses JSON text (RFC 8259), strictly: UTF-8, no duplicate member names, numbers within the range of
    /// doubles, no lone surrogates, nothing after the value, at most [`JSON_DEPTH_MAX`] levels.
    pub fn parse(input: &[u8]) -> Result<Doc, JsonError> {
        parse::parse(input)
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node { doc: self, entry: &self.entries[self.root as usize] }
    }

    /// A member of the outermost object.
    pub fn get(&self, key: &str) -> Option<Node<'_>> {
        self.root().get(key)
    }

    /// Bytes of text and number of nodes held, for sizing buffers.
    pub fn weight(&self) -> (usize, usize) {
        (self.text.len(), self.entries.len())
    }

    fn text(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    fn node(&self, index: u32) -> Node<'_> {
        Node { doc: self, entry: &self.entries[index as usize] }
    }
}

impl<'a> Node<'a> {
    /// What this node is.
    pub const fn kind(self) -> Kind {
        match self.entry.slot {
            Slot::Null => Kind::Null,
            Slot::Bool(_) => Kind::Bool,
            Slot::Number(_) => Kind::Number,
            Slot::String(_) => Kind::String,
            Slot::Array(_) => Kind::Array,
            Slot::Object(_) => Kind::Object,
        }
    }

    /// The text, when this is a string.
    pub fn as_str(self) -> Option<&'a str> {
        match self.entry.slot {
            Slot::String(span) => Some(self.doc.text(span)),
            _ => None,
        }
    }

    /// The number, when this is one.
    pub const fn as_f64(self) -> Option<f64> {
        match self.entry.slot {
            Slot::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The truth value, when this is one.
    pub const fn as_bool(self) -> Option<bool> {
        match self.entry.slot {
            Slot::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub const fn is_null(self) -> bool {
        matches!(self.entry.slot, Slot::Null)
    }

    /// The member with this exact name, when this is an object that has it.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        let Slot::Object(span) = self.entry.slot else { return None };
        let kids = &self.doc.kids[span.range()];
        let at = kids.binary_search_by(|&kid| self.doc.node(kid).key().cmp(key)).ok()?;
        Some(self.doc.node(kids[at]))
    }

    /// Members of an object, ascending by the bytes of their names; empty for anything else.
    pub fn members(self) -> impl DoubleEndedIterator<Item = (&'a str, Node<'a>)> + ExactSizeIterator {
        let span = if let Slot::Object(span) = self.entry.slot { span } else { Span::default() };
        let doc = self.doc;
        doc.kids[span.range()].iter().map(move |&kid| {
            let node = doc.node(kid);
            (node.key(), node)
        })
    }

    /// Items of an array in order; empty for anything else.
    pub fn items(self) -> impl DoubleEndedIterator<Item = Node<'a>> + ExactSizeIterator {
        let span = if let Slot::Array(span) = self.entry.slot { span } else { Span::default() };
        let doc = self.doc;
        doc.kids[span.range()].iter().map(move |&kid| doc.node(kid))
    }

    /// Children by position: members of an object by name bytes, items of an array in order.
    pub fn child(self, at: usize) -> Option<Node<'a>> {
        let (Slot::Array(span) | Slot::Object(span)) = self.entry.slot else { return None };
        self.doc.kids[span.range()].get(at).map(|&kid| self.doc.node(kid))
    }

    /// Number of members or items; 0 for anything else.
    pub const fn len(self) -> usize {
        match self.entry.slot {
            Slot::Array(span) | Slot::Object(span) => span.len as usize,
            _ => 0,
        }
    }

    /// Whether there are no members or items.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The member name under which this node sits; empty outside of objects.
    pub fn key(self) -> &'a str {
        self.doc.text(self.entry.key)
    }
}

impl PartialEq for Doc {
    fn eq(&self, other: &Self) -> bool {
        self.canonical().is_ok_and(|own| other.canonical().is_ok_and(|theirs| own == theirs))
    }
}

impl std::fmt::Debug for Doc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Doc({:?}, {} nodes)", self.root().kind(), self.entries.len())
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({:?}, {} children)", self.kind(), self.len())
    }
}
