//! Properties over random documents and random message bytes.

use super::{bytes_field, canonical};
use dir_core::json::{Doc, DocBuilder, Duplicates};
use dir_proto::agntcy::dir::core::v1::Record;
use dir_proto::wire::{
    decode_record, doc_from_struct, encode_record, encode_record_from_canonical, struct_from_doc,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    fn emit(&self, out: &mut DocBuilder) {
        match self {
            Json::Null => out.null().unwrap(),
            Json::Bool(value) => out.bool(*value).unwrap(),
            Json::Number(value) => out.number(*value).unwrap(),
            Json::String(value) => out.string(value).unwrap(),
            Json::Array(items) => {
                out.array_begin().unwrap();
                for item in items {
                    item.emit(out);
                }
                out.array_end().unwrap();
            }
            Json::Object(members) => {
                out.object_begin().unwrap();
                for (key, value) in members {
                    out.key(key).unwrap();
                    value.emit(out);
                }
                out.object_end().unwrap();
            }
        }
    }
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Json::Number),
        ".{0,200}".prop_map(Json::String),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Json::Array),
            btree_map(".{0,12}", inner, 0..6).prop_map(Json::Object),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Doc> {
    btree_map(".{0,12}", any_value(), 0..6).prop_map(|members| {
        let mut out = DocBuilder::new(Duplicates::Refuse);
        Json::Object(members).emit(&mut out);
        out.finish().unwrap()
    })
}

/// Bytes of a value message with fields set several times over.
fn odd_value() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        Just(vec![0x08, 0x00]),
        any::<bool>().prop_map(|value| vec![0x20, u8::from(value)]),
        (-1e9..1e9_f64).prop_map(|value| [&[0x11][..], &value.to_le_bytes()].concat()),
        "[ab]{0,3}".prop_map(|text| bytes_field(3, text.as_bytes())),
    ];
    scalar.prop_recursive(4, 40, 4, |inner| {
        let kind = prop_oneof![
            inner.clone(),
            odd_entries(inner.clone()).prop_map(|entries| bytes_field(5, &entries)),
            vec(inner, 0..4).prop_map(|items| {
                let items: Vec<_> = items.iter().map(|item| bytes_field(1, item)).collect();
                bytes_field(6, &items.concat())
            }),
        ];
        vec(kind, 1..4).prop_map(|fields| fields.concat())
    })
}

/// Fields of a struct: entries whose keys repeat and whose parts come several times, in any order.
fn odd_entries(value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let entry =
        (vec("[ab]{0,1}", 0..3), vec(value, 1..3), any::<bool>()).prop_map(|(keys, values, first)| {
            let keys: Vec<u8> = keys.iter().flat_map(|key| bytes_field(1, key.as_bytes())).collect();
            let values: Vec<u8> = values.iter().flat_map(|value| bytes_field(2, value)).collect();
            bytes_field(1, &if first { [keys, values].concat() } else { [values, keys].concat() })
        });
    vec(entry, 0..4).prop_map(|entries| entries.concat())
}

proptest! {
    #[test]
    fn a_document_survives_the_wire(record in any_record()) {
        let bytes = encode_record(&record).unwrap();
        let back = decode_record(&bytes).unwrap().unwrap();
        prop_assert_eq!(canonical(&back), canonical(&record));
        prop_assert_eq!(&encode_record(&back).unwrap(), &bytes);
        prop_assert_eq!(&encode_record_from_canonical(&record.canonical().unwrap()).unwrap(), &bytes);
    }

    #[test]
    fn generated_types_say_the_same(record in any_record()) {
        let generated = Record { data: Some(struct_from_doc(&record).unwrap()) };
        let back = decode_record(&generated.encode_to_vec()).unwrap().unwrap();
        prop_assert_eq!(canonical(&back), canonical(&record));
        let decoded = Record::decode(encode_record(&record).unwrap()).unwrap();
        prop_assert_eq!(decoded, generated);
    }

    #[test]
    fn repeated_fields_mean_what_generated_types_say(data in vec(odd_entries(odd_value()), 1..3)) {
        let bytes: Vec<u8> = data.iter().flat_map(|entries| bytes_field(1, entries)).collect();
        let generated = Record::decode(&bytes[..]).unwrap().data.unwrap();
        let ours = decode_record(&bytes).unwrap().unwrap();
        prop_assert_eq!(canonical(&ours), canonical(&doc_from_struct(&generated).unwrap()));
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(Some(doc)) = decode_record(&bytes) {
            prop_assert!(doc.canonical().is_ok());
        }
    }

    #[test]
    fn damaged_bytes_are_answered(record in any_record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode_record(&record).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Some(doc)) = decode_record(&bytes) {
            prop_assert!(doc.canonical().is_ok());
        }
    }
}
