//! The messages of the SPIFFE Workload API, in our own words (public specification: "The SPIFFE Workload API",
//! service `SpiffeWorkloadAPI`, no package). Field numbers are those of the specification; nothing is generated.

use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;

/// Path of the call that streams SVIDs and bundles together.
pub(crate) const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// Path of the call that streams bundles alone.
pub(crate) const FETCH_X509_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";
/// Path of the call that mints JWT-SVIDs.
pub(crate) const FETCH_JWT_SVID: &str = "/SpiffeWorkloadAPI/FetchJWTSVID";
/// Path of the call that streams JWT bundles.
pub(crate) const FETCH_JWT_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchJWTBundles";
/// Path of the call that checks a JWT-SVID.
pub(crate) const VALIDATE_JWT_SVID: &str = "/SpiffeWorkloadAPI/ValidateJWTSVID";
/// Metadata key that every call must carry with the value `true`.
pub(crate) const SECURITY_HEADER: &str = "workload.spiffe.io";

/// Asks for X.509 material; has no parameters.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct X509SvidRequest {}

/// The whole X.509 state of a workload: what is missing has been withdrawn.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509SvidResponse {
    /// The identities; the first is the default.
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<X509SvidEntry>,
    /// Revocation lists, DER.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) crl: Vec<Bytes>,
    /// Foreign bundles by `spiffe://<trust domain>`; each value is the concatenated DER of all roots.
    #[prost(map = "string, bytes", tag = "3")]
    pub(crate) federated_bundles: HashMap<String, Bytes>,
}

/// One identity with its key and the bundle of its trust domain. `Debug` never shows the key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct X509SvidEntry {
    /// The SPIFFE ID, as in the leaf.
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    /// Leaf and intermediates, concatenated DER.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) x509_svid: Bytes,
    /// PKCS#8 private key, DER.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) x509_svid_key: Bytes,
    /// Roots of the trust domain, concatenated DER.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) bundle: Bytes,
    /// What the operator calls this identity.
    #[prost(string, tag = "5")]
    pub(crate) hint: String,
}

impl fmt::Debug for X509SvidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509SvidEntry")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// Asks for bundles; has no parameters.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct X509BundlesRequest {}

/// Every bundle that the workload may use, own and foreign.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509BundlesResponse {
    /// Revocation lists, DER.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) crl: Vec<Bytes>,
    /// Bundles by `spiffe://<trust domain>`, concatenated DER.
    #[prost(map = "string, bytes", tag = "2")]
    pub(crate) bundles: HashMap<String, Bytes>,
}

/// Asks for a token.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JwtSvidRequest {
    /// Who will check the token; at least one.
    #[prost(string, repeated, tag = "1")]
    pub(crate) audience: Vec<String>,
    /// Which identity; empty means all.
    #[prost(string, tag = "2")]
    pub(crate) spiffe_id: String,
}

/// Tokens.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JwtSvidResponse {
    /// One for each identity.
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<JwtSvidEntry>,
}

/// One token. `Debug` never shows it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct JwtSvidEntry {
    /// The SPIFFE ID, as in `sub`.
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    /// The token, JWS compact form.
    #[prost(string, tag = "2")]
    pub(crate) svid: String,
    /// What the operator calls this identity.
    #[prost(string, tag = "3")]
    pub(crate) hint: String,
}

impl fmt::Debug for JwtSvidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvidEntry").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}

/// Asks for JWT bundles; has no parameters.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct JwtBundlesRequest {}

/// JWT bundles.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JwtBundlesResponse {
    /// JWKS documents by `spiffe://<trust domain>`.
    #[prost(map = "string, bytes", tag = "1")]
    pub(crate) bundles: HashMap<String, Bytes>,
}

/// Asks whether a token is good.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct ValidateJwtSvidRequest {
    /// The audience of the asking party.
    #[prost(string, tag = "1")]
    pub(crate) audience: String,
    /// The token.
    #[prost(string, tag = "2")]
    pub(crate) svid: String,
}

impl fmt::Debug for ValidateJwtSvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateJwtSvidRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// The content of a good token.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValidateJwtSvidResponse {
    /// Its `sub`.
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    /// Its claims.
    #[prost(message, optional, tag = "2")]
    pub(crate) claims: Option<prost_types::Struct>,
}
