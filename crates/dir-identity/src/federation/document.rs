//! The SPIFFE bundle format: a JWK set with a sequence number and a refresh hint (SPIFFE Trust Domain and Bundle,
//! sections 4 and 5; X509-SVID, section 6; JWT-SVID, section 6).

use super::json;
use crate::bundle::{BundleError, TrustBundle};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use dir_core::{SpiffeId, TrustDomain};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// Largest bundle document, in bytes.
pub const DOCUMENT_MAX: usize = 1024 * 1024;

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is longer than [`DOCUMENT_MAX`].
    #[error("the bundle document is longer than {DOCUMENT_MAX} bytes")]
    TooLong,
    /// It is not JSON, or an object names a member twice.
    #[error("the bundle document is not usable JSON: {0}")]
    Json(String),
    /// A member of the document is missing or of the wrong kind.
    #[error("the bundle document: {0}")]
    Shape(&'static str),
    /// A key of the document cannot be used.
    #[error("key {index} of the bundle document: {detail}")]
    Key {
        /// Which one, counted from 0.
        index: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// The roots belong to somebody else.
    #[error(
        "the bundle document for {wanted} holds a root of {found}: it is the bundle of another trust domain"
    )]
    OtherDomain {
        /// Whose bundle was asked for.
        wanted: TrustDomain,
        /// Whose name a root has.
        found: String,
    },
}

impl From<BundleError> for DocumentError {
    fn from(error: BundleError) -> Self {
        Self::Json(error.detail)
    }
}

/// A parsed document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleDocument {
    /// DER of each X.509 root, in the order of the document. Empty: nothing is trusted.
    pub x509_roots: Vec<Vec<u8>>,
    /// Keys that sign JWT-SVIDs, by key ID, as they stand in the document.
    pub jwt_keys: BTreeMap<String, Value>,
    /// `spiffe_sequence`; never goes down.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how often to look for a new one.
    pub refresh_hint: Option<Duration>,
    /// Keys of a use or a type that is not known, or without use.
    pub skipped: usize,
}

impl BundleDocument {
    /// Reads a document. Unknown members are ignored, keys of unknown use or type are skipped.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > DOCUMENT_MAX {
            return Err(DocumentError::TooLong);
        }
        let value = json::parse(text).map_err(|e| DocumentError::Json(e.to_string()))?;
        let top = value.as_object().ok_or(DocumentError::Shape("it is no object"))?;
        let keys = top.get("keys").ok_or(DocumentError::Shape("member \"keys\" is missing"))?;
        let keys = keys.as_array().ok_or(DocumentError::Shape("member \"keys\" is no list"))?;
        let hint =
            number(top, "spiffe_refresh_hint", "member \"spiffe_refresh_hint\" is no count of seconds")?;
        let mut document =
            Self { sequence: sequence(top)?, refresh_hint: hint.map(Duration::from_secs), ..Self::default() };
        for (index, key) in keys.iter().enumerate() {
            document.take(key).map_err(|detail| DocumentError::Key { index, detail })?;
        }
        Ok(document)
    }

    fn take(&mut self, key: &Value) -> Result<(), String> {
        let key = key.as_object().ok_or("it is no object")?;
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let known_type = matches!(text("kty"), Some("EC" | "RSA" | "OKP"));
        match text("use") {
            Some("x509-svid") if known_type => self.x509_roots.push(certificate(key)?),
            Some("jwt-svid") if known_type => {
                let id = text("kid").filter(|id| !id.is_empty()).ok_or("use jwt-svid needs a kid")?;
                if self.jwt_keys.insert(id.to_owned(), Value::Object(key.clone())).is_some() {
                    return Err(format!("kid {id:?} is there twice"));
                }
            }
            _ => self.skipped += 1,
        }
        Ok(())
    }

    /// The X.509 roots as a bundle of `domain`. A root that names another trust domain is refused: it would be that
    /// domain's bundle under a wrong name.
    pub fn bundle(&self, domain: &TrustDomain, source: &'static str) -> Result<TrustBundle, DocumentError> {
        for root in &self.x509_roots {
            if let Some(found) = foreign_name(root, domain) {
                return Err(DocumentError::OtherDomain { wanted: domain.clone(), found });
            }
        }
        Ok(TrustBundle::from_der(domain, &self.x509_roots.concat(), source)?)
    }

    /// SHA-256 of every key, lower-case hex: of the certificate's DER for roots, of the JSON for other keys.
    pub fn fingerprints(&self) -> BTreeSet<String> {
        let roots = self.x509_roots.iter().map(|der| fingerprint(der));
        let tokens = self.jwt_keys.values().map(|key| fingerprint(key.to_string().as_bytes()));
        roots.chain(tokens).collect()
    }
}

/// SHA-256, lower-case hex.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// The member of today, or the one seen in the wild; both only if they agree.
fn sequence(top: &Map<String, Value>) -> Result<Option<u64>, DocumentError> {
    const WRONG: &str = "member \"spiffe_sequence\" is no whole number from 0";
    let named = number(top, "spiffe_sequence", WRONG)?;
    let other =
        number(top, "spiffe_sequence_number", "member \"spiffe_sequence_number\" is no whole number from 0")?;
    match (named, other) {
        (Some(a), Some(b)) if a != b => Err(DocumentError::Shape(
            "members \"spiffe_sequence\" and \"spiffe_sequence_number\" contradict each other",
        )),
        (a, b) => Ok(a.or(b)),
    }
}

fn number(top: &Map<String, Value>, name: &str, wrong: &'static str) -> Result<Option<u64>, DocumentError> {
    top.get(name).map(|v| v.as_u64().ok_or(DocumentError::Shape(wrong))).transpose()
}

/// The one certificate of `x5c`, checked to be one.
fn certificate(key: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let chain = key.get("x5c").and_then(Value::as_array).ok_or("use x509-svid needs x5c")?;
    let [one] = chain.as_slice() else {
        return Err(format!("x5c must hold exactly one certificate, not {}", chain.len()));
    };
    let text = one.as_str().ok_or("x5c holds something else than text")?;
    let der = BASE64.decode(text.as_bytes()).map_err(|e| format!("x5c is no base64: {e}"))?;
    match X509Certificate::from_der(&der) {
        Ok(([], cert)) if cert.is_ca() => Ok(der),
        Ok(([], _)) => Err("the certificate in x5c is not that of a CA".to_owned()),
        Ok(_) => Err("x5c holds bytes behind the certificate".to_owned()),
        Err(e) => Err(format!("x5c is no certificate: {e}")),
    }
}

/// The SPIFFE name of a root, if it is not `domain`.
fn foreign_name(der: &[u8], domain: &TrustDomain) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let names = &cert.subject_alternative_name().ok()??.value.general_names;
    names.iter().find_map(|name| match name {
        GeneralName::URI(uri) if uri.get(..9).is_some_and(|s| s.eq_ignore_ascii_case("spiffe://")) => {
            let own = uri.parse::<SpiffeId>().is_ok_and(|id| id.trust_domain() == domain);
            (!own).then(|| (*uri).escape_debug().to_string())
        }
        _ => None,
    })
}

/// Writes the document of a bundle: its roots, then the keys of JWT-SVIDs. Roots whose kind of key has no name in a JWK
/// set are left out and counted.
pub(super) fn write<'a>(
    bundle: &TrustBundle,
    jwt_keys: impl Iterator<Item = &'a Value>,
    sequence: u64,
    refresh_hint: Duration,
) -> (String, usize) {
    let mut keys: Vec<Value> = bundle.roots().iter().filter_map(|root| jwk(root)).collect();
    let left_out = bundle.len() - keys.len();
    keys.extend(jwt_keys.cloned());
    let document = json!({
        "keys": keys,
        "spiffe_sequence": sequence,
        "spiffe_refresh_hint": refresh_hint.as_secs(),
    });
    (document.to_string(), left_out)
}

/// The JWK of a root (RFC 7517, RFC 7518 section 6, RFC 8037).
fn jwk(der: &[u8]) -> Option<Value> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let spki = cert.public_key();
    let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let mut key = match spki.parsed().ok()? {
        PublicKey::RSA(rsa) => json!({
            "kty": "RSA", "n": b64(unsigned(rsa.modulus)), "e": b64(unsigned(rsa.exponent)),
        }),
        PublicKey::EC(point) => {
            let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let name = match () {
                () if curve == oid_registry::OID_EC_P256 => "P-256",
                () if curve == oid_registry::OID_NIST_EC_P384 => "P-384",
                () if curve == oid_registry::OID_NIST_EC_P521 => "P-521",
                () => return None,
            };
            // Uncompressed: 4, then both coordinates.
            let (4, coordinates) = point.data().split_first().map(|(f, rest)| (*f, rest))? else {
                return None;
            };
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            json!({"kty": "EC", "crv": name, "x": b64(x), "y": b64(y)})
        }
        _ if spki.algorithm.algorithm == oid_registry::OID_SIG_ED25519 => {
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&spki.subject_public_key.data)})
        }
        _ => return None,
    };
    let members = key.as_object_mut()?;
    members.insert("use".to_owned(), "x509-svid".into());
    members.insert("x5c".to_owned(), json!([BASE64.encode(der)]));
    Some(key)
}

/// Without the zero byte that keeps DER integers positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|b| **b == 0).count();
    &integer[zeros.min(integer.len().saturating_sub(1))..]
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
