//! A time limit on every call, with all its attempts.

use super::Operation;
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutConfig {
    /// Of a call, all its attempts together. Default 30 s.
    pub call: Duration,
    /// Of `delete`, which removes referrers one by one. Default 2 min.
    pub delete: Duration,
    /// Between two items of a walk. Default 5 min: a shard or page is read in between.
    pub walk: Duration,
    /// Of `close`, which writes out what is pending. Default 2 min.
    pub close: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            delete: Duration::from_secs(120),
            walk: Duration::from_secs(300),
            close: Duration::from_secs(120),
        }
    }
}

/// Gives up calls that take too long. The call is dropped, and with it its work.
pub struct TimeoutStore {
    inner: Arc<dyn RecordStore>,
    config: TimeoutConfig,
}

impl TimeoutStore {
    /// `inner` with time limits.
    pub fn new(inner: Arc<dyn RecordStore>, config: TimeoutConfig) -> Self {
        Self { inner, config }
    }

    async fn limit<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let limit = match operation {
            Operation::Delete => self.config.delete,
            Operation::Close => self.config.close,
            Operation::Walk => self.config.walk,
            _ => self.config.call,
        };
        let late = |_elapsed| StoreError::Timeout {
            context: format!("store operation {}", operation.name()),
            limit,
        };
        tokio::time::timeout(limit, call).await.map_err(late)?
    }
}

#[async_trait]
impl RecordStore for TimeoutStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        self.limit(Operation::Put, self.inner.put(record, facts, at, presence)).await
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        self.limit(Operation::Get, self.inner.get(cid, known)).await
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.limit(Operation::Resolve, self.inner.resolve(cid)).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.limit(Operation::Delete, self.inner.delete(cid)).await
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.limit(Operation::PutReferrer, self.inner.put_referrer(subject, referrer, at)).await
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        self.limit(Operation::Referrers, self.inner.referrers(subject)).await
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.limit(Operation::ReferrerBytes, self.inner.referrer_bytes(subject, referrer)).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        self.limit(Operation::DeleteReferrer, self.inner.delete_referrer(subject, referrer)).await
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        let walk = Some(self.inner.walk(from));
        let limited = stream::unfold(walk, move |walk| async move {
            let mut walk = walk?;
            let next = self.limit(Operation::Walk, async { Ok(walk.next().await) }).await;
            match next {
                Ok(item) => Some((item?, Some(walk))),
                Err(late) => Some((Err(late), None)),
            }
        });
        Box::pin(limited)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.limit(Operation::Ping, self.inner.ping()).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.limit(Operation::Close, self.inner.close()).await
    }
}
