//! What the registry holds.

use bytes::Bytes;
use dir_core::Cid;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything, by repository.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) next_upload: u64,
}

/// A stored manifest.
#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: BTreeMap<String, Bytes>,
    pub(super) manifests: BTreeMap<String, StoredManifest>,
    /// Digests in the order they came.
    order: Vec<String>,
    pub(super) tags: BTreeMap<String, StoredManifest>,
    /// Manifests whose files cannot be read, and the status that says so.
    damaged: BTreeMap<String, u16>,
}

impl Repository {
    /// Stores a manifest; answers its digest.
    pub(super) fn put_manifest(&mut self, tag: Option<&str>, bytes: Bytes, media_type: &str) -> String {
        let digest = Cid::of(&bytes).oci_digest();
        let stored = StoredManifest { bytes, media_type: media_type.to_owned() };
        if self.manifests.insert(digest.clone(), stored.clone()).is_none() {
            self.order.push(digest.clone());
        }
        self.damaged.remove(&digest);
        if let Some(tag) = tag {
            let before = self.tags.insert(tag.to_owned(), stored);
            // A manifest that no tag leads to any more is forgotten, and its damage with it.
            let before = before.map(|m| Cid::of(&m.bytes).oci_digest()).filter(|d| *d != digest);
            if let Some(before) = before
                && self.damaged.remove(&before).is_some()
            {
                self.manifests.remove(&before);
                self.order.retain(|d| *d != before);
            }
        }
        digest
    }

    /// From now on the file of the manifest behind a tag or digest cannot be read; answers whether there is one.
    pub(super) fn damage(&mut self, reference: &str, status: u16) -> bool {
        let Some(digest) = self.manifest(reference).map(|m| Cid::of(&m.bytes).oci_digest()) else {
            return false;
        };
        self.damaged.insert(digest, status);
        true
    }

    /// Every file is whole again.
    pub(super) fn mend(&mut self) {
        self.damaged.clear();
    }

    /// The status of a manifest whose file cannot be read.
    pub(super) fn damage_of(&self, reference: &str) -> Option<u16> {
        let digest = self.manifest(reference).map(|m| Cid::of(&m.bytes).oci_digest())?;
        self.damaged.get(&digest).copied()
    }

    /// The status of listings of referrers while a manifest cannot be read: Zot reads all of them for each.
    pub(super) fn any_damage(&self) -> Option<u16> {
        self.damaged.values().next().copied()
    }

    /// A manifest by tag or digest.
    pub(super) fn manifest(&self, reference: &str) -> Option<&StoredManifest> {
        self.tags.get(reference).or_else(|| self.manifests.get(reference))
    }

    /// Deletes by tag or digest; answers whether it was there.
    pub(super) fn delete(&mut self, reference: &str, keep_tags: bool) -> bool {
        if self.tags.remove(reference).is_some() {
            return true;
        }
        let found = self.manifests.remove(reference).is_some();
        self.order.retain(|d| d != reference);
        if !keep_tags {
            self.tags.retain(|_, m| Cid::of(&m.bytes).oci_digest() != reference);
        }
        found
    }

    /// A blob or manifest that `manifest` names and that is not here.
    pub(super) fn missing_blob(&self, manifest: &Bytes) -> Option<String> {
        let manifest: Value = serde_json::from_slice(manifest).ok()?;
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let blobs = layers.iter().chain(manifest.get("config"));
        let digests = blobs.filter_map(|d| d["digest"].as_str());
        digests.map(str::to_owned).find(|d| !self.blobs.contains_key(d))
    }

    /// The subject that `manifest` names.
    pub(super) fn subject(manifest: &[u8]) -> Option<String> {
        let manifest: Value = serde_json::from_slice(manifest).ok()?;
        Some(manifest["subject"]["digest"].as_str()?.to_owned())
    }

    /// Descriptors of what refers to `subject`.
    pub(super) fn referrers(&self, subject: &str, annotations: bool) -> Vec<Value> {
        let mut out = Vec::new();
        for digest in &self.order {
            let Some(stored) = self.manifests.get(digest) else { continue };
            if Self::subject(&stored.bytes).as_deref() != Some(subject) {
                continue;
            }
            let manifest: Value = serde_json::from_slice(&stored.bytes).unwrap_or_default();
            let mut descriptor = serde_json::json!({
                "mediaType": stored.media_type,
                "digest": digest,
                "size": stored.bytes.len(),
                "artifactType": manifest["artifactType"],
            });
            if annotations {
                descriptor["annotations"] = manifest["annotations"].clone();
            } else {
                descriptor["artifactType"] = manifest["config"]["mediaType"].clone();
            }
            out.push(descriptor);
        }
        out
    }
}
