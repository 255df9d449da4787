//! The OCI artifacts that records and referrers are stored as: names, blobs and manifests, to the byte.

use crate::cid::Cid;
use crate::facts::RecordFacts;
use crate::json::{CanonicalError, Doc, Kind, write_string};
use crate::store::Referrer;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;

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

/// Annotation of every record manifest; its value is [`KIND_RECORD`].
pub const KEY_KIND: &str = "org.agntcy.dir/type";
/// Value of [`KEY_KIND`] on record manifests.
pub const KIND_RECORD: &str = "record";
/// Annotation: CID of the first layer's blob (records and referrers).
pub const KEY_CID: &str = "org.agntcy.dir/cid";
/// Annotation: `schema_version`, when the record decodes.
pub const KEY_OASF_VERSION: &str = "org.agntcy.dir/oasf-version";
/// Annotation: `schema_version`, when not empty.
pub const KEY_SCHEMA_VERSION: &str = "org.agntcy.dir/schema-version";
/// Annotation: the record's name.
pub const KEY_NAME: &str = "org.agntcy.dir/name";
/// Annotation: the record's version.
pub const KEY_VERSION: &str = "org.agntcy.dir/version";
/// Annotation: the record's `created_at`, verbatim.
pub const KEY_CREATED_AT: &str = "org.agntcy.dir/created-at";
/// Annotation: `previous_record_cid` of OASF 0.7 and 0.8.
pub const KEY_PREVIOUS_CID: &str = "org.agntcy.dir/previous-cid";
/// Prefix of annotations taken over from the record.
pub const CUSTOM_PREFIX: &str = "org.agntcy.dir/custom.";
/// OCI annotation: when the manifest was made (RFC 3339, UTC, whole seconds).
pub const KEY_CREATED: &str = "org.opencontainers.image.created";
/// Annotation: API type of a referrer.
pub const KEY_REFERRER_TYPE: &str = "agntcy.dir.referrer.type";
/// Annotation: `created_at` of a referrer, verbatim.
pub const KEY_REFERRER_CREATED_AT: &str = "agntcy.dir.referrer.created_at";
/// Prefix of annotations taken over from a referrer.
pub const REFERRER_ANNOTATION_PREFIX: &str = "agntcy.dir.referrer.annotation.";

/// What a referrer manifest points at: the manifest of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `sha256:…` of the record manifest.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// Annotations of a record manifest. Facts with an empty `schema_version` stand for a record that does not
/// decode: it gets kind, CID and creation time only.
pub fn record_annotations(cid: &Cid, facts: &RecordFacts, created: Timestamp) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (KEY_KIND.to_owned(), KIND_RECORD.to_owned()),
        (KEY_CID.to_owned(), cid.to_string()),
    ]);
    if !facts.schema_version.is_empty() {
        // First the record's own, so that nothing of theirs can replace one of ours.
        for (key, value) in &facts.annotations {
            all.insert(format!("{CUSTOM_PREFIX}{key}"), value.clone());
        }
        let ours = [
            (KEY_OASF_VERSION, &facts.schema_version),
            (KEY_SCHEMA_VERSION, &facts.schema_version),
            (KEY_NAME, &facts.name),
            (KEY_VERSION, &facts.version),
            (KEY_CREATED_AT, &facts.created_at),
            (KEY_PREVIOUS_CID, &facts.previous_cid),
        ];
        for (key, value) in ours.into_iter().filter(|(_, value)| !value.is_empty()) {
            all.insert(key.to_owned(), value.clone());
        }
    }
    all.insert(KEY_CREATED.to_owned(), created.rfc3339());
    all
}

/// The manifest of a record whose canonical bytes have this CID and length.
pub fn record_manifest(cid: &Cid, size: u64, facts: &RecordFacts, created: Timestamp) -> Bytes {
    manifest(RECORD_LAYER, cid, size, None, &record_annotations(cid, facts, created))
}

/// The blob of a referrer: the pushed message as canonical JSON with snake_case names, zero values left out.
/// Its CID is that of these bytes.
pub fn referrer_blob(
    record: &Cid,
    api_type: &str,
    created_at: &str,
    annotations: &BTreeMap<String, String>,
    data: Option<&Doc>,
) -> Result<Bytes, CanonicalError> {
    let mut out = vec![b'{'];
    if !annotations.is_empty() {
        out.extend_from_slice(b"\"annotations\":");
        write_map(&mut out, annotations);
        out.push(b',');
    }
    if !created_at.is_empty() {
        write_member(&mut out, "created_at", created_at);
        out.push(b',');
    }
    if let Some(data) = data {
        if data.root().kind() != Kind::Object {
            return Err(CanonicalError::NotAnObject);
        }
        out.extend_from_slice(b"\"data\":");
        out.extend_from_slice(&data.canonical()?);
        out.push(b',');
    }
    out.extend_from_slice(b"\"record_ref\":{");
    write_member(&mut out, "cid", &record.to_string());
    out.extend_from_slice(b"},");
    write_member(&mut out, "type", api_type);
    out.push(b'}');
    Ok(Bytes::from(out))
}

/// Annotations of a referrer manifest.
pub fn referrer_annotations(referrer: &Referrer, created: Timestamp) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = referrer
        .annotations
        .iter()
        .map(|(key, value)| (format!("{REFERRER_ANNOTATION_PREFIX}{key}"), value.clone()))
        .collect();
    all.insert(KEY_REFERRER_TYPE.to_owned(), referrer.api_type.clone());
    all.insert(KEY_CID.to_owned(), referrer.cid.to_string());
    if !referrer.created_at.is_empty() {
        all.insert(KEY_REFERRER_CREATED_AT.to_owned(), referrer.created_at.clone());
    }
    all.insert(KEY_CREATED.to_owned(), created.rfc3339());
    all
}

/// The manifest of a referrer of the record whose manifest is `subject`.
pub fn referrer_manifest(referrer: &Referrer, subject: &Subject, created: Timestamp) -> Bytes {
    let layer = referrer_layer(&referrer.api_type);
    let annotations = referrer_annotations(referrer, created);
    manifest(layer, &referrer.cid, referrer.bytes.len() as u64, Some(subject), &annotations)
}

/// Member order and spelling are part of the format: peers compare manifests by their digests.
fn manifest(
    layer: &str,
    blob: &Cid,
    size: u64,
    subject: Option<&Subject>,
    annotations: &BTreeMap<String, String>,
) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"schemaVersion\":2,");
    write_member(&mut out, "mediaType", MANIFEST);
    out.push(b',');
    write_member(&mut out, "artifactType", MANIFEST);
    out.extend_from_slice(b",\"config\":{");
    let config = Cid::of(EMPTY_CONFIG_BYTES).oci_digest();
    write_descriptor(&mut out, EMPTY_CONFIG, &config, EMPTY_CONFIG_BYTES.len() as u64);
    out.extend_from_slice(b",\"data\":\"e30=\"},\"layers\":[{");
    write_descriptor(&mut out, layer, &blob.oci_digest(), size);
    out.extend_from_slice(b"}],");
    if let Some(subject) = subject {
        out.extend_from_slice(b"\"subject\":{");
        write_descriptor(&mut out, MANIFEST, &subject.digest, subject.size);
        out.extend_from_slice(b"},");
    }
    out.extend_from_slice(b"\"annotations\":");
    write_map(&mut out, annotations);
    out.push(b'}');
    Bytes::from(out)
}

fn write_descriptor(out: &mut Vec<u8>, media_type: &str, digest: &str, size: u64) {
    write_member(out, "mediaType", media_type);
    out.push(b',');
    write_member(out, "digest", digest);
    out.extend_from_slice(b",\"size\":");
    out.extend_from_slice(size.to_string().as_bytes());
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &str) {
    write_string(out, key);
    out.push(b':');
    write_string(out, value);
}

fn write_map(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    out.push(b'{');
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_member(out, key, value);
    }
    out.push(b'}');
}
