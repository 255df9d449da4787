//! Names of the OCI artifacts that records and referrers are stored as.

/// OCI image manifest media type; also the `artifactType` of records and referrers.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index media type.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of the shared empty config blob.
pub const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
/// The shared empty config blob: two bytes.
pub const EMPTY_CONFIG_BYTES: &[u8] = b"{}";
/// Media type of a record's single layer.
pub const RECORD_LAYER: &str = "application/json";
/// API type of a signature referrer.
pub const TYPE_SIGNATURE: &str = "agntcy.dir.sign.v1.Signature";
/// API type of a public key referrer.
pub const TYPE_PUBLIC_KEY: &str = "agntcy.dir.sign.v1.PublicKey";

/// Layer media type of a referrer with this API type.
pub fn referrer_layer(api_type: &str) -> &'static str {
    match api_type {
        TYPE_SIGNATURE => "application/vnd.agntcy.dir.sign.signature.v1+json",
        TYPE_PUBLIC_KEY => "application/vnd.agntcy.dir.sign.publickey.v1+pem",
        _ => "application/vnd.agntcy.dir.referrer.v1+json",
    }
}
