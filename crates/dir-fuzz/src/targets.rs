//! The targets.

use data_encoding::BASE64URL_NOPAD;
use dir_core::json::Doc;
use dir_core::policy::{Effect, Matching, MethodCatalogue, UnknownMethod};
use dir_core::{Policy, Principal, Record, SpiffeId, Timestamp};
use dir_identity::federation::BundleDocument;
use dir_identity::proxy::{Network, Parsed, parse};
use dir_identity::{Leaf, judge_token};
use dir_proto::wire;
use std::io::Cursor;
use std::sync::LazyLock;
use std::time::Duration;

/// A text that is a SPIFFE ID is one in its canonical spelling too, and keeps the limits.
pub fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<Network>().map(|network| assert_eq!(network.to_string().parse(), Ok(network)));
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    let spelled = id.as_str();
    assert_eq!(spelled.parse(), Ok(id.clone()));
    assert!(spelled.len() <= 2048 && spelled.eq_ignore_ascii_case(text), "{text:?} became {spelled:?}");
    assert!(!id.trust_domain().as_str().bytes().any(|b| b.is_ascii_uppercase() || b == b'%' || b == b':'));
    assert!(!id.path().split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")), "{spelled}");
    assert_eq!(id.is_root(), id.path().is_empty());
}

/// Whatever a client presents: a leaf that passes has a SPIFFE ID of a workload.
pub fn certificate_leaf(der: &[u8]) {
    match Leaf::of_client(der) {
        Ok(leaf) => assert!(!leaf.id.is_root() && leaf.id.as_str().parse() == Ok(leaf.id.clone())),
        Err(refusal) => {
            // What is logged of a stranger's certificate is bounded, and one line.
            let shown = refusal.presented.map(|p| (p.subject, p.issuer)).unwrap_or_default();
            for text in [shown.0, shown.1] {
                assert!(text.chars().count() <= 256 && !text.contains(char::is_control), "{text:?}");
            }
        }
    }
}

/// The first bytes of a connection: a PROXY header however it is cut, and a ClientHello behind it.
pub fn first_bytes(bytes: &[u8]) {
    let whole = parse(bytes);
    let mut verdict = Ok(Parsed::Incomplete);
    for end in 0..=bytes.len().min(300) {
        let now = parse(&bytes[..end]);
        if verdict == Ok(Parsed::Incomplete) {
            verdict = now;
        } else {
            assert_eq!(now, verdict, "more bytes changed the verdict at {end}");
        }
    }
    assert!(bytes.len() > 300 || verdict == whole);
    assert!(bytes.len() < 107 || whole != Ok(Parsed::Incomplete), "107 bytes are enough to say");
    let behind = match whole {
        Ok(Parsed::Header { len, source }) => {
            assert!(len >= 15 && source.is_none_or(|s| s.ip() == s.ip().to_canonical()));
            bytes.get(len..).unwrap_or_default()
        }
        _ => bytes,
    };
    let mut acceptor = rustls::server::Acceptor::default();
    if acceptor.read_tls(&mut Cursor::new(behind)).is_ok()
        && let Ok(Some(accepted)) = acceptor.accept()
    {
        let _ = accepted.client_hello().server_name();
    }
}

/// A bundle of a partner: roots are taken as they stand, for the domain they name.
pub fn bundle_jwks(bytes: &[u8]) {
    let Ok(document) = BundleDocument::parse(bytes) else { return };
    let domain = "partner.example".parse().expect("a trust domain");
    if let Ok(bundle) = document.bundle(&domain, "fuzz") {
        assert_eq!(bundle.trust_domain(), &domain);
    }
    assert!(document.fingerprints().len() <= document.x509_roots.len() + document.jwt_keys.len());
}

static CATALOGUE: LazyLock<MethodCatalogue> = LazyLock::new(|| {
    let store = ["Push", "PushReferrer", "Pull", "PullReferrer", "Lookup", "Delete", "DeleteReferrer"];
    MethodCatalogue::new(store.map(|method| format!("/agntcy.dir.store.v1.StoreService/{method}")))
});

/// A policy that loads decides every call, strict never allows what compat does not, and nobody else's domain is
/// let in by a rule that is anchored to one.
pub fn policy_csv(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |matching| Policy::parse_csv(text, matching, &CATALOGUE, UnknownMethod::Warn);
    let (strict, compat) = (load(Matching::Strict), load(Matching::Compat));
    let callers = ["spiffe://example.org/a", "spiffe://example.org.other.tld/a", "spiffe://xexample.org/a"];
    let mut allowed = Vec::new();
    for caller in callers {
        let principal = Principal::Spiffe(caller.parse().expect("a SPIFFE ID"));
        for (_, method) in CATALOGUE.iter() {
            let judge = |loaded: &dir_core::policy::Loaded| {
                loaded.policy.decide(&principal, method, Timestamp(0)).effect == Effect::Allow
            };
            let (strict, compat) = (strict.as_ref().ok().map(judge), compat.as_ref().ok().map(judge));
            if let (Some(true), Some(compat)) = (strict, compat) {
                assert!(compat, "{caller} {method}: strict allows and compat does not");
            }
            allowed.push(strict.unwrap_or_default());
        }
    }
    let per = CATALOGUE.len();
    let open =
        text.contains('*') || text.contains("re:") || text.contains("other") || text.contains("xexample");
    assert!(open || !allowed[per..].contains(&true), "a rule lets in a domain that it does not name");
}

/// The keys that [`jwt_token`] holds tokens against, and the one token of the corpus that they sign.
const JWT_KEYS: &str = r#"{"keys":[{"kty":"EC","use":"jwt-svid","kid":"fuzz","crv":"P-256","x":"1kkE8guZDO9OmlNQCjvjd2pciSKXqUGy8vakIjKbLyU","y":"rY5GMIL_tDEeGaiNDkqwBofxHmHTR8DQeZ0Kjyk4BGo"}]}"#;
const JWT_GOOD: &str = "eyJhbGciOiAiRVMyNTYiLCAia2lkIjogImZ1enoiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAic3BpZmZlOi8vZnV6ei5leGFtcGxlL3ciLCAiYXVkIjogWyJkaXJlY3RvcnkiXSwgImV4cCI6IDIwMDAwMDAwMDAsICJpYXQiOiAxNzAwMDAwMDAwfQ.3o93aFwlci_wEFENMUPM9IfYImNBFFY_TFYNJstqSwq-0_oNtzW6Dl4aTM4SVhJWU_zQlsZC63vImpG7B4EvoA";

/// Whatever is shown as a token: only the very one that was signed is taken, and what is logged of others is bounded.
/// Two lines are header and claims, for what lies behind the encoding.
pub fn jwt_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let encoded = text.split_once('\n').map(|(header, claims)| {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.AAAA", part(header), part(claims))
    });
    let domain = "fuzz.example".parse().expect("a trust domain");
    for token in [Some(text), encoded.as_deref()].into_iter().flatten() {
        let now = Timestamp::from_secs(1_800_000_000);
        match judge_token(token, "directory", Duration::from_secs(60), (&domain, JWT_KEYS.as_bytes()), now) {
            Ok(identity) => {
                assert_eq!(token, JWT_GOOD, "another token is taken");
                assert_eq!(identity.id.as_str(), "spiffe://fuzz.example/w");
            }
            Err(refusal) => {
                assert_ne!(token, JWT_GOOD, "{refusal:?}");
                let detail = &refusal.detail;
                assert!(detail.len() <= 4096 && !detail.contains(char::is_control), "{detail:?}");
            }
        }
    }
}

/// A message that is a record has one canonical form, and comes back from it the same.
pub fn wire_walk(bytes: &[u8]) {
    let Ok(Some(doc)) = wire::decode_record(bytes) else { return };
    let Ok(canonical) = doc.root().canonical() else { return };
    let again = Doc::parse(&canonical).expect("canonical bytes are JSON");
    assert_eq!(again.root().canonical().expect("and have a canonical form"), canonical);
    if let Ok(message) = wire::encode_record_from_canonical(&canonical) {
        let back = wire::decode_record(&message).expect("our own message").expect("with data");
        assert_eq!(back.root().canonical().expect("as before"), canonical);
    }
    round_trip(&doc);
}

/// JSON has one canonical form, which is its own.
pub fn canonical_json(bytes: &[u8]) {
    let Ok(doc) = Doc::parse(bytes) else { return };
    let Ok(canonical) = doc.root().canonical() else { return };
    let again = Doc::parse(&canonical).expect("canonical bytes are JSON");
    assert_eq!(again.root().canonical().expect("and have a canonical form"), canonical);
    round_trip(&doc);
}

/// A record is what its CID says, whichever way it came.
fn round_trip(doc: &Doc) {
    let Ok(record) = Record::from_doc(doc) else { return };
    let again = Doc::parse(record.bytes()).expect("the bytes of a record are JSON");
    assert_eq!(Record::from_doc(&again).expect("and a record").cid(), record.cid());
}
