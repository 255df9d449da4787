//! Single cases: limits, malformed bytes, repeated fields.

use super::{bytes_field, canonical, doc, encoded, record_of};
use dir_core::{Class, Classified};
use dir_proto::wire::{
    STRUCT_DEPTH_MAX, WIRE_DEPTH_MAX, WireError, decode_record, doc_from_struct, encode_record,
    encode_record_from_canonical, struct_from_doc,
};
use prost_types::{Struct, Value};

fn decoded(bytes: &[u8]) -> String {
    canonical(&decode_record(bytes).unwrap().unwrap())
}

fn refused(bytes: &[u8]) -> WireError {
    decode_record(bytes).unwrap_err()
}

#[test]
fn a_small_record_is_these_bytes() {
    let bytes = encoded(r#"{"b":[null,true],"a":"x","n":-0}"#);
    let expected: &[&[u8]] = &[
        &[0x0A, 43], // Record.data, and its three entries:
        &[0x0A, 8, 0x0A, 1, b'a', 0x12, 3, 0x1A, 1, b'x'],
        &[0x0A, 15, 0x0A, 1, b'b', 0x12, 10, 0x32, 8, 0x0A, 2, 0x08, 0, 0x0A, 2, 0x20, 1],
        &[0x0A, 14, 0x0A, 1, b'n', 0x12, 9, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x80],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(decoded(&bytes), r#"{"a":"x","b":[null,true],"n":-0}"#);
}

#[test]
fn unset_data_is_no_document() {
    assert_eq!(decode_record(b""), Ok(None));
    assert_eq!(decode_record(&[0x10, 1]), Ok(None));
    assert_eq!(decoded(&[0x0A, 0]), "{}");
    assert_eq!(encoded("{}"), &[0x0A, 0][..]);
}

#[test]
fn nesting_has_its_limit_on_the_wire() {
    let objects = |count: usize| format!("{}{{}}{}", "{\"a\":".repeat(count), "}".repeat(count));
    // Record and its struct, then entry, value and struct for each further object.
    let fits = (WIRE_DEPTH_MAX - 2) / 3;
    assert!(fits >= 3_000);
    let text = objects(fits);
    assert_eq!(decoded(&encoded(&text)), text);
    let error = refused(&encoded(&objects(fits + 1)));
    assert_eq!((error.class(), error.clone()), (Class::Invalid, WireError::Depth));
    assert!(error.to_string().contains("exceeded maximum recursion depth"));

    // Record, struct and entry, then value and list for each array.
    let arrays = |count: usize| format!("{{\"a\":{}{}}}", "[".repeat(count), "]".repeat(count));
    let fits = (WIRE_DEPTH_MAX - 3) / 2;
    assert_eq!(decoded(&encoded(&arrays(fits))), arrays(fits));
    assert_eq!(refused(&encoded(&arrays(fits + 1))), WireError::Depth);
}

#[test]
fn what_is_cut_off_is_malformed() {
    let bytes = encoded(r#"{"a":{"b":[1,"two",{"c":null}]},"d":true}"#);
    for end in 1..bytes.len() {
        let error = refused(&bytes[..end]);
        assert!(matches!(error, WireError::Malformed(_)), "{end}: {error}");
        assert_eq!(error.class(), Class::Internal);
    }
    // A length beyond the end inside of a message whose own length is right.
    assert!(matches!(refused(&[0x0A, 2, 0x0A, 9]), WireError::Malformed(_)));
    // Field number 0, wire types 6 and 7, an end of group without a start, a varint of 11 bytes.
    for bytes in [&[0x02, 0][..], &[0x0E], &[0x0F], &[0x0C], &[0xFF; 11]] {
        assert!(matches!(refused(bytes), WireError::Malformed(_)));
    }
}

#[test]
fn values_without_a_canonical_form_are_told_apart() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value = [&[0x11][..], &number.to_le_bytes()].concat();
        assert_eq!(refused(&record_of(&value)), WireError::NotFinite);
        let data = Struct { fields: [("k".to_owned(), Value::from(number))].into_iter().collect() };
        assert_eq!(doc_from_struct(&data), Err(WireError::NotFinite));
    }
    assert_eq!(refused(&record_of(b"")), WireError::NoKind);
    assert_eq!(refused(&record_of(&bytes_field(6, &bytes_field(1, b"")))), WireError::NoKind);
    assert_eq!(refused(&bytes_field(1, &bytes_field(1, &bytes_field(1, b"k")))), WireError::NoKind);
    let data = Struct { fields: [("k".to_owned(), Value { kind: None })].into_iter().collect() };
    assert_eq!(doc_from_struct(&data), Err(WireError::NoKind));

    let error = refused(&record_of(&bytes_field(3, b"\xff")));
    assert_eq!(error.to_string(), "string field contains invalid UTF-8");
    let key = [bytes_field(1, b"\xff"), bytes_field(2, &[8, 0])].concat();
    assert_eq!(refused(&bytes_field(1, &bytes_field(1, &key))), WireError::Utf8);
}

#[test]
fn repeated_fields_merge_or_replace() {
    let text = |value: &[u8]| bytes_field(3, value);
    let member =
        |key: &[u8], value: &[u8]| bytes_field(1, &[bytes_field(1, key), bytes_field(2, value)].concat());
    let object = |members: &[u8]| bytes_field(5, members);
    let one = object(&member(b"a", &text(b"1")));
    let two = object(&[member(b"a", &text(b"2")), member(b"b", &[8, 0])].concat());
    let cases = [
        // The same message field again merges into it, a repeated key keeps the last value.
        ([one.clone(), two.clone()].concat(), r#"{"k":{"a":"2","b":null}}"#),
        // Another member of the oneof replaces.
        ([one.clone(), text(b"s")].concat(), r#"{"k":"s"}"#),
        ([text(b"s"), one.clone()].concat(), r#"{"k":{"a":"1"}}"#),
        ([two.clone(), text(b"s"), one.clone()].concat(), r#"{"k":{"a":"1"}}"#),
        ([vec![0x20, 1], vec![0x20, 0]].concat(), r#"{"k":false}"#),
        ([bytes_field(6, &bytes_field(1, &[8, 0])), two, bytes_field(6, b"")].concat(), r#"{"k":[]}"#),
    ];
    for (value, expected) in cases {
        assert_eq!(decoded(&record_of(&value)), expected);
    }
    // `data` twice, and both parts of an entry twice.
    let data = [bytes_field(1, &member(b"a", &[8, 0])), bytes_field(1, &member(b"b", &[8, 0]))].concat();
    assert_eq!(decoded(&data), r#"{"a":null,"b":null}"#);
    let entry = [
        bytes_field(2, &one),
        bytes_field(1, b"x"),
        bytes_field(2, &object(&member(b"c", &[8, 0]))),
        bytes_field(1, b"y"),
    ];
    assert_eq!(decoded(&bytes_field(1, &bytes_field(1, &entry.concat()))), r#"{"y":{"a":"1","c":null}}"#);
    // An entry without a key has the empty one.
    assert_eq!(decoded(&bytes_field(1, &bytes_field(1, &bytes_field(2, &[8, 0])))), r#"{"":null}"#);
}

#[test]
fn unknown_fields_are_stepped_over() {
    let unknown: Vec<u8> = [
        vec![0x78, 1],                                     // 15: varint
        vec![0x79, 0, 0, 0, 0, 0, 0, 0, 0],                // 15: fixed64
        vec![0x7D, 0, 0, 0, 0],                            // 15: fixed32
        bytes_field(15, b"\xff"),                          // 15: bytes
        vec![0x7B, 0x73, 0x08, 1, 0x12, 1, 0, 0x74, 0x7C], // 15: group with a group inside
        vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0],                // 1 with a foreign wire type
    ]
    .concat();
    let value = [unknown.clone(), bytes_field(3, b"s"), unknown.clone()].concat();
    let bytes = [unknown.clone(), record_of(&value), unknown].concat();
    assert_eq!(decoded(&bytes), r#"{"k":"s"}"#);
    // A group that ends as another one, and groups nested without end.
    assert!(matches!(refused(&[0x7B, 0x74]), WireError::Malformed(_)));
    let nested = |depth: usize| [vec![0x7B; depth], vec![0x7C; depth]].concat();
    assert_eq!(decode_record(&nested(WIRE_DEPTH_MAX)), Ok(None));
    assert_eq!(refused(&nested(WIRE_DEPTH_MAX + 1)), WireError::Depth);
}

#[test]
fn only_objects_are_records() {
    assert_eq!(encode_record(&doc("[]")), Err(WireError::NotAnObject));
    assert_eq!(struct_from_doc(&doc("1")), Err(WireError::NotAnObject));
    assert!(matches!(encode_record_from_canonical(b"{"), Err(WireError::Json(_))));
}

#[test]
fn generated_types_take_a_bounded_depth() {
    let arrays = |levels: usize| doc(&format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels)));
    let fits = arrays(STRUCT_DEPTH_MAX - 1);
    assert_eq!(doc_from_struct(&struct_from_doc(&fits).unwrap()), Ok(fits));
    assert_eq!(struct_from_doc(&arrays(STRUCT_DEPTH_MAX)), Err(WireError::StructDepth));
}

#[test]
fn the_longest_lengths_grow_the_buffer() {
    let text = format!("{{\"a\":[{}\"{}\"]}}", "{\"b\":true},".repeat(5_000), "x".repeat(70_000));
    assert_eq!(decoded(&encoded(&text)), text);
}
