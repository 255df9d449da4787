//! A few more attempts when the backend was only out of breath.

use super::{Operation, StoreMetrics};
use crate::oci::error::RegistryFault;
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// How often, and how long in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts in all; 1 means no retry. Default 3.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles for each one after, and half of it is left to chance. Default 100 ms.
    pub first_wait: Duration,
    /// Longest wait. Default 2 s.
    pub longest_wait: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 3, first_wait: Duration::from_millis(100), longest_wait: Duration::from_secs(2) }
    }
}

impl RetryConfig {
    /// The wait before attempt `n` (2, 3, …); `chance` is in 0..1.
    fn wait(&self, n: u32, chance: f64) -> Duration {
        let doubled =
            self.first_wait.saturating_mul(1_u32.checked_shl(n.saturating_sub(2)).unwrap_or(u32::MAX));
        doubled.min(self.longest_wait).mul_f64(0.5 + chance / 2.0)
    }
}

/// Repeats calls that failed for a passing reason. Every call of the port may be repeated.
///
/// Walks are not repeated here: whoever walks goes on from the last mark.
pub struct RetryStore {
    inner: Arc<dyn RecordStore>,
    config: RetryConfig,
    metrics: Arc<StoreMetrics>,
}

/// Whether the same call may succeed without anybody changing anything.
fn is_transient(error: &StoreError) -> bool {
    match error {
        StoreError::Timeout { .. } => true,
        StoreError::Unavailable { source, .. } => {
            source.downcast_ref::<RegistryFault>().is_some_and(RegistryFault::is_transient)
        }
        _ => false,
    }
}

impl RetryStore {
    /// `inner` with retries, which `metrics` counts.
    pub fn new(inner: Arc<dyn RecordStore>, config: RetryConfig, metrics: Arc<StoreMetrics>) -> Self {
        Self { inner, config, metrics }
    }

    async fn retry<T, F>(&self, operation: Operation, call: impl Fn() -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Err(error) if attempt < self.config.attempts && is_transient(&error) => error,
                done => return done,
            };
            attempt += 1;
            self.metrics.retried(operation);
            let wait = self.config.wait(attempt, rand::random());
            tracing::debug!(operation = operation.name(), attempt, ?wait, %error, "trying again");
            tokio::time::sleep(wait).await;
        }
    }
}

#[async_trait]
impl RecordStore for RetryStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        self.retry(Operation::Put, || self.inner.put(record, facts, at, presence)).await
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        self.retry(Operation::Get, || self.inner.get(cid, known)).await
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.retry(Operation::Resolve, || self.inner.resolve(cid)).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.retry(Operation::Delete, || self.inner.delete(cid)).await
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.retry(Operation::PutReferrer, || self.inner.put_referrer(subject, referrer, at)).await
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        self.retry(Operation::Referrers, || self.inner.referrers(subject)).await
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.retry(Operation::ReferrerBytes, || self.inner.referrer_bytes(subject, referrer)).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        self.retry(Operation::DeleteReferrer, || self.inner.delete_referrer(subject, referrer)).await
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        self.inner.walk(from)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A probe tells how things are.
        self.inner.ping().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_leave_half_to_chance() {
        let config = RetryConfig::default();
        let most = |n| config.wait(n, 1.0).as_millis();
        assert_eq!([most(2), most(3), most(4), most(10), most(40)], [100, 200, 400, 2000, 2000]);
        assert_eq!(config.wait(2, 0.0).as_millis(), 50);
    }

    #[test]
    fn refusals_and_missing_things_are_final() {
        let unavailable = |fault: RegistryFault| StoreError::Unavailable {
            context: String::new(),
            source: Box::new(fault),
        };
        assert!(is_transient(&unavailable(RegistryFault::from_answer(503, b""))));
        assert!(is_transient(&unavailable(RegistryFault::from_answer(429, b""))));
        for status in [400, 401, 403, 404] {
            assert!(!is_transient(&unavailable(RegistryFault::from_answer(status, b""))), "{status}");
        }
        assert!(!is_transient(&StoreError::NotFound(Cid::of(b""))));
    }
}
