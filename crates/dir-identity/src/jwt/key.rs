//! Public keys that sign JWT-SVIDs, and the algorithms that they may be used with.

use data_encoding::BASE64URL_NOPAD as B64;
use ring::digest::{Context, SHA256};
use ring::signature::{self as sig, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

/// A signature algorithm of a JWT-SVID (JWT-SVID, section 2.1). `none` and those with a shared secret are not among
/// them, and can therefore not be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            _ => return None,
        })
    }
}

/// The key itself: curve points uncompressed, numbers without leading zeros.
enum Public {
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A key of a bundle.
pub(crate) struct JwtKey {
    public: Public,
    /// The only algorithm that its owner uses it with, if the bundle says so.
    algorithm: Option<Algorithm>,
    /// Hash over key ID and key: names it.
    digest: [u8; 32],
}

impl JwtKey {
    /// From a member of a JWK set.
    pub(crate) fn from_jwk(kid: &str, jwk: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let text = text(name).ok_or(format!("member {name:?} is missing"))?;
            B64.decode(text.as_bytes()).map_err(|_e| format!("member {name:?} is no base64url"))
        };
        let (public, parts) = match (text("kty"), text("crv")) {
            (Some("EC"), Some(curve)) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                (point(curve, &x, &y)?, [x, y])
            }
            (Some("RSA"), _) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let (n, e) = (trimmed(n), trimmed(e));
                // Beyond these ring refuses every signature; said here, an operator can find it.
                if !(256..=1024).contains(&n.len()) {
                    return Err(format!("an RSA key of {} bits; 2048 to 8192 are taken", n.len() * 8));
                }
                (Public::Rsa { n: n.clone(), e: e.clone() }, [n, e])
            }
            (kty, _) => return Err(format!("keys of type {} are not known", kty.unwrap_or("(none)"))),
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::named(name).ok_or("its algorithm is none of JWT-SVIDs")?),
        };
        Ok(Self { public, algorithm, digest: digest(kid, &parts) })
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether `signature` over `signed` was made with the other half of this key.
    pub(crate) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        let ring = |with: &'static dyn sig::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(with, key).verify(signed, signature).is_ok()
        };
        let rsa = |with: &'static sig::RsaParameters, n: &[u8], e: &[u8]| {
            RsaPublicKeyComponents { n, e }.verify(with, signed, signature).is_ok()
        };
        match (&self.public, algorithm) {
            (Public::P256(key), Algorithm::Es256) => ring(&sig::ECDSA_P256_SHA256_FIXED, key),
            (Public::P384(key), Algorithm::Es384) => ring(&sig::ECDSA_P384_SHA384_FIXED, key),
            (Public::P521(key), Algorithm::Es512) => p521_holds(key, signed, signature),
            (Public::Rsa { n, e }, Algorithm::Rs256) => rsa(&sig::RSA_PKCS1_2048_8192_SHA256, n, e),
            (Public::Rsa { n, e }, Algorithm::Rs384) => rsa(&sig::RSA_PKCS1_2048_8192_SHA384, n, e),
            (Public::Rsa { n, e }, Algorithm::Rs512) => rsa(&sig::RSA_PKCS1_2048_8192_SHA512, n, e),
            (Public::Rsa { n, e }, Algorithm::Ps256) => rsa(&sig::RSA_PSS_2048_8192_SHA256, n, e),
            (Public::Rsa { n, e }, Algorithm::Ps384) => rsa(&sig::RSA_PSS_2048_8192_SHA384, n, e),
            (Public::Rsa { n, e }, Algorithm::Ps512) => rsa(&sig::RSA_PSS_2048_8192_SHA512, n, e),
            // A key of one kind with an algorithm of another.
            _ => false,
        }
    }
}

fn point(curve: &str, x: &[u8], y: &[u8]) -> Result<Public, String> {
    let size = match curve {
        "P-256" => 32,
        "P-384" => 48,
        "P-521" => 66,
        other => return Err(format!("curve {:?} is not known", other.escape_debug().to_string())),
    };
    if x.len() != size || y.len() != size {
        return Err(format!("a coordinate of {curve} has {size} bytes"));
    }
    let sec1 = [&[4], x, y].concat();
    Ok(match size {
        32 => Public::P256(sec1),
        48 => Public::P384(sec1),
        _ => {
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&sec1);
            Public::P521(Box::new(key.map_err(|_e| "it is no point of P-521".to_owned())?))
        }
    })
}

fn p521_holds(key: &p521::ecdsa::VerifyingKey, signed: &[u8], signature: &[u8]) -> bool {
    use p521::ecdsa::signature::Verifier;
    p521::ecdsa::Signature::from_slice(signature).is_ok_and(|s| key.verify(signed, &s).is_ok())
}

fn trimmed(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    number.drain(..zeros);
    number
}

fn digest(kid: &str, parts: &[Vec<u8>; 2]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in [kid.as_bytes(), &parts[0], &parts[1]] {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}
