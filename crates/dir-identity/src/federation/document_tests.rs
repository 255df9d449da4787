use super::*;
use crate::devapi::{Authority, ChainForm};
use dir_core::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    "a.example".parse().unwrap()
}

fn root(name: &str, form: ChainForm) -> Vec<u8> {
    let ca = Authority::new(&name.parse().unwrap(), Timestamp::from_secs(1_000_000), HOUR, form).unwrap();
    ca.root().to_vec()
}

fn key(der: &[u8]) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(der)]})
}

fn parse(value: &Value) -> Result<BundleDocument, DocumentError> {
    BundleDocument::parse(value.to_string().as_bytes())
}

#[test]
fn a_whole_document() {
    let (one, two) = (root("a.example", ChainForm::SelfSigned), root("a.example", ChainForm::Upstream));
    let document = parse(&json!({
        "keys": [
            key(&one),
            key(&two),
            {"kty": "EC", "use": "jwt-svid", "kid": "k1", "crv": "P-256", "x": "", "y": ""},
            {"kty": "EC", "use": "enc", "x5c": []},
            {"kty": "oct", "use": "x509-svid"},
            {"kty": "EC"},
        ],
        "spiffe_sequence": u64::MAX,
        "spiffe_refresh_hint": 75,
        "something_new": {"a": [1, 2.5, null, true]},
    }))
    .unwrap();
    assert_eq!(document.x509_roots, [one, two]);
    assert_eq!(document.jwt_keys.keys().collect::<Vec<_>>(), ["k1"]);
    assert_eq!((document.sequence, document.skipped), (Some(u64::MAX), 3));
    assert_eq!(document.refresh_hint, Some(Duration::from_secs(75)));
    assert_eq!(document.fingerprints().len(), 3);
    let bundle = document.bundle(&domain(), "federation").unwrap();
    assert_eq!((bundle.len(), bundle.source()), (2, "federation"));
}

#[test]
fn what_may_be_absent_and_what_empty_means() {
    let empty = parse(&json!({"keys": []})).unwrap();
    assert_eq!(empty, BundleDocument::default());
    assert!(empty.bundle(&domain(), "federation").unwrap().is_empty(), "nothing is trusted");
    let wild = parse(&json!({"keys": [], "spiffe_sequence_number": 9})).unwrap();
    assert_eq!(wild.sequence, Some(9));
    assert!(parse(&json!({"keys": [], "spiffe_sequence": 9, "spiffe_sequence_number": 9})).is_ok());
}

#[test]
fn refused_documents() {
    let good = root("a.example", ChainForm::SelfSigned);
    let b64 = BASE64.encode(&good);
    let x509 = |x5c: Value| json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": x5c}]});
    let jwt = json!({"kty": "EC", "use": "jwt-svid", "kid": "k"});
    let mut behind = good.clone();
    behind.push(0);
    let ca = Authority::new(&domain(), Timestamp::from_secs(1_000_000), HOUR, ChainForm::SelfSigned).unwrap();
    let id = "spiffe://a.example/w".parse().unwrap();
    let (leaf, _) = ca.issue(&id, &[], Timestamp::from_secs(1_000_000), HOUR).unwrap();
    for (document, wanted) in [
        (json!([]), "is no object"),
        (json!({}), "\"keys\" is missing"),
        (json!({"keys": null}), "\"keys\" is no list"),
        (json!({"keys": {}}), "\"keys\" is no list"),
        (json!({"keys": [1]}), "key 0 of the bundle document: it is no object"),
        (json!({"keys": [], "spiffe_sequence": -1}), "spiffe_sequence"),
        (json!({"keys": [], "spiffe_sequence": 1.5}), "spiffe_sequence"),
        (json!({"keys": [], "spiffe_sequence": "1"}), "spiffe_sequence"),
        (json!({"keys": [], "spiffe_sequence": 1, "spiffe_sequence_number": 2}), "contradict"),
        (json!({"keys": [], "spiffe_refresh_hint": -5}), "spiffe_refresh_hint"),
        (json!({"keys": [{"kty": "EC", "use": "x509-svid"}]}), "needs x5c"),
        (x509(json!([])), "exactly one certificate, not 0"),
        (x509(json!([b64.as_str(), b64.as_str()])), "exactly one certificate, not 2"),
        (x509(json!([7])), "else than text"),
        (x509(json!(["*"])), "no base64"),
        (x509(json!([BASE64.encode(b"junk")])), "no certificate"),
        (x509(json!([BASE64.encode(&behind)])), "behind the certificate"),
        (x509(json!([BASE64.encode(&leaf[0])])), "not that of a CA"),
        (json!({"keys": [{"kty": "EC", "use": "jwt-svid"}]}), "needs a kid"),
        (json!({"keys": [{"kty": "EC", "use": "jwt-svid", "kid": ""}]}), "needs a kid"),
        (json!({"keys": [jwt, jwt]}), "there twice"),
    ] {
        let error = parse(&document).unwrap_err().to_string();
        assert!(error.contains(wanted), "{document}: {error}");
    }
    for text in ["{\"keys\":[],\"keys\":[]}", "{\"keys\":[{\"kty\":\"EC\",\"a\":{\"b\":1,\"b\":1}}]}"] {
        assert!(BundleDocument::parse(text.as_bytes()).unwrap_err().to_string().contains("twice"), "{text}");
    }
    for text in ["", "{", "{\"keys\":[]} x", "<html>"] {
        assert!(matches!(BundleDocument::parse(text.as_bytes()), Err(DocumentError::Json(_))), "{text}");
    }
    let deep = format!("{{\"keys\":[],\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(BundleDocument::parse(deep.as_bytes()).is_err(), "nesting is bounded");
}

#[test]
fn the_length_limit_at_its_edge() {
    let mut text = b"{\"keys\":[]}".to_vec();
    text.resize(DOCUMENT_MAX, b' ');
    assert!(BundleDocument::parse(&text).is_ok());
    text.push(b' ');
    assert_eq!(BundleDocument::parse(&text), Err(DocumentError::TooLong));
}

#[test]
fn the_bundle_of_another_domain_is_refused() {
    let of = |name: &str| parse(&json!({"keys": [key(&root(name, ChainForm::SelfSigned))]})).unwrap();
    let refused = of("b.example").bundle(&domain(), "federation").err().unwrap();
    assert!(matches!(&refused, DocumentError::OtherDomain { found, .. } if found == "spiffe://b.example"));
    assert!(of("a.example").bundle(&domain(), "federation").is_ok());
    // An upstream root names nobody.
    let upstream = parse(&json!({"keys": [key(&root("b.example", ChainForm::Upstream))]})).unwrap();
    assert!(upstream.bundle(&domain(), "federation").is_ok());
}

#[test]
fn what_is_written_is_read_back() {
    let roots = [root("a.example", ChainForm::SelfSigned), root("a.example", ChainForm::Upstream)];
    let bundle = TrustBundle::from_der(&domain(), &roots.concat(), "workload_api").unwrap();
    let (text, left_out) = write(&bundle, std::iter::empty(), 7, Duration::from_secs(60));
    assert_eq!(left_out, 0);
    let document = BundleDocument::parse(text.as_bytes()).unwrap();
    assert_eq!((document.sequence, document.refresh_hint), (Some(7), Some(Duration::from_secs(60))));
    assert_eq!(document.x509_roots, roots);
    assert_eq!(document.bundle(&domain(), "federation").unwrap().digest(), bundle.digest());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["keys"][0]["kty"], &value["keys"][0]["crv"]), (&json!("EC"), &json!("P-256")));
    assert_eq!(value["keys"][0]["x"].as_str().unwrap().len(), 43);
}

#[test]
fn numbers_without_leading_zeros() {
    assert_eq!(unsigned(&[0, 0, 1, 0]), [1, 0]);
    assert_eq!(unsigned(&[0]), [0]);
    assert_eq!(unsigned(&[]), [] as [u8; 0]);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = BundleDocument::parse(&bytes);
    }

    #[test]
    fn a_damaged_certificate_never_makes_the_reader_fail(at in 0_usize..400, bits in 1_u8..) {
        let mut der = root("a.example", ChainForm::SelfSigned);
        let at = at % der.len();
        der[at] ^= bits;
        if let Ok(document) = parse(&json!({"keys": [key(&der)]})) {
            let _ = document.bundle(&domain(), "federation");
        }
    }
}
