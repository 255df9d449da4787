//! Records on their way to the wire and back.

use bytes::Bytes;
use dir_core::json::Doc;
use dir_core::{Cid, Record};

/// Why a text is not a document that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(String);

/// A record ready to be pushed: its CID, its canonical bytes and its wire message.
#[derive(Debug, Clone)]
pub struct Document {
    record: Record,
    message: Bytes,
}

impl Document {
    /// A document from JSON text in any spelling. The error says what is wrong, with line and column where known.
    pub fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        // Some editors put a byte order mark before the text (RFC 8259, section 8.1, lets readers ignore it).
        let json = json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json);
        let doc = Doc::parse(json).map_err(|e| DocumentError(e.to_string()))?;
        let canonical = doc.canonical().map_err(|e| DocumentError(e.to_string()))?;
        let message = dir_proto::wire::encode_record(&doc).map_err(|e| DocumentError(e.to_string()))?;
        Ok(Self { record: Record::from_canonical(canonical), message })
    }

    /// The CID that a server stores it under.
    pub fn cid(&self) -> Cid {
        self.record.cid()
    }

    /// The canonical bytes.
    pub fn canonical(&self) -> &Bytes {
        self.record.bytes()
    }

    pub(crate) fn into_message(self) -> Bytes {
        self.message
    }
}

/// The canonical bytes of an encoded `agntcy.dir.core.v1.Record`.
pub(crate) fn canonical_of(message: &[u8]) -> Result<Bytes, String> {
    let doc = dir_proto::wire::decode_record(message).map_err(|e| e.to_string())?;
    doc.ok_or("it holds no record")?.canonical().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_document() {
        let plain = Document::from_json(b"{\"a\":1}").unwrap();
        let marked = Document::from_json("\u{feff}{\"a\":1}".as_bytes()).unwrap();
        assert_eq!(marked.cid(), plain.cid());
        assert!(Document::from_json("\u{feff}\u{feff}{}".as_bytes()).is_err(), "one is enough");
    }
}
