//! Records on the wire without generated types: `agntcy.dir.core.v1.Record` message bytes to a [`Doc`] and back.
//!
//! Generated code decodes and drops a `google.protobuf.Struct` recursively, which bounds nesting by the stack and
//! costs an allocation per value. These functions walk the bytes with an explicit stack instead.

mod decode;
mod encode;
mod scan;
mod structs;

pub use decode::decode_record;
pub use encode::{encode_record, encode_record_from_canonical};
pub use structs::{doc_from_struct, struct_from_doc};

use dir_core::json::{BuildError, JsonError};
use dir_core::{Class, Classified};

#[cfg(doc)]
use dir_core::json::Doc;

/// Deepest nesting of messages that is decoded, the `Record` itself counting as one. An object below a member is
/// three messages (entry, value, struct), so this admits 3,332 nested objects.
pub const WIRE_DEPTH_MAX: usize = 10_000;

/// Deepest nesting of objects and arrays that [`struct_from_doc`] turns into generated types, which are encoded
/// and dropped recursively.
pub const STRUCT_DEPTH_MAX: usize = 128;

/// Why message bytes are no document, or a document no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Truncated, an impossible tag, or a length beyond the end.
    #[error("cannot parse invalid wire-format data at byte {0}")]
    Malformed(usize),
    /// A string or member name that is not UTF-8.
    #[error("string field contains invalid UTF-8")]
    Utf8,
    /// Deeper than [`WIRE_DEPTH_MAX`].
    #[error("exceeded maximum recursion depth of {WIRE_DEPTH_MAX} messages")]
    Depth,
    /// A document deeper than [`STRUCT_DEPTH_MAX`].
    #[error("nested deeper than {STRUCT_DEPTH_MAX} objects and arrays")]
    StructDepth,
    /// A number that JSON cannot spell.
    #[error("a number is NaN or infinite")]
    NotFinite,
    /// A `google.protobuf.Value` in which nothing is set.
    #[error("a google.protobuf.Value has no kind set")]
    NoKind,
    /// A document whose outermost value is no object.
    #[error("a record must be a JSON object")]
    NotAnObject,
    /// Beyond the limits of a document.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Stored bytes that are not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl Classified for WireError {
    fn class(&self) -> Class {
        match self {
            WireError::Malformed(_) => Class::Internal,
            WireError::Build(error) => error.class(),
            WireError::Json(error) => error.class(),
            _ => Class::Invalid,
        }
    }
}
