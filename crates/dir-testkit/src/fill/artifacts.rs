//! The artifacts of one record: itself, and what is attached to it.

use super::{Fill, Tagging};
use crate::generate::Generator;
use bytes::Bytes;
use dir_core::json::Doc;
use dir_core::oci::{
    Subject, TYPE_PUBLIC_KEY, TYPE_SIGNATURE, record_manifest, referrer_blob, referrer_manifest,
};
use dir_core::store::Referrer;
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use std::collections::BTreeMap;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A place in `index.json`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// CID of the content.
    pub(super) content: Cid,
    /// Digest of the manifest.
    pub(super) manifest: Cid,
    /// Its length.
    pub(super) size: usize,
    /// Whether it is tagged with the CID of its content.
    pub(super) tagged: bool,
}

/// Everything to be written for one artifact.
pub(super) struct Artifact {
    /// The record that it is, or belongs to.
    pub(super) record: Cid,
    pub(super) entry: Entry,
    pub(super) blob: Bytes,
    pub(super) manifest: Bytes,
}

/// Record number `n`, then its referrers.
pub(super) fn of(n: u64, facts: &RecordFacts, fill: &Fill) -> Result<Vec<Artifact>, Failure> {
    let doc = Doc::parse(Generator::record_json(facts).to_string().as_bytes())?;
    let record = Record::from_doc(&doc)?;
    let (cid, blob) = (record.cid(), record.bytes().clone());
    let at = Timestamp::from_secs(fill.first.secs() + i64::try_from(n)?);
    let manifest = record_manifest(&cid, blob.len() as u64, facts, at);
    let subject = Subject { digest: Cid::of(&manifest).oci_digest(), size: manifest.len() as u64 };
    let mut out = vec![artifact(cid, cid, blob, manifest, true)];
    if fill.referrers_every > 0 && n.is_multiple_of(fill.referrers_every) {
        let key = r#"{"key":"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"}"#;
        let signature =
            r#"{"signedAt":"2025-06-01T08:30:00Z","signature":"c2lnbmF0dXJl","algorithm":"Ed25519"}"#;
        for (api_type, data) in [(TYPE_PUBLIC_KEY, key), (TYPE_SIGNATURE, signature)] {
            let blob =
                referrer_blob(&cid, api_type, "", &BTreeMap::new(), Some(&Doc::parse(data.as_bytes())?))?;
            let referrer = Referrer {
                cid: Cid::of(&blob),
                bytes: blob,
                api_type: api_type.to_owned(),
                created_at: String::new(),
                annotations: BTreeMap::new(),
            };
            let manifest = referrer_manifest(&referrer, &subject, at);
            out.push(artifact(cid, referrer.cid, referrer.bytes, manifest, fill.tagging == Tagging::OwnCid));
        }
    }
    Ok(out)
}

fn artifact(record: Cid, content: Cid, blob: Bytes, manifest: Bytes, tagged: bool) -> Artifact {
    let entry = Entry { content, manifest: Cid::of(&manifest), size: manifest.len(), tagged };
    Artifact { record, entry, blob, manifest }
}
