//! Reading artifacts, one at a time and many.

use super::frame::Artifact;
use super::segment::{Dir, read_file};
use super::state::{Loc, RecordEntry};
use super::{LayoutStore, unavailable};
use crate::artifact::Manifest;
use crate::limits::Limits;
use dir_core::store::{StoreError, Stored, WalkMark, Walked};
use dir_core::{Cid, Record};
use std::io;
use std::sync::Arc;

/// A part of an artifact.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Manifest,
    Blob,
}

impl LayoutStore {
    /// Reads a part of an artifact, verified; `None` when it is not there any more.
    pub(super) async fn read(
        &self,
        artifact: &Artifact,
        loc: Loc,
        part: Part,
    ) -> Result<Option<Record>, StoreError> {
        let (dir, limits) = (Arc::clone(&self.opened()?.dir), self.limits);
        let artifact = artifact.clone();
        let read = tokio::task::spawn_blocking(move || read_part(&dir, &limits, &artifact, &loc, part));
        read.await.map_err(|e| unavailable("read from the image layout", e))?
    }

    pub(super) async fn stored(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        // A second look, in case the record was replaced between the two reads.
        for _ in 0..2 {
            let Some((artifact, loc)) = self.record(cid)? else { return Ok(None) };
            if let Some(manifest) = self.read(&artifact, loc, Part::Manifest).await? {
                return to_stored(cid, &manifest).map(Some);
            }
        }
        Err(StoreError::BadManifest(format!("the manifest of CID {cid} is missing from the image layout")))
    }

    /// Record and referrer CIDs to walk, in order, and what is neither.
    pub(super) fn walk_plan(&self, after: Option<Cid>) -> Result<Vec<Cid>, StoreError> {
        let state = self.opened()?.state.read();
        let mut cids: Vec<_> =
            state.records.keys().filter(|c| after.is_none_or(|a| **c > a)).copied().collect();
        cids.sort_unstable();
        Ok(cids)
    }

    pub(super) async fn walk_chunk(&self, cids: &[Cid]) -> Vec<Result<Walked, StoreError>> {
        let read = match self.stored_chunk(cids).await {
            Ok(read) => read,
            Err(error) => return vec![Err(error)],
        };
        let mut out = Vec::with_capacity(cids.len() + 1);
        for (cid, stored) in cids.iter().zip(read) {
            let stored = match stored {
                // Deleted or replaced since it was planned.
                Ok(None) => self.stored(cid).await,
                read => read,
            };
            out.extend(stored.map(|s| s.map(Walked::Record)).transpose());
        }
        if let Some(last) = cids.last() {
            out.push(Ok(Walked::Mark(WalkMark(last.to_string()))));
        }
        out
    }

    /// Reads the manifests of some records in one go.
    async fn stored_chunk(
        &self,
        cids: &[Cid],
    ) -> Result<Vec<Result<Option<Stored>, StoreError>>, StoreError> {
        let (dir, limits) = (Arc::clone(&self.opened()?.dir), self.limits);
        let found: Vec<_> = cids.iter().map(|cid| self.record(cid)).collect::<Result<_, _>>()?;
        let read = tokio::task::spawn_blocking(move || {
            let read = |(artifact, loc): (Artifact, Loc)| {
                let manifest = read_part(&dir, &limits, &artifact, &loc, Part::Manifest)?;
                manifest.map(|manifest| to_stored(&artifact.cid, &manifest)).transpose()
            };
            found.into_iter().map(|found| found.map_or(Ok(None), read)).collect()
        });
        read.await.map_err(|e| unavailable("read from the image layout", e))
    }

    pub(super) fn foreign_tags(&self) -> Result<Vec<Result<Walked, StoreError>>, StoreError> {
        let state = self.opened()?.state.read();
        let tags = state.foreign.iter().filter_map(|json| {
            let descriptor: crate::artifact::Descriptor = serde_json::from_slice(json).ok()?;
            let tag = descriptor.annotation(crate::artifact::KEY_REF_NAME).to_owned();
            (!tag.is_empty()).then_some(Ok(Walked::Other { tag }))
        });
        let referrers = state.records.values().flat_map(RecordEntry::referrers).filter(|r| !r.tag.is_empty());
        Ok(tags.chain(referrers.map(|r| Ok(Walked::Other { tag: r.tag.to_string() }))).collect())
    }
}

/// Reads a part of an artifact, verified; `None` when it is not there any more.
fn read_part(
    dir: &Dir,
    limits: &Limits,
    artifact: &Artifact,
    loc: &Loc,
    part: Part,
) -> Result<Option<Record>, StoreError> {
    let (digest, skip, len, limit) = match part {
        Part::Manifest => (artifact.manifest, 0, artifact.manifest_size, limits.max_manifest_bytes),
        Part::Blob => (artifact.cid, artifact.manifest_size, artifact.blob_size, limits.max_blob_bytes),
    };
    let bytes = match loc {
        Loc::Files => read_file(&dir.blob(&digest), limit),
        Loc::Journal(segment, at) => segment.read(at + u64::from(skip), len as usize),
    };
    match bytes.map(|bytes| Record::verify(digest, bytes)) {
        Ok(Ok(read)) => Ok(Some(read)),
        Ok(Err(mismatch)) => Err(match part {
            Part::Blob => mismatch.into(),
            Part::Manifest => StoreError::BadManifest(format!(
                "manifest {} in the image layout hashes to {}",
                digest.oci_digest(),
                mismatch.actual.oci_digest()
            )),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unavailable(&format!("read {} from the image layout", digest.oci_digest()), e)),
    }
}

/// A record as its manifest describes it.
fn to_stored(cid: &Cid, manifest: &Record) -> Result<Stored, StoreError> {
    let parsed = Manifest::parse(manifest.bytes(), &cid.to_string())?;
    Ok(parsed.into_stored(*cid, manifest.cid().oci_digest()))
}
