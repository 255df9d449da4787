//! One token: what it claims, and whether it may (JWT-SVID, sections 2 and 3; RFC 7515, RFC 7519).

use super::bundle::{JwtBundle, JwtBundles, shown};
use super::key::Algorithm;
use crate::federation::json;
use data_encoding::BASE64URL_NOPAD as B64;
use dir_core::identity::RoleClaims;
use dir_core::{SpiffeId, Timestamp, TokenIdentity, TokenRefusal, TrustDomain};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;

/// Words for what can be wrong.
pub(crate) mod reason {
    pub(crate) const TOO_LONG: &str = "too_long";
    pub(crate) const MALFORMED: &str = "malformed";
    pub(crate) const ALGORITHM: &str = "algorithm";
    pub(crate) const SUBJECT: &str = "subject";
    pub(crate) const AUDIENCE: &str = "audience";
    pub(crate) const EXPIRED: &str = "expired";
    pub(crate) const NOT_YET_VALID: &str = "not_yet_valid";
    pub(crate) const UNKNOWN_TRUST_DOMAIN: &str = "unknown_trust_domain";
    pub(crate) const UNKNOWN_KEY: &str = "unknown_key";
    pub(crate) const SIGNATURE: &str = "signature";
    pub(crate) const ALL: [&str; 10] = [
        TOO_LONG,
        MALFORMED,
        ALGORITHM,
        SUBJECT,
        AUDIENCE,
        EXPIRED,
        NOT_YET_VALID,
        UNKNOWN_TRUST_DOMAIN,
        UNKNOWN_KEY,
        SIGNATURE,
    ];
}

/// What tokens are held against.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) audiences: Vec<String>,
    pub(crate) leeway: Duration,
}

fn refuse(reason: &'static str, detail: impl Into<String>) -> TokenRefusal {
    TokenRefusal { reason, detail: detail.into() }
}

/// The times of a token.
struct Times {
    expires: Timestamp,
    not_before: Option<Timestamp>,
    issued: Option<Timestamp>,
}

/// Judges a token against the keys of one trust domain, a JWK set, without a Workload API: for diagnosis and for tests
/// with bytes of all kinds.
pub fn judge_token(
    token: &str,
    audience: &str,
    leeway: Duration,
    (domain, keys): (&TrustDomain, &[u8]),
    now: Timestamp,
) -> Result<TokenIdentity, TokenRefusal> {
    let bundle = JwtBundle::from_jwks(domain, keys, &mut Vec::new());
    let mut bundles = JwtBundles::default();
    bundles.insert(Arc::new(bundle.map_err(|why| refuse(reason::UNKNOWN_TRUST_DOMAIN, why))?));
    judge(token, &Rules { audiences: vec![audience.to_owned()], leeway }, &bundles, now)
}

/// Judges a token. The signature comes last: what fails anyway costs no arithmetic.
pub(crate) fn judge(
    token: &str,
    rules: &Rules,
    bundles: &JwtBundles,
    now: Timestamp,
) -> Result<TokenIdentity, TokenRefusal> {
    if token.len() > TOKEN_MAX {
        return Err(refuse(reason::TOO_LONG, format!("{} bytes; {TOKEN_MAX} are taken", token.len())));
    }
    let malformed = |what: &str| refuse(reason::MALFORMED, what);
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed("no three parts"))?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| malformed("no three parts"))?;
    let (header, claims) = (part(header, "header")?, part(claims, "claims")?);
    let signature = B64.decode(signature.as_bytes()).map_err(|_e| malformed("signature: no base64url"))?;
    let (algorithm, kid) = read_header(&header)?;
    let id = subject(&claims)?;
    check_audience(&claims["aud"], &rules.audiences)?;
    let times = Times::read(&claims)?;
    times.check(rules.leeway, now)?;
    let domain = id.trust_domain();
    let bundle = bundles.get(domain).ok_or_else(|| {
        refuse(reason::UNKNOWN_TRUST_DOMAIN, format!("no JWT bundle for trust domain {domain}"))
    })?;
    let key = bundle.key(kid).ok_or_else(|| {
        refuse(reason::UNKNOWN_KEY, format!("no key \"{}\" in the JWT bundle of {domain}", shown(kid)))
    })?;
    if !key.verify(algorithm, signed.as_bytes(), &signature) {
        let text = format!("the signature does not verify with key \"{}\" of {domain}", shown(kid));
        return Err(refuse(reason::SIGNATURE, text));
    }
    Ok(TokenIdentity {
        id,
        not_before: times.not_before.or(times.issued),
        expires: times.expires,
        accepted_until: later(times.expires, rules.leeway),
        claims: roles(&claims),
        key: key.digest(),
    })
}

/// Whether a token that was good with these keys is good at this moment.
pub(crate) fn check_time(
    identity: &TokenIdentity,
    leeway: Duration,
    now: Timestamp,
) -> Result<(), TokenRefusal> {
    let times = Times { expires: identity.expires, not_before: identity.not_before, issued: None };
    times.check(leeway, now)
}

fn part(text: &str, what: &str) -> Result<Value, TokenRefusal> {
    let bytes = B64
        .decode(text.as_bytes())
        .map_err(|_e| refuse(reason::MALFORMED, format!("{what}: no base64url")))?;
    match json::parse(&bytes) {
        Ok(value) if value.is_object() => Ok(value),
        // The parser's own text could quote the token.
        _ => Err(refuse(reason::MALFORMED, format!("{what}: no JSON object, or a member twice"))),
    }
}

fn read_header(header: &Value) -> Result<(Algorithm, &str), TokenRefusal> {
    let algorithm = header["alg"].as_str().and_then(Algorithm::named).ok_or_else(|| {
        let text = format!("alg is {}", shown(&header["alg"].to_string()));
        refuse(reason::ALGORITHM, text)
    })?;
    if !matches!(&header["typ"], Value::Null) && !matches!(header["typ"].as_str(), Some("JWT" | "JOSE")) {
        return Err(refuse(reason::MALFORMED, "typ is neither JWT nor JOSE"));
    }
    // Whoever does not understand what is listed there must refuse the token (RFC 7515, section 4.1.11).
    if !header["crit"].is_null() {
        return Err(refuse(reason::MALFORMED, "crit is not understood"));
    }
    match header["kid"].as_str() {
        Some(kid) if !kid.is_empty() => Ok((algorithm, kid)),
        _ => Err(refuse(reason::UNKNOWN_KEY, "no kid")),
    }
}

fn subject(claims: &Value) -> Result<SpiffeId, TokenRefusal> {
    let sub = claims["sub"].as_str().ok_or_else(|| refuse(reason::SUBJECT, "no sub"))?;
    let id: SpiffeId = sub.parse().map_err(|e| refuse(reason::SUBJECT, format!("sub: {e}")))?;
    if id.is_root() {
        return Err(refuse(reason::SUBJECT, format!("{id} is a trust domain and no workload")));
    }
    Ok(id)
}

/// What an issuer may say beside the identity; what does not fit says nothing.
fn roles(claims: &Value) -> Option<RoleClaims> {
    let text = |name: &str| match &claims[name] {
        Value::Null => Some(""),
        value => value.as_str(),
    };
    RoleClaims::new(text("org")?, text("project")?, text("role")?)
}

fn check_audience(claim: &Value, accepted: &[String]) -> Result<(), TokenRefusal> {
    let ours = |name: &str| accepted.iter().any(|a| a == name);
    let meant = match claim {
        Value::String(one) => ours(one),
        Value::Array(many) => {
            if !many.iter().all(Value::is_string) {
                return Err(refuse(reason::MALFORMED, "aud is no list of texts"));
            }
            many.iter().filter_map(Value::as_str).any(ours)
        }
        _ => return Err(refuse(reason::AUDIENCE, "no aud")),
    };
    if meant {
        return Ok(());
    }
    Err(refuse(reason::AUDIENCE, format!("meant for {}, not for us", shown(&claim.to_string()))))
}

impl Times {
    fn read(claims: &Value) -> Result<Self, TokenRefusal> {
        let time = |name: &str| match &claims[name] {
            Value::Null => Ok(None),
            value => match value.as_f64().and_then(millis) {
                Some(at) => Ok(Some(at)),
                None => Err(refuse(reason::MALFORMED, format!("{name} is no time"))),
            },
        };
        let expires = time("exp")?.ok_or_else(|| refuse(reason::EXPIRED, "no exp"))?;
        Ok(Self { expires, not_before: time("nbf")?, issued: time("iat")? })
    }

    fn check(&self, leeway: Duration, now: Timestamp) -> Result<(), TokenRefusal> {
        if now >= later(self.expires, leeway) {
            let ago = now.seconds_since(self.expires);
            return Err(refuse(reason::EXPIRED, format!("expired {ago} seconds ago")));
        }
        for (at, what) in [(self.not_before, "valid"), (self.issued, "issued")] {
            if let Some(at) = at.filter(|at| *at > later(now, leeway)) {
                let text = format!("{what} only in {} seconds: compare the clocks", at.seconds_since(now));
                return Err(refuse(reason::NOT_YET_VALID, text));
            }
        }
        Ok(())
    }
}

/// Seconds since 1970 as they stand in a token, fractions allowed.
#[allow(clippy::cast_possible_truncation)] // Checked against the range before.
fn millis(seconds: f64) -> Option<Timestamp> {
    const YEAR_9999: f64 = 253_402_300_800.0;
    (0.0..YEAR_9999).contains(&seconds).then_some(Timestamp((seconds * 1000.0) as i64))
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
