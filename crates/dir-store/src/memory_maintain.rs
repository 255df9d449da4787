//! Looking after a store in memory: it has nothing that could go astray.

use crate::layout::no_shards;
use crate::memory::{MemoryStore, mark_cid};
use async_trait::async_trait;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::store::{BoxStream, StoreError, WalkMark};
use dir_core::{Cid, RecordFacts, Timestamp};
use futures::stream;

#[async_trait]
impl StoreMaintenance for MemoryStore {
    async fn arrangement(&self) -> Result<Arrangement, StoreError> {
        Ok(Arrangement { now: Spread::Whole, leaving: None })
    }

    async fn recognised(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>> {
        Box::pin(stream::iter([Ok(self.cids(None))]))
    }

    fn inspect(&self, _depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>> {
        let cids = match mark_cid(from) {
            Ok(after) => self.cids(after),
            Err(e) => return Box::pin(stream::iter([Err(e)])),
        };
        let items = cids.into_iter().map(|cid| {
            Ok(if self.is_whole(&cid) {
                Inspected::Record(cid)
            } else {
                Inspected::Finding(Finding {
                    trouble: Trouble::Broken,
                    place: String::new(),
                    tag: cid.to_string(),
                    manifest: String::new(),
                    cid: Some(cid),
                    detail: "its content does not hash to its CID".to_owned(),
                })
            })
        });
        Box::pin(stream::iter(items))
    }

    async fn repair(&self, _finding: &Finding) -> Result<bool, StoreError> {
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
