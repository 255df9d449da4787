//! The content cache: records by CID, verified before they go in and when they come from disk.
//!
//! A record never changes, so an entry is never stale; it can only be of a record that was deleted. Deletes through
//! this process take entries with them. Deletes elsewhere do not, so an entry alone answers only a caller whose index
//! says that the record is live; otherwise the store is asked whether it is still there.

mod disk;
mod lru;

use crate::decorate::StoreMetrics;
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use disk::Disk;
use lru::Lru;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Parts of the memory level, each with a lock of its own.
const SHARDS: usize = 16;
/// What an entry costs beside its bytes.
const OVERHEAD: u64 = 160;

/// Configuration of a [`CacheStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bytes in memory. Default 256 MiB. A record larger than a sixteenth of it is not kept.
    pub memory_bytes: u64,
    /// Directory of the second level; none by default.
    pub dir: Option<PathBuf>,
    /// Bytes in that directory. Default 4 GiB.
    pub dir_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, dir: None, dir_bytes: 4 << 30 }
    }
}

#[derive(Debug)]
struct Shard {
    records: Lru<Record>,
    /// Rises with every delete: a fill that began before one is dropped.
    deletes: u64,
}

/// A store with a content cache in front.
pub struct CacheStore {
    inner: Arc<dyn RecordStore>,
    shards: Vec<Mutex<Shard>>,
    disk: Option<Arc<Disk>>,
    metrics: Arc<StoreMetrics>,
}

impl CacheStore {
    /// `inner` with a cache. Blocks when there is a directory: it is listed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the directory cannot be used.
    pub fn new(
        inner: Arc<dyn RecordStore>,
        config: &CacheConfig,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, StoreError> {
        let open = |dir: &PathBuf| Disk::open(dir, config.dir_bytes, Arc::clone(&metrics)).map(Arc::new);
        let disk = config.dir.as_ref().map(open).transpose().map_err(|e| StoreError::Unavailable {
            context: format!(
                "open the cache directory {} (store.oci.cache_dir)",
                config.dir.as_deref().unwrap_or("".as_ref()).display()
            ),
            source: Box::new(e),
        })?;
        let each = config.memory_bytes / SHARDS as u64;
        let shard = || Mutex::new(Shard { records: Lru::new(each), deletes: 0 });
        Ok(Self { inner, shards: (0..SHARDS).map(|_| shard()).collect(), disk, metrics })
    }

    fn shard(&self, cid: &Cid) -> &Mutex<Shard> {
        // The last byte: the first ones choose the registry's shard, and may be equal for a whole batch.
        &self.shards[usize::from(cid.digest()[31]) % SHARDS]
    }

    /// An entry, or how many deletes its shard had seen when there was none.
    fn lookup(&self, cid: &Cid) -> Result<Record, u64> {
        let mut shard = self.shard(cid).lock();
        let found = shard.records.get(cid).ok_or(shard.deletes);
        drop(shard);
        if found.is_ok() {
            self.metrics.memory.hits.inc();
        } else {
            self.metrics.memory.misses.inc();
        }
        found
    }

    /// Keeps a record, unless something was deleted since `deletes` was read.
    fn keep(&self, record: &Record, deletes: u64) -> bool {
        let weight = record.bytes().len() as u64 + OVERHEAD;
        let mut shard = self.shard(&record.cid()).lock();
        if shard.deletes != deletes {
            return false;
        }
        let before = shard.records.weight();
        let gone = shard.records.insert(record.cid(), record.clone(), weight).len();
        let grown = i64::try_from(shard.records.weight()).unwrap_or(i64::MAX)
            - i64::try_from(before).unwrap_or(i64::MAX);
        drop(shard);
        self.metrics.memory.bytes.add(grown);
        self.metrics.memory.evictions.inc_by(gone as u64);
        true
    }

    fn forget(&self, cid: &Cid) {
        let mut shard = self.shard(cid).lock();
        shard.deletes += 1;
        let before = shard.records.weight();
        shard.records.remove(cid);
        let shrunk = before - shard.records.weight();
        drop(shard);
        self.metrics.memory.bytes.sub(i64::try_from(shrunk).unwrap_or(i64::MAX));
    }

    /// Forgets a record on both levels.
    async fn drop_entry(&self, cid: &Cid) {
        self.forget(cid);
        if let Some(disk) = self.disk.clone() {
            let cid = *cid;
            // It fails only when the runtime is going away.
            let _ = tokio::task::spawn_blocking(move || disk.remove(&cid)).await;
        }
    }

    async fn read_disk(&self, cid: &Cid) -> Option<Record> {
        let disk = self.disk.clone()?;
        let cid = *cid;
        tokio::task::spawn_blocking(move || disk.read(&cid)).await.ok()?
    }

    /// Writes to disk behind the caller's back, and takes it back when the record was deleted meanwhile.
    async fn write_disk(&self, record: &Record, deletes: u64) {
        let Some(disk) = self.disk.clone() else { return };
        let written = record.clone();
        let write = tokio::task::spawn_blocking(move || {
            if let Err(error) = disk.write(&written) {
                tracing::warn!(%error, "cannot write to the cache directory");
            }
        });
        let _ = write.await;
        if self.shard(&record.cid()).lock().deletes != deletes {
            self.drop_entry(&record.cid()).await;
        }
    }

    /// A cached record, when the caller or the store says that it is one.
    async fn proven(&self, record: Record, known: Known) -> Result<Record, StoreError> {
        if known == Known::Live {
            return Ok(record);
        }
        if self.inner.resolve(&record.cid()).await?.is_some() {
            return Ok(record);
        }
        self.drop_entry(&record.cid()).await;
        Err(StoreError::NotFound(record.cid()))
    }
}

#[async_trait]
impl RecordStore for CacheStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        let deletes = self.shard(&record.cid()).lock().deletes;
        let put = self.inner.put(record, facts, at, presence).await?;
        self.keep(record, deletes);
        Ok(put)
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        let deletes = match self.lookup(cid) {
            Ok(record) => return self.proven(record, known).await,
            Err(deletes) => deletes,
        };
        if let Some(record) = self.read_disk(cid).await {
            self.keep(&record, deletes);
            return self.proven(record, known).await;
        }
        // Whatever the store does itself: nothing goes in that does not match.
        let record = self.inner.get(cid, known).await?;
        let record = Record::verify(*cid, record.bytes().clone())?;
        if self.keep(&record, deletes) {
            self.write_disk(&record, deletes).await;
        }
        Ok(record)
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        let stored = self.inner.resolve(cid).await?;
        if stored.is_none() {
            self.drop_entry(cid).await;
        }
        Ok(stored)
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.drop_entry(cid).await;
        let deleted = self.inner.delete(cid).await;
        // Once more, for what was read while the delete ran.
        self.drop_entry(cid).await;
        deleted
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.inner.put_referrer(subject, referrer, at).await
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        self.inner.referrers(subject).await
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.inner.referrer_bytes(subject, referrer).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        self.inner.delete_referrer(subject, referrer).await
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        self.inner.walk(from)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
