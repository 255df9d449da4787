//! Every algorithm with a key of its kind, and with none other; keys and sets of keys that cannot be used.

use super::bundle::{JwtBundle, KEYS_MAX};
use super::key::{Algorithm, JwtKey};
use data_encoding::BASE64URL_NOPAD as B64;
use p521::ecdsa::signature::Signer;
use ring::rand::SystemRandom;
use ring::signature::{self as sig, EcdsaKeyPair, KeyPair as _, RsaEncoding, RsaKeyPair};
use serde_json::{Value, json};
use std::process::Command;

const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];
const SIGNED: &[u8] = b"header.claims";

/// Somebody's key: its public half, and what it signs.
struct Signing {
    jwk: Value,
    signatures: Vec<(&'static str, Vec<u8>)>,
}

fn ec(curve: &str, point: &[u8]) -> Value {
    let half = (point.len() - 1) / 2;
    let (x, y) = point[1..].split_at(half);
    json!({ "kty": "EC", "crv": curve, "x": B64.encode(x), "y": B64.encode(y) })
}

fn by_ring(name: &'static str, curve: &str, algorithm: &'static sig::EcdsaSigningAlgorithm) -> Signing {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap();
    let signature = pair.sign(&rng, SIGNED).unwrap().as_ref().to_vec();
    Signing { jwk: ec(curve, pair.public_key().as_ref()), signatures: vec![(name, signature)] }
}

fn by_p521() -> Signing {
    let secret: p521::ecdsa::SigningKey =
        p521::ecdsa::SigningKey::from_slice(&[&[0; 2][..], &[7; 64]].concat()).unwrap();
    let point = p521::ecdsa::VerifyingKey::from(&secret).to_sec1_point(false);
    let signature: p521::ecdsa::Signature = secret.sign(SIGNED);
    Signing { jwk: ec("P-521", point.as_bytes()), signatures: vec![("ES512", signature.to_bytes().to_vec())] }
}

/// ring makes no RSA keys; openssl does.
fn by_rsa() -> Signing {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.der");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER", "-out"])
        .arg(&path)
        .output()
        .expect("openssl is needed for this test: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let der = std::fs::read(path).unwrap();
    // Releases of openssl differ in the form that they write.
    let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_other| RsaKeyPair::from_der(&der)).unwrap();
    let with = |padding: &'static dyn RsaEncoding| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &SystemRandom::new(), SIGNED, &mut signature).unwrap();
        signature
    };
    let public = sig::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
    Signing {
        // With a leading zero, as some write it.
        jwk: json!({ "kty": "RSA", "n": B64.encode(&[&[0], &*public.n].concat()), "e": B64.encode(&public.e) }),
        signatures: vec![
            ("RS256", with(&sig::RSA_PKCS1_SHA256)),
            ("RS384", with(&sig::RSA_PKCS1_SHA384)),
            ("RS512", with(&sig::RSA_PKCS1_SHA512)),
            ("PS256", with(&sig::RSA_PSS_SHA256)),
            ("PS384", with(&sig::RSA_PSS_SHA384)),
            ("PS512", with(&sig::RSA_PSS_SHA512)),
        ],
    }
}

fn key(jwk: &Value) -> Result<JwtKey, String> {
    JwtKey::from_jwk("k", jwk.as_object().unwrap())
}

#[test]
fn j_every_algorithm_with_a_key_of_its_kind_and_no_other() {
    let mut seen = Vec::new();
    let all = [
        by_ring("ES256", "P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING),
        by_ring("ES384", "P-384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING),
        by_p521(),
        by_rsa(),
    ];
    for signing in &all {
        let public = key(&signing.jwk).unwrap();
        for (name, signature) in &signing.signatures {
            for tried in ALGORITHMS {
                let holds = public.verify(Algorithm::named(tried).unwrap(), SIGNED, signature);
                assert_eq!(holds, tried == *name, "a signature of {name} taken as {tried}");
            }
            let algorithm = Algorithm::named(name).unwrap();
            assert!(!public.verify(algorithm, b"other.claims", signature), "{name}");
            assert!(!public.verify(algorithm, SIGNED, &signature[1..]), "{name}");
            assert!(!public.verify(algorithm, SIGNED, &[]), "{name}");
            for other in all.iter().filter(|other| other.jwk != signing.jwk) {
                assert!(!key(&other.jwk).unwrap().verify(algorithm, SIGNED, signature), "{name}");
            }
            // A bundle may bind a key to one algorithm.
            for (bound, holds) in [(*name, true), (if *name == "RS256" { "PS256" } else { "RS256" }, false)] {
                let mut jwk = signing.jwk.clone();
                jwk["alg"] = json!(bound);
                assert_eq!(key(&jwk).unwrap().verify(algorithm, SIGNED, signature), holds, "{name}, {bound}");
            }
            seen.push(*name);
        }
    }
    seen.sort_unstable();
    let mut wanted = ALGORITHMS.to_vec();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let coordinate = |size: usize| B64.encode(&vec![1; size]);
    let ec = |curve: &str, size| json!({ "kty": "EC", "crv": curve, "x": coordinate(size), "y": coordinate(size) });
    for (jwk, why) in [
        (json!({}), "type (none)"),
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), "type oct"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": coordinate(32) }), "type OKP"),
        (ec("secp256k1", 32), "curve"),
        (ec("P-256", 31), "has 32 bytes"),
        (ec("P-521", 66), "no point"),
        (json!({ "kty": "EC", "crv": "P-256", "x": coordinate(32) }), "\"y\" is missing"),
        (json!({ "kty": "EC", "crv": "P-256", "x": "+/+/", "y": coordinate(32) }), "no base64url"),
        (json!({ "kty": "RSA", "n": coordinate(128), "e": "AQAB" }), "1024 bits; 2048 to 8192"),
        (json!({ "kty": "RSA", "n": coordinate(1025), "e": "AQAB" }), "8200 bits"),
        (json!({ "kty": "RSA", "n": coordinate(256), "e": "AQAB", "alg": "HS256" }), "algorithm"),
    ] {
        let error = key(&jwk).err().expect("it was taken");
        assert!(error.contains(why), "{error}");
    }
    for size in [256, 1024] {
        assert!(key(&json!({ "kty": "RSA", "n": coordinate(size), "e": "AQAB" })).is_ok());
    }
}

#[test]
fn a_bad_key_does_not_take_the_others_with_it() {
    let domain = "a.example".parse().unwrap();
    let good = |kid: &str| {
        let mut jwk = by_ring("ES256", "P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING).jwk;
        jwk["kid"] = json!(kid);
        jwk
    };
    let read = |keys: Vec<Value>| {
        let (mut faults, text) = (Vec::new(), json!({ "keys": keys }).to_string());
        let bundle = JwtBundle::from_jwks(&domain, text.as_bytes(), &mut faults).unwrap();
        (bundle, faults)
    };
    let with_use = |mut jwk: Value, word: &str| {
        jwk["use"] = json!(word);
        jwk
    };
    let (bundle, faults) = read(vec![
        good("without-use"),
        with_use(good("with-use"), "jwt-svid"),
        with_use(good("x"), "x509-svid"),
        with_use(good("y"), "sig"),
        json!("no key"),
    ]);
    assert!(bundle.len() == 2 && faults.is_empty(), "{faults:?}");
    assert!(bundle.key("without-use").is_some() && bundle.key("with-use").is_some());

    let (bundle, faults) = read(vec![good(""), good("a"), good("a"), json!({ "kid": "b\n" }), good("c")]);
    assert_eq!((bundle.len(), faults.len()), (2, 3), "{faults:?}");
    assert!(faults.iter().all(|f| f.contains("a.example") && !f.contains('\n')), "{faults:?}");

    let many = (0..=KEYS_MAX).map(|n| good(&n.to_string())).collect();
    let (bundle, faults) = read(many);
    assert_eq!((bundle.len(), faults.len()), (KEYS_MAX, 1));

    for text in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": [], "keys": []}"#] {
        assert!(JwtBundle::from_jwks(&domain, text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
    }
}
