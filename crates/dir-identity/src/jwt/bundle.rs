//! JWT bundles: the keys of each trust domain, never used for another.

use super::key::JwtKey;
use crate::federation::json;
use dir_core::TrustDomain;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most keys that are taken from one bundle.
pub(crate) const KEYS_MAX: usize = 100;

/// The keys of one trust domain, by key ID. An empty bundle is held, and trusts nobody.
pub(crate) struct JwtBundle {
    trust_domain: TrustDomain,
    keys: BTreeMap<String, JwtKey>,
}

impl JwtBundle {
    /// Reads a JWK set as the Workload API sends it. There, keys may lack `use`: nothing but keys of JWT-SVIDs is sent.
    /// A key that cannot be used is left out and named in `faults`; a text that is no JWK set is refused as a whole.
    pub(crate) fn from_jwks(
        domain: &TrustDomain,
        text: &[u8],
        faults: &mut Vec<String>,
    ) -> Result<Self, String> {
        let fault = |what: &str| format!("JWT bundle of {domain}: {what}");
        let value = json::parse(text).map_err(|e| fault(&format!("it is no usable JSON: {e}")))?;
        let keys =
            value.get("keys").and_then(Value::as_array).ok_or_else(|| fault("it has no list of keys"))?;
        let mut bundle = Self { trust_domain: domain.clone(), keys: BTreeMap::new() };
        for key in keys.iter().filter_map(Value::as_object) {
            let text = |name: &str| key.get(name).and_then(Value::as_str);
            if text("use").is_none_or(|u| u == "jwt-svid") {
                bundle.take(text("kid").unwrap_or_default(), key, faults);
            }
        }
        Ok(bundle)
    }

    /// From the keys of a bundle document.
    pub(crate) fn from_keys(
        domain: &TrustDomain,
        keys: &BTreeMap<String, Value>,
        faults: &mut Vec<String>,
    ) -> Self {
        let mut bundle = Self { trust_domain: domain.clone(), keys: BTreeMap::new() };
        for (kid, key) in keys.iter().filter_map(|(kid, key)| Some((kid, key.as_object()?))) {
            bundle.take(kid, key, faults);
        }
        bundle
    }

    fn take(&mut self, kid: &str, jwk: &Map<String, Value>, faults: &mut Vec<String>) {
        let outcome = if kid.is_empty() {
            Err("it has no kid".to_owned())
        } else if self.keys.len() >= KEYS_MAX {
            Err(format!("beyond the {KEYS_MAX}th"))
        } else if self.keys.contains_key(kid) {
            Err("its kid is there twice".to_owned())
        } else {
            JwtKey::from_jwk(kid, jwk)
        };
        match outcome {
            Ok(key) => drop(self.keys.insert(kid.to_owned(), key)),
            Err(why) => {
                faults.push(format!("JWT key {:?} of {}: {why}", shown(kid), self.trust_domain));
            }
        }
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(crate) fn key(&self, kid: &str) -> Option<&JwtKey> {
        self.keys.get(kid)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a key of this name is among them.
    pub(crate) fn holds(&self, digest: &[u8; 32]) -> bool {
        self.keys.values().any(|key| key.digest() == *digest)
    }

    fn same_as(&self, other: &JwtBundle) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(|((a, x), (b, y))| a == b && x.digest() == y.digest())
    }
}

/// What a stranger wrote, fit for a log.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Every JWT bundle of a moment.
#[derive(Clone, Default)]
pub(crate) struct JwtBundles(BTreeMap<TrustDomain, Arc<JwtBundle>>);

impl JwtBundles {
    pub(crate) fn get(&self, domain: &TrustDomain) -> Option<&Arc<JwtBundle>> {
        self.0.get(domain)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<JwtBundle>> {
        self.0.values()
    }

    pub(crate) fn insert(&mut self, bundle: Arc<JwtBundle>) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// Adds a bundle for a domain that has none: a domain has one source, never a union.
    pub(crate) fn fill(&mut self, bundle: &Arc<JwtBundle>) {
        self.0.entry(bundle.trust_domain.clone()).or_insert_with(|| bundle.clone());
    }

    pub(crate) fn same_as(&self, other: &JwtBundles) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, x), (b, y))| a == b && x.same_as(y))
    }
}
