//! Looking after an image layout directory: there is one place for everything, so that little can go astray.

use super::{LayoutStore, Part, unavailable};
use crate::memory::mark_cid;
use async_trait::async_trait;
use dir_core::Cid;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::store::{BoxStream, Known, RecordStore, StoreError, WalkMark};
use dir_core::{RecordFacts, Timestamp};
use futures::{StreamExt, stream};
use std::sync::Arc;

/// Records between two marks of an inspection.
const CHUNK: usize = 64;

/// A directory is one place.
pub(crate) fn no_shards() -> StoreError {
    StoreError::Unsupported(
        "the store is one directory: only a registry is laid out sharded or single".to_owned(),
    )
}

#[async_trait]
impl StoreMaintenance for LayoutStore {
    async fn arrangement(&self) -> Result<Arrangement, StoreError> {
        Ok(Arrangement { now: Spread::Whole, leaving: None })
    }

    async fn recognised(&self) -> Result<bool, StoreError> {
        // The directory is held open and locked; what may vanish is what is in it.
        let dir = Arc::clone(&self.opened()?.dir);
        let there = tokio::task::spawn_blocking(move || dir.root.join("oci-layout").try_exists()).await;
        let there = there.map_err(|e| unavailable("look at the image layout", e))?;
        there.map_err(|e| unavailable("look at the image layout", e))
    }

    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>> {
        Box::pin(stream::iter([self.walk_plan(None)]))
    }

    fn inspect(&self, depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>> {
        let cids = match mark_cid(from).and_then(|after| self.walk_plan(after)) {
            Ok(cids) => cids,
            Err(e) => return Box::pin(stream::iter([Err(e)])),
        };
        let chunks = stream::unfold((cids, 0), move |(cids, at)| async move {
            let end = cids.len().min(at + CHUNK);
            if at == end {
                return None;
            }
            let chunk = self.inspect_chunk(&cids[at..end], depth).await;
            Some((chunk, (cids, end)))
        });
        let others = stream::once(async { self.foreign_found().unwrap_or_else(|e| vec![Err(e)]) });
        Box::pin(chunks.chain(others).flat_map(stream::iter))
    }

    async fn repair(&self, _finding: &Finding) -> Result<bool, StoreError> {
        // What a directory lost is read from its files when it is opened; what is not there either is gone.
        Ok(false)
    }

    async fn restore(&self, _cid: &Cid, _facts: &RecordFacts, _at: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn reshard(
        &self,
        _to: Spread,
        _dry_run: bool,
        _ages: &[Cid],
    ) -> BoxStream<'_, Result<Reshard, StoreError>> {
        Box::pin(stream::iter([Err(no_shards())]))
    }
}

impl LayoutStore {
    async fn inspect_chunk(&self, cids: &[Cid], depth: Depth) -> Vec<Result<Inspected, StoreError>> {
        let mut out = Vec::with_capacity(cids.len() + 1);
        for cid in cids {
            match self.inspect_record(cid, depth).await {
                Ok(found) => out.extend(found.into_iter().map(Ok)),
                Err(e) => out.push(Err(e)),
            }
        }
        if let Some(last) = cids.last() {
            out.push(Ok(Inspected::Mark(WalkMark(last.to_string()))));
        }
        out
    }

    async fn inspect_record(&self, cid: &Cid, depth: Depth) -> Result<Vec<Inspected>, StoreError> {
        // Deleted since the inspection began.
        let Some((artifact, loc)) = self.record(cid)? else { return Ok(Vec::new()) };
        let manifest = match self.read(&artifact, loc, Part::Manifest).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("its manifest is missing".to_owned()),
            Err(StoreError::BadManifest(why)) => Err(why),
            Err(e) => return Err(e),
        };
        let content = match (manifest, depth) {
            (Ok(()), Depth::Contents) => match self.get(cid, Known::Live).await {
                Ok(_) => Ok(()),
                Err(e @ (StoreError::BlobMissing(_) | StoreError::Corrupt(_))) => Err(e.to_string()),
                Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
                Err(e) => return Err(e),
            },
            (manifest, _) => manifest,
        };
        let mut out = vec![match content {
            Ok(()) => Inspected::Record(*cid),
            Err(detail) => Inspected::Finding(Finding {
                trouble: Trouble::Broken,
                place: String::new(),
                tag: cid.to_string(),
                manifest: artifact.manifest.oci_digest(),
                cid: Some(*cid),
                detail,
            }),
        }];
        let state = self.opened()?.state.read();
        let referrers = state.records.get(cid).map_or(0, |entry| entry.referrers().len());
        out.extend(std::iter::repeat_n(Inspected::Referrer, referrers));
        Ok(out)
    }

    fn foreign_found(&self) -> Result<Vec<Result<Inspected, StoreError>>, StoreError> {
        let state = self.opened()?.state.read();
        let found = state.foreign.iter().filter_map(|json| {
            let descriptor: crate::artifact::Descriptor = serde_json::from_slice(json).ok()?;
            Some(Ok(Inspected::Finding(Finding {
                trouble: Trouble::Foreign,
                place: String::new(),
                tag: descriptor.annotation(crate::artifact::KEY_REF_NAME).to_owned(),
                manifest: descriptor.digest,
                cid: None,
                detail: "neither a record nor a referrer".to_owned(),
            })))
        });
        Ok(found.collect())
    }
}
