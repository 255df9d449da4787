//! Records on the wire: against generated types, at the limits, and on malformed bytes.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod cases;
mod properties;

use bytes::Bytes;
use dir_core::json::Doc;

/// Canonical bytes as text.
fn canonical(doc: &Doc) -> String {
    String::from_utf8(doc.canonical().unwrap().to_vec()).unwrap()
}

/// One field: tag and payload with its length.
fn bytes_field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut rest = payload.len();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend_from_slice(payload);
    out
}

/// `Record{data: {"k": <value>}}`, the value given as message bytes.
fn record_of(value: &[u8]) -> Vec<u8> {
    let entry = [bytes_field(1, b"k"), bytes_field(2, value)].concat();
    bytes_field(1, &bytes_field(1, &entry))
}

fn doc(text: &str) -> Doc {
    Doc::parse(text.as_bytes()).unwrap()
}

fn encoded(text: &str) -> Bytes {
    dir_proto::wire::encode_record(&doc(text)).unwrap()
}
