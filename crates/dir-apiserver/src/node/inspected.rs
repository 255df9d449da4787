//! The maintenance of the store, with what it finds in the metrics: alerts do not ask who has read the wrong bytes.

use async_trait::async_trait;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::store::{BoxStream, Known, RecordStore, StoreError, WalkMark};
use dir_core::{Cid, RecordFacts, Timestamp};
use dir_store::{MetricsStore, StoreMetrics};
use futures::StreamExt;
use std::sync::Arc;

/// A store that is looked after, and counted.
pub(super) struct Counted {
    inner: Arc<dyn StoreMaintenance>,
    /// The store behind every cache.
    backend: MetricsStore,
}

impl Counted {
    pub(super) fn new(
        inner: Arc<dyn StoreMaintenance>,
        backend: Arc<dyn RecordStore>,
        metrics: &Arc<StoreMetrics>,
    ) -> Self {
        Self { inner, backend: MetricsStore::new(backend, metrics.clone()) }
    }

    /// A record that was found broken is read as for a caller: content that does not match its CID is counted and logged.
    async fn count(&self, depth: Depth, found: &Inspected) {
        if let (
            Depth::Contents,
            Inspected::Finding(Finding { trouble: Trouble::Broken, cid: Some(cid), .. }),
        ) = (depth, found)
        {
            // What it answers was found already.
            let _ = self.backend.get(cid, Known::Unknown).await;
        }
    }
}

#[async_trait]
impl StoreMaintenance for Counted {
    async fn arrangement(&self) -> Result<Arrangement, StoreError> {
        self.inner.arrangement().await
    }

    async fn recognised(&self) -> Result<bool, StoreError> {
        self.inner.recognised().await
    }

    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>> {
        self.inner.names()
    }

    fn inspect(&self, depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>> {
        Box::pin(self.inner.inspect(depth, from).then(move |item| async move {
            if let Ok(found) = &item {
                self.count(depth, found).await;
            }
            item
        }))
    }

    async fn repair(&self, finding: &Finding) -> Result<bool, StoreError> {
        self.inner.repair(finding).await
    }

    async fn restore(&self, cid: &Cid, facts: &RecordFacts, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.restore(cid, facts, at).await
    }

    fn reshard(&self, to: Spread, dry_run: bool, ages: &[Cid]) -> BoxStream<'_, Result<Reshard, StoreError>> {
        self.inner.reshard(to, dry_run, ages)
    }
}
