//! JWT-SVIDs of the development CA: ES256, signed and checked with ring.

use super::ca::{MintError, plus};
use data_encoding::BASE64URL_NOPAD as B64;
use dir_core::{SpiffeId, Timestamp, TrustDomain};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Why a token is not good. Never contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    #[error("no keys found for trust domain \"{0}\"")]
    UnknownDomain(String),
    #[error("no key with the token's kid in trust domain \"{0}\"")]
    UnknownKey(String),
    #[error("the token's signature does not verify")]
    Signature,
    #[error("token has expired")]
    Expired,
    #[error("expected audience in [\"{0}\"]")]
    Audience(String),
}

/// The signing key of a trust domain.
pub(crate) struct JwtKey {
    kid: String,
    pair: EcdsaKeyPair,
}

impl JwtKey {
    pub(crate) fn generate() -> Result<Self, MintError> {
        let pkcs8 = rcgen::KeyPair::generate()?.serialize_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new())
            .map_err(|_cause| rcgen::Error::RingKeyRejected("PKCS#8 key".to_owned()))?;
        let kid = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>());
        Ok(Self { kid, pair })
    }

    /// The public half, as it stands in a bundle document.
    pub(crate) fn jwk(&self) -> Value {
        // Uncompressed point: 0x04, 32 bytes x, 32 bytes y.
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": self.kid,
            "x": B64.encode(point.get(1..33).unwrap_or_default()),
            "y": B64.encode(point.get(33..65).unwrap_or_default()),
        })
    }

    pub(crate) fn sign(
        &self,
        id: &SpiffeId,
        audience: &[String],
        now: Timestamp,
        ttl: Duration,
    ) -> Option<String> {
        let claims =
            json!({ "aud": audience, "exp": plus(now, ttl).secs(), "iat": now.secs(), "sub": id.as_str() });
        self.sign_claims(&json!({}), &claims)
    }

    /// Signs whatever it is given; `header` goes over the one that belongs to this key.
    pub(crate) fn sign_claims(&self, header: &Value, claims: &Value) -> Option<String> {
        let mut whole = json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" });
        for (name, value) in header.as_object()? {
            whole[name] = value.clone();
        }
        let encode = |value: &Value| B64.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&whole), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", B64.encode(signature.as_ref())))
    }
}

/// The bundle document of SPIFFE Trust Domain and Bundle, section 4.
pub(crate) fn jwks(keys: &[Arc<JwtKey>]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 300 }).to_string().into_bytes()
}

/// Checks a token for one audience. `keys` gives the keys of a trust domain that the asking party may know.
pub(crate) fn validate(
    token: &str,
    audience: &str,
    now: Timestamp,
    keys: impl Fn(&TrustDomain) -> Option<Vec<Arc<JwtKey>>>,
) -> Result<(SpiffeId, Struct), TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("not three parts"))?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("not three parts"))?;
    let (header, claims) = (part(header)?, part(claims)?);
    if header["alg"] != "ES256" {
        return Err(TokenError::Malformed("alg is not ES256"));
    }
    let sub = claims["sub"].as_str().ok_or(TokenError::Malformed("no sub"))?;
    let id: SpiffeId = sub.parse().map_err(|_cause| TokenError::Malformed("sub is no SPIFFE ID"))?;
    let domain = id.trust_domain();
    let keys = keys(domain).ok_or_else(|| TokenError::UnknownDomain(domain.to_string()))?;
    let key = keys.iter().find(|key| header["kid"] == key.kid.as_str());
    let key = key.ok_or_else(|| TokenError::UnknownKey(domain.to_string()))?;
    let signature = B64.decode(signature.as_bytes()).map_err(|_cause| TokenError::Malformed("signature"))?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
        .verify(signed.as_bytes(), &signature)
        .map_err(|_cause| TokenError::Signature)?;
    if claims["exp"].as_i64().is_none_or(|exp| exp <= now.secs()) {
        return Err(TokenError::Expired);
    }
    let meant = match &claims["aud"] {
        Value::String(one) => one == audience,
        Value::Array(many) => many.iter().any(|a| a == audience),
        _ => false,
    };
    if !meant {
        return Err(TokenError::Audience(audience.to_owned()));
    }
    match to_proto(&claims).kind {
        Some(Kind::StructValue(claims)) => Ok((id, claims)),
        _ => Err(TokenError::Malformed("claims are no object")),
    }
}

fn part(text: &str) -> Result<Value, TokenError> {
    let bytes = B64.decode(text.as_bytes()).map_err(|_cause| TokenError::Malformed("not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_cause| TokenError::Malformed("not JSON"))
}

fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(a) => Kind::ListValue(ListValue { values: a.iter().map(to_proto).collect() }),
        Value::Object(o) => {
            Kind::StructValue(Struct { fields: o.iter().map(|(k, v)| (k.clone(), to_proto(v))).collect() })
        }
    };
    ProtoValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, audience: &str, at: i64, key: &Arc<JwtKey>) -> Result<SpiffeId, TokenError> {
        let known = |d: &TrustDomain| (d.as_str() == "a.example").then(|| vec![key.clone()]);
        validate(token, audience, Timestamp::from_secs(at), known).map(|(id, _)| id)
    }

    #[test]
    fn tokens_are_good_for_their_audience_until_they_expire() {
        let key = Arc::new(JwtKey::generate().unwrap());
        let id: SpiffeId = "spiffe://a.example/w".parse().unwrap();
        let now = Timestamp::from_secs(1000);
        let token = key.sign(&id, &["dir".to_owned()], now, Duration::from_secs(60)).unwrap();
        assert_eq!(check(&token, "dir", 1059, &key), Ok(id));
        assert_eq!(check(&token, "dir", 1060, &key), Err(TokenError::Expired));
        assert_eq!(check(&token, "other", 1000, &key), Err(TokenError::Audience("other".to_owned())));
        let other = Arc::new(JwtKey::generate().unwrap());
        assert!(matches!(check(&token, "dir", 1000, &other), Err(TokenError::UnknownKey(_))));
        let cut = &token[..token.len() - 4];
        assert_eq!(check(&format!("{cut}AAAA"), "dir", 1000, &key), Err(TokenError::Signature));
        let foreign: SpiffeId = "spiffe://b.example/w".parse().unwrap();
        let token = key.sign(&foreign, &["dir".to_owned()], now, Duration::from_secs(60)).unwrap();
        assert!(matches!(check(&token, "dir", 1000, &key), Err(TokenError::UnknownDomain(_))));
    }
}
