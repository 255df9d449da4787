//! Reading the OCI artifacts that records and referrers are stored as (OCI image-spec 1.1, `manifest.md`).

use dir_core::oci::{KEY_CREATED, KEY_KIND, KIND_RECORD};
use dir_core::record::Mismatch;
use dir_core::store::{StoreError, Stored};
use dir_core::{Cid, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Annotation with the tag, in an image layout's `index.json`.
pub(crate) const KEY_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI content descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// The annotation `key`, empty when absent.
    pub(crate) fn annotation(&self, key: &str) -> &str {
        self.annotations.as_ref().and_then(|a| a.get(key)).map_or("", String::as_str)
    }
}

/// An image manifest or an image index, as far as it is looked at here. Members may be `null`, as some writers do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) subject: Option<Descriptor>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Parses a manifest; `what` names it in the error.
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes)
            .map_err(|e| StoreError::BadManifest(format!("failed to unmarshal manifest of {what}: {e}")))
    }

    /// Whether this is a record: it says so, and it refers to nothing.
    pub(crate) fn is_record(&self) -> bool {
        self.annotation(KEY_KIND) == KIND_RECORD && self.subject.is_none()
    }

    /// The annotation `key`, empty when absent.
    pub(crate) fn annotation(&self, key: &str) -> &str {
        self.annotations.as_ref().and_then(|a| a.get(key)).map_or("", String::as_str)
    }

    /// `org.opencontainers.image.created`, when it parses.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(self.annotation(KEY_CREATED))
    }

    /// The CID of the first layer: the identity of the content, whatever the annotations say.
    pub(crate) fn content(&self) -> Option<Cid> {
        self.layers.as_deref()?.first().and_then(|l| Cid::from_oci_digest(&l.digest))
    }

    /// Checks that the first layer of the record `cid` is the content with that CID.
    pub(crate) fn check_record_layer(&self, cid: &Cid) -> Result<(), StoreError> {
        let Some(layer) = self.layers.as_deref().unwrap_or_default().first() else {
            return Err(StoreError::BadManifest(format!("manifest has no layers for CID {cid}")));
        };
        match Cid::from_oci_digest(&layer.digest) {
            Some(actual) if actual == *cid => Ok(()),
            Some(actual) => Err(Mismatch { expected: *cid, actual }.into()),
            None => Err(StoreError::BadManifest(format!(
                "manifest of CID {cid} has a layer without a SHA-256 digest"
            ))),
        }
    }

    /// The record `cid` as the port shows it.
    pub(crate) fn into_stored(self, cid: Cid, manifest_digest: String) -> Stored {
        let created = self.created();
        Stored { cid, manifest_digest, annotations: self.annotations.unwrap_or_default(), created }
    }
}

/// The API type that the blob of a referrer names; `None` when it is no referrer of ours.
pub(crate) fn blob_type(blob: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let typed: Typed = serde_json::from_slice(blob).ok()?;
    Some(match typed.r#type.as_str() {
        "application/vnd.agntcy.dir.sign.signature.v1+json" => dir_core::oci::TYPE_SIGNATURE.to_owned(),
        "application/vnd.agntcy.dir.sign.publickey.v1+pem" => dir_core::oci::TYPE_PUBLIC_KEY.to_owned(),
        _ => typed.r#type,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_with_a_subject_is_no_record() {
        let record = br#"{"layers":null,"annotations":{"org.agntcy.dir/type":"record"}}"#;
        assert!(Manifest::parse(record, "x").unwrap().is_record());
        let referrer =
            br#"{"subject":{"digest":"sha256:00"},"annotations":{"org.agntcy.dir/type":"record"}}"#;
        assert!(!Manifest::parse(referrer, "x").unwrap().is_record());
    }

    #[test]
    fn a_layer_with_other_content_is_corrupt_and_none_is_a_bad_manifest() {
        let cid = Cid::of(b"a");
        let other = format!(r#"{{"layers":[{{"digest":"{}"}}]}}"#, Cid::of(b"b").oci_digest());
        let found = Manifest::parse(other.as_bytes(), "x").unwrap().check_record_layer(&cid);
        assert!(matches!(found, Err(StoreError::Corrupt(m)) if m.actual == Cid::of(b"b")));
        let none = Manifest::parse(b"{}", "x").unwrap().check_record_layer(&cid).unwrap_err();
        assert_eq!(none.to_string(), format!("manifest has no layers for CID {cid}"));
    }

    #[test]
    fn media_types_in_blobs_are_mapped_back() {
        let blob = br#"{"type":"application/vnd.agntcy.dir.sign.publickey.v1+pem"}"#;
        assert_eq!(blob_type(blob).as_deref(), Some(dir_core::oci::TYPE_PUBLIC_KEY));
        assert_eq!(blob_type(b"not json"), None);
    }
}
