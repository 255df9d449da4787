//! The published test vectors, byte for byte.

use dir_core::json::{Doc, JsonFault, Node};
use dir_core::oci::{self, Subject};
use dir_core::store::Referrer;
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use std::collections::BTreeMap;

const VECTORS: &[u8] = include_bytes!("../data/vectors.json");

fn text<'a>(node: Node<'a>, key: &str) -> &'a str {
    node.get(key).and_then(Node::as_str).unwrap_or_else(|| panic!("vector without {key}"))
}

fn list<'a>(doc: &'a Doc, key: &str, at_least: usize) -> Vec<Node<'a>> {
    let all: Vec<_> = doc.get(key).unwrap().items().collect();
    assert!(all.len() >= at_least, "{key} has only {}", all.len());
    all
}

fn length(node: Node<'_>, key: &str) -> usize {
    node.get(key).and_then(Node::as_f64).unwrap().to_string().parse().unwrap()
}

fn hex(cid: Cid) -> String {
    cid.oci_digest().trim_start_matches("sha256:").to_owned()
}

#[test]
fn records() {
    let vectors = Doc::parse(VECTORS).unwrap();
    for vector in list(&vectors, "records", 6) {
        let doc = Doc::parse(text(vector, "input_json").as_bytes()).unwrap();
        let record = Record::from_doc(&doc).unwrap();
        assert_eq!(record.bytes(), text(vector, "canonical").as_bytes(), "{}", text(vector, "id"));
        assert_eq!(record.bytes().len(), length(vector, "length"));
        assert_eq!(hex(record.cid()), text(vector, "sha256"));
        assert_eq!(record.cid().to_string(), text(vector, "cid"));
        assert_eq!(record.cid().oci_digest(), text(vector, "oci_digest"));
        let again = Doc::parse(record.bytes()).unwrap();
        assert_eq!(again.canonical().unwrap(), *record.bytes());
    }
}

#[test]
fn numbers() {
    let vectors = Doc::parse(VECTORS).unwrap();
    for vector in list(&vectors, "numbers", 18) {
        let doc = Doc::parse(text(vector, "input").as_bytes()).unwrap();
        assert_eq!(doc.canonical().unwrap(), text(vector, "canonical").as_bytes());
    }
}

/// Two shortest spellings are equally near: the even one, as in ECMAScript (Number::toString, note 2) and Go.
#[test]
fn ties_between_spellings_go_to_the_even_digit() {
    for (input, canonical) in [
        ("2145860429408605.25", "2145860429408605.2"),
        ("2145860429408605.75", "2145860429408605.8"),
        ("-1125899906842624.25", "-1125899906842624.2"),
        ("1125899906842624.125", "1125899906842624"),
        ("5e-324", "5e-324"),
        ("2.2250738585072014e-308", "2.2250738585072014e-308"),
        ("0.000001234567890123456", "0.000001234567890123456"),
        ("123456789012345680000.0", "123456789012345680000"),
    ] {
        let doc = Doc::parse(input.as_bytes()).unwrap();
        assert_eq!(doc.canonical().unwrap(), canonical.as_bytes(), "{input}");
    }
}

#[test]
fn no_canonical_form() {
    let vectors = Doc::parse(VECTORS).unwrap();
    let mut seen = 0;
    for vector in list(&vectors, "no_canonical_form", 7) {
        let Some(input) = vector.get("input_json").and_then(Node::as_str) else { continue };
        let fault = Doc::parse(input.as_bytes()).unwrap_err().fault;
        match text(vector, "id") {
            "duplicate-member" => assert!(fault.to_string().contains("duplicate member name \"a\"")),
            "number-out-of-range" => assert_eq!(fault, JsonFault::Range),
            "lone-surrogate" => assert_eq!(fault, JsonFault::Surrogate),
            other => panic!("unknown vector {other}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// Blob of a PushReferrerRequest given in protobuf-JSON.
fn blob(request: &Doc) -> (Cid, bytes::Bytes, String, String, BTreeMap<String, String>) {
    let root = request.root();
    let record: Cid = text(root.get("recordRef").unwrap(), "cid").parse().unwrap();
    let created_at = root.get("createdAt").and_then(Node::as_str).unwrap_or_default().to_owned();
    let annotations: BTreeMap<String, String> = root.get("annotations").map_or_else(BTreeMap::new, |map| {
        map.members().map(|(key, value)| (key.to_owned(), value.as_str().unwrap().to_owned())).collect()
    });
    let data = root.get("data").map(|node| Doc::parse(&node.canonical().unwrap()).unwrap());
    let kind = text(root, "type").to_owned();
    let bytes = oci::referrer_blob(&record, &kind, &created_at, &annotations, data.as_ref()).unwrap();
    (Cid::of(&bytes), bytes, kind, created_at, annotations)
}

#[test]
fn referrers() {
    let vectors = Doc::parse(VECTORS).unwrap();
    for vector in list(&vectors, "referrers", 4) {
        let request = Doc::parse(text(vector, "input_json").as_bytes()).unwrap();
        let (cid, bytes, kind, ..) = blob(&request);
        assert_eq!(bytes, text(vector, "canonical").as_bytes(), "{}", text(vector, "id"));
        assert_eq!(bytes.len(), length(vector, "length"));
        assert_eq!(hex(cid), text(vector, "sha256"));
        assert_eq!(cid.to_string(), text(vector, "cid"));
        assert_eq!(oci::referrer_layer(&kind), text(vector, "layer_media_type"));
    }
}

#[test]
fn manifests() {
    let vectors = Doc::parse(VECTORS).unwrap();
    let all = list(&vectors, "manifests", 2);
    let created = Timestamp::parse_rfc3339(text(all[0], "created")).unwrap();
    let facts = RecordFacts {
        name: "example/agent".to_owned(),
        version: "v1.0.0".to_owned(),
        schema_version: "1.0.0".to_owned(),
        ..RecordFacts::default()
    };
    let record = list(&vectors, "records", 6)
        .into_iter()
        .find(|record| text(*record, "id") == text(all[0], "record"))
        .unwrap();
    let cid: Cid = text(record, "cid").parse().unwrap();
    let manifest = oci::record_manifest(&cid, length(record, "length") as u64, &facts, created);
    assert_eq!(manifest, text(all[0], "manifest").as_bytes());
    assert_eq!(manifest.len(), length(all[0], "length"));
    assert_eq!(hex(Cid::of(&manifest)), text(all[0], "sha256"));

    let request = Doc::parse(text(all[1], "input_json").as_bytes()).unwrap();
    let (cid, bytes, api_type, created_at, annotations) = blob(&request);
    assert_eq!(bytes, text(all[1], "canonical").as_bytes());
    assert_eq!(cid.to_string(), text(all[1], "cid"));
    let subject = Subject { digest: Cid::of(&manifest).oci_digest(), size: manifest.len() as u64 };
    let referrer = Referrer { cid, bytes, api_type, created_at, annotations };
    let manifest = oci::referrer_manifest(&referrer, &subject, created);
    assert_eq!(manifest, text(all[1], "manifest").as_bytes());
    assert_eq!(hex(Cid::of(&manifest)), text(all[1], "sha256"));
}

#[test]
fn digests_to_cids() {
    let vectors = Doc::parse(VECTORS).unwrap();
    let pairs: Vec<_> = vectors.get("digest_to_cid").unwrap().get("pairs").unwrap().items().collect();
    assert_eq!(pairs.len(), 8);
    for pair in pairs {
        let digest = format!("sha256:{}", text(pair, "sha256"));
        let cid = dir_core::digest_to_cid(&digest).unwrap();
        assert_eq!(Cid::from_oci_digest(&digest), Some(cid));
        assert_eq!(cid.to_string(), text(pair, "cid"));
        assert_eq!(text(pair, "cid").parse::<Cid>().unwrap().oci_digest(), digest);
    }
}

#[test]
fn annotations_of_a_record_and_a_referrer_keep_their_prefixes() {
    let created = Timestamp::from_secs(0);
    let cid = Cid::of(b"{}");
    let mut facts = RecordFacts {
        schema_version: "0.8.0".to_owned(),
        created_at: "yesterday".to_owned(),
        previous_cid: "p".to_owned(),
        annotations: BTreeMap::from([("a".to_owned(), "<1>".to_owned())]),
        ..RecordFacts::default()
    };
    let all = oci::record_annotations(&cid, &facts, created);
    assert_eq!(all["org.agntcy.dir/custom.a"], "<1>");
    assert_eq!(all["org.agntcy.dir/created-at"], "yesterday");
    assert_eq!(all["org.agntcy.dir/previous-cid"], "p");
    assert!(!all.contains_key("org.agntcy.dir/name"));
    facts.schema_version.clear();
    assert_eq!(oci::record_annotations(&cid, &facts, created).len(), 3);

    let referrer = Referrer {
        cid,
        bytes: bytes::Bytes::from_static(b"{}"),
        api_type: "t".to_owned(),
        created_at: "now".to_owned(),
        annotations: facts.annotations,
    };
    let all = oci::referrer_annotations(&referrer, created);
    assert_eq!(all["agntcy.dir.referrer.annotation.a"], "<1>");
    assert_eq!(all["agntcy.dir.referrer.created_at"], "now");
}
