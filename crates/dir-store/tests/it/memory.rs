//! The store in memory.

use async_trait::async_trait;
use bytes::Bytes;
use dir_core::Cid;
use dir_core::store::RecordStore;
use dir_store::{Limits, MemoryStore};
use dir_testkit::store_conformance::{Backend, Plant, run};
use std::sync::Arc;

struct Memory(Arc<MemoryStore>);

#[async_trait]
impl Backend for Memory {
    fn store(&self) -> Arc<dyn RecordStore> {
        self.0.clone()
    }

    async fn reopen(&mut self) -> bool {
        false
    }

    async fn corrupt(&mut self, of: &Cid, blob: &Cid) -> bool {
        of == blob && self.0.corrupt(of, Bytes::from_static(b"damaged"))
    }

    async fn has_blob(&self, _of: &Cid, _blob: &Cid) -> Option<bool> {
        None
    }

    async fn plant(&mut self, _of: &Cid, _plant: Plant) -> bool {
        false
    }
}

#[tokio::test]
async fn conformance() {
    let report = run(async || Memory(Arc::new(MemoryStore::new(Limits::default())))).await;
    // Nobody else writes to this memory, and nothing outlives it.
    assert_eq!(
        report.skipped,
        [
            "a referrer's CID is no record",
            "a foreign artifact under a CID tag is no record",
            "a manifest with other content does not pass",
            "content survives a restart",
            "deletion survives a restart",
            "referrers of others, tagged or not, are found",
            "a corrupt referrer does not leave",
        ]
    );
}
