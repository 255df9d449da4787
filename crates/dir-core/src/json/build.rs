//! Documents from events: begin, key, value, end.

use super::{Doc, Entry, JSON_DEPTH_MAX, Slot, Span};
use crate::class::{Class, Classified};

/// What to do with a member name that an object already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Refuse the document (JSON text).
    Refuse,
    /// Keep the last value (protobuf map entries).
    LastWins,
}

/// Why events do not make a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// More than [`JSON_DEPTH_MAX`] nested objects and arrays.
    #[error("nested deeper than {JSON_DEPTH_MAX} levels")]
    Depth,
    /// A member name twice in one object.
    #[error("duplicate member name {0:?}")]
    Duplicate(String),
    /// Text or nodes beyond what 32-bit positions address.
    #[error("larger than 4 GiB")]
    TooLarge,
    /// Events out of order: a fault of the caller, not of the input.
    #[error("document events out of order: {0}")]
    Order(&'static str),
}

impl Classified for BuildError {
    fn class(&self) -> Class {
        match self {
            BuildError::Depth | BuildError::Duplicate(_) | BuildError::TooLarge => Class::Invalid,
            BuildError::Order(_) => Class::Internal,
        }
    }
}

/// An object or array that has begun and not ended.
struct Frame {
    entry: u32,
    object: bool,
    /// Where its children begin in `pending`.
    children: u32,
}

/// Builds a [`Doc`] from events, without recursion.
pub struct DocBuilder {
    entries: Vec<Entry>,
    kids: Vec<u32>,
    text: String,
    pending: Vec<u32>,
    frames: Vec<Frame>,
    key: Option<Span>,
    duplicates: Duplicates,
}

fn position(len: usize) -> Result<u32, BuildError> {
    u32::try_from(len).or(Err(BuildError::TooLarge))
}

impl DocBuilder {
    /// A builder that treats repeated member names as told.
    pub fn new(duplicates: Duplicates) -> Self {
        Self::with_capacity(duplicates, 0)
    }

    /// A builder with room for about `bytes` of input.
    pub fn with_capacity(duplicates: Duplicates, bytes: usize) -> Self {
        Self {
            entries: Vec::with_capacity(bytes / 24),
            kids: Vec::with_capacity(bytes / 24),
            text: String::with_capacity(bytes),
            pending: Vec::new(),
            frames: Vec::new(),
            key: None,
            duplicates,
        }
    }

    /// Number of objects and arrays that are open.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Whether the innermost open container is an object.
    pub fn in_object(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.object)
    }

    /// Opens an object.
    pub fn object_begin(&mut self) -> Result<(), BuildError> {
        self.begin(true)
    }

    /// Closes the innermost object.
    pub fn object_end(&mut self) -> Result<(), BuildError> {
        self.end(true)
    }

    /// Opens an array.
    pub fn array_begin(&mut self) -> Result<(), BuildError> {
        self.begin(false)
    }

    /// Closes the innermost array.
    pub fn array_end(&mut self) -> Result<(), BuildError> {
        self.end(false)
    }

    /// The name of the member whose value comes next.
    pub fn key(&mut self, name: &str) -> Result<(), BuildError> {
        let start = self.text.len();
        self.text.push_str(name);
        self.key_written(start)
    }

    /// A string value.
    pub fn string(&mut self, value: &str) -> Result<(), BuildError> {
        let start = self.text.len();
        self.text.push_str(value);
        self.string_written(start)
    }

    /// A number. NaN and infinities are taken; such a document has no canonical form.
    pub fn number(&mut self, value: f64) -> Result<(), BuildError> {
        self.value(Slot::Number(value)).map(drop)
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> Result<(), BuildError> {
        self.value(Slot::Bool(value)).map(drop)
    }

    /// A null.
    pub fn null(&mut self) -> Result<(), BuildError> {
        self.value(Slot::Null).map(drop)
    }

    /// Takes back the last complete value of the open container. In an object its name is kept for the next
    /// value: this is how a later setting of a protobuf `oneof` replaces an earlier one.
    pub fn discard_last(&mut self) -> Result<(), BuildError> {
        let Some(frame) = self.frames.last() else { return Err(BuildError::Order("nothing to discard")) };
        if self.pending.len() <= frame.children as usize || self.key.is_some() {
            return Err(BuildError::Order("nothing to discard"));
        }
        let object = frame.object;
        if let Some(last) = self.pending.pop()
            && object
        {
            self.key = Some(self.entries[last as usize].key);
        }
        Ok(())
    }

    /// The finished document: exactly one value, nothing open.
    pub fn finish(self) -> Result<Doc, BuildError> {
        match (self.frames.is_empty(), self.pending.as_slice()) {
            (true, &[root]) => Ok(Doc { entries: self.entries, kids: self.kids, text: self.text, root }),
            _ => Err(BuildError::Order("not exactly one complete value")),
        }
    }

    /// The text buffer, for writing a key or string in pieces; then call one of the `_written` functions.
    pub(super) fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    /// Everything in the text buffer from `start` on is the next member name.
    pub(super) fn key_written(&mut self, start: usize) -> Result<(), BuildError> {
        if !self.in_object() || self.key.is_some() {
            return Err(BuildError::Order("a name outside of an object"));
        }
        self.key = Some(self.span_from(start)?);
        Ok(())
    }

    /// Everything in the text buffer from `start` on is a string value.
    pub(super) fn string_written(&mut self, start: usize) -> Result<(), BuildError> {
        let span = self.span_from(start)?;
        self.value(Slot::String(span)).map(drop)
    }

    fn span_from(&self, start: usize) -> Result<Span, BuildError> {
        position(self.text.len())?;
        Ok(Span { start: position(start)?, len: position(self.text.len() - start)? })
    }

    fn value(&mut self, slot: Slot) -> Result<u32, BuildError> {
        let key = match (self.in_object(), self.key.take()) {
            (true, Some(key)) => key,
            (true, None) => return Err(BuildError::Order("a member without a name")),
            (false, _) => Span::default(),
        };
        if self.frames.is_empty() && !self.entries.is_empty() {
            return Err(BuildError::Order("a second outermost value"));
        }
        let index = position(self.entries.len())?;
        self.entries.push(Entry { key, slot });
        self.pending.push(index);
        Ok(index)
    }

    fn begin(&mut self, object: bool) -> Result<(), BuildError> {
        if self.frames.len() >= JSON_DEPTH_MAX {
            return Err(BuildError::Depth);
        }
        // The range is filled in at the end.
        let slot = if object { Slot::Object(Span::default()) } else { Slot::Array(Span::default()) };
        let entry = self.value(slot)?;
        let children = position(self.pending.len())?;
        self.frames.push(Frame { entry, object, children });
        Ok(())
    }

    fn end(&mut self, object: bool) -> Result<(), BuildError> {
        let frame = match self.frames.pop() {
            Some(frame) if frame.object == object && self.key.is_none() => frame,
            _ => return Err(BuildError::Order("an end that does not fit")),
        };
        let first = frame.children as usize;
        let start = position(self.kids.len())?;
        if object {
            self.sort_members(first);
            self.take_members(first)?;
        } else {
            self.kids.extend_from_slice(&self.pending[first..]);
        }
        self.pending.truncate(first);
        let span = Span { start, len: position(self.kids.len())? - start };
        self.entries[frame.entry as usize].slot = if object { Slot::Object(span) } else { Slot::Array(span) };
        Ok(())
    }

    /// Sorts by key bytes, keeping the order of equal keys. Canonical input is sorted already.
    fn sort_members(&mut self, first: usize) {
        let (entries, text) = (&self.entries, &self.text);
        let name = |index: u32| &text[entries[index as usize].key.range()];
        let members = &mut self.pending[first..];
        if !members.is_sorted_by(|&a, &b| name(a) <= name(b)) {
            members.sort_by(|&a, &b| name(a).cmp(name(b)));
        }
    }

    /// Moves sorted members to their final place; of equal names the last stays, or the document is refused.
    fn take_members(&mut self, first: usize) -> Result<(), BuildError> {
        let (entries, text) = (&self.entries, &self.text);
        let name = |index: u32| &text[entries[index as usize].key.range()];
        let members = &self.pending[first..];
        for (at, &member) in members.iter().enumerate() {
            if let Some(&next) = members.get(at + 1)
                && name(member) == name(next)
            {
                if self.duplicates == Duplicates::Refuse {
                    return Err(BuildError::Duplicate(name(member).to_owned()));
                }
                continue;
            }
            self.kids.push(member);
        }
        Ok(())
    }
}
