//! What the store does, in numbers.

use super::Operation;
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Class, Classified, Record, RecordFacts, Timestamp};
use futures::StreamExt;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::sync::Arc;
use std::time::Instant;

/// Bounds of the duration histogram in seconds.
const BUCKETS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];

/// The metrics of the store, registered once a process.
///
/// | name | labels |
/// |---|---|
/// | `directory_store_operations_total` | `operation`, `outcome` (`ok` or an error class) |
/// | `directory_store_operation_seconds` | `operation` |
/// | `directory_store_retries_total` | `operation` |
/// | `directory_store_corrupt_total` | `source` (`backend`, `cache`): content that did not match its CID |
/// | `directory_store_cache_lookups_total` | `level` (`memory`, `disk`), `result` (`hit`, `miss`) |
/// | `directory_store_cache_bytes` | `level` |
/// | `directory_store_cache_evictions_total` | `level` |
#[derive(Debug)]
pub struct StoreMetrics {
    operations: IntCounterVec,
    succeeded: [IntCounter; Operation::ALL.len()],
    seconds: [Histogram; Operation::ALL.len()],
    retries: IntCounterVec,
    corrupt: IntCounterVec,
    pub(crate) memory: LevelMetrics,
    pub(crate) disk: LevelMetrics,
}

/// One level of the cache.
#[derive(Debug)]
pub(crate) struct LevelMetrics {
    pub(crate) hits: IntCounter,
    pub(crate) misses: IntCounter,
    pub(crate) bytes: IntGauge,
    pub(crate) evictions: IntCounter,
}

impl StoreMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has them already.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let operations = counter(
            "directory_store_operations_total",
            "Store calls by outcome.",
            &["operation", "outcome"],
        )?;
        let opts = HistogramOpts::new("directory_store_operation_seconds", "How long store calls took.");
        let seconds = HistogramVec::new(opts.buckets(BUCKETS.to_vec()), &["operation"])?;
        registry.register(Box::new(seconds.clone()))?;
        let retries = counter("directory_store_retries_total", "Repeated store calls.", &["operation"])?;
        let corrupt =
            counter("directory_store_corrupt_total", "Content that did not match its CID.", &["source"])?;
        let lookups = counter(
            "directory_store_cache_lookups_total",
            "Lookups in the content cache.",
            &["level", "result"],
        )?;
        let evictions =
            counter("directory_store_cache_evictions_total", "Records that made room.", &["level"])?;
        let bytes = IntGaugeVec::new(
            Opts::new("directory_store_cache_bytes", "Size of the content cache in bytes."),
            &["level"],
        )?;
        registry.register(Box::new(bytes.clone()))?;
        let level = |name: &str| LevelMetrics {
            hits: lookups.with_label_values(&[name, "hit"]),
            misses: lookups.with_label_values(&[name, "miss"]),
            bytes: bytes.with_label_values(&[name]),
            evictions: evictions.with_label_values(&[name]),
        };
        // What must not happen is on the page before it does: an increase can be seen only from a sample that is there.
        for operation in Operation::ALL {
            retries.with_label_values(&[operation.name()]);
            operations.with_label_values(&[operation.name(), outcome(Class::Unavailable)]);
        }
        for source in ["backend", "cache"] {
            corrupt.with_label_values(&[source]);
        }
        Ok(Arc::new(Self {
            succeeded: Operation::ALL.map(|o| operations.with_label_values(&[o.name(), "ok"])),
            seconds: Operation::ALL.map(|o| seconds.with_label_values(&[o.name()])),
            operations,
            retries,
            corrupt,
            memory: level("memory"),
            disk: level("disk"),
        }))
    }

    pub(crate) fn retried(&self, operation: Operation) {
        self.retries.with_label_values(&[operation.name()]).inc();
    }

    pub(crate) fn corrupt(&self, source: &str) {
        self.corrupt.with_label_values(&[source]).inc();
    }

    fn done(&self, operation: Operation, error: Option<&StoreError>) {
        match error {
            None => self.succeeded[operation as usize].inc(),
            Some(error) => {
                let outcome = outcome(error.class());
                self.operations.with_label_values(&[operation.name(), outcome]).inc();
                if let StoreError::Corrupt(mismatch) = error {
                    self.corrupt("backend");
                    tracing::error!(
                        operation = operation.name(),
                        cid = %mismatch.expected,
                        actual = %mismatch.actual,
                        "stored content does not match its CID; it was not handed out"
                    );
                }
            }
        }
    }
}

fn outcome(class: Class) -> &'static str {
    match class {
        Class::Invalid => "invalid",
        Class::NotFound => "not_found",
        Class::FailedPrecondition => "failed_precondition",
        Class::Unauthenticated => "unauthenticated",
        Class::Denied => "denied",
        Class::Exhausted => "exhausted",
        Class::Unavailable => "unavailable",
        Class::Timeout => "timeout",
        Class::Cancelled => "cancelled",
        Class::Unimplemented => "unimplemented",
        Class::Corrupt => "corrupt",
        Class::Internal => "internal",
    }
}

/// Counts and times every call.
pub struct MetricsStore {
    inner: Arc<dyn RecordStore>,
    metrics: Arc<StoreMetrics>,
}

impl MetricsStore {
    /// `inner`, counted in `metrics`.
    pub fn new(inner: Arc<dyn RecordStore>, metrics: Arc<StoreMetrics>) -> Self {
        Self { inner, metrics }
    }

    async fn watch<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let done = call.await;
        self.metrics.seconds[operation as usize].observe(begun.elapsed().as_secs_f64());
        self.metrics.done(operation, done.as_ref().err());
        done
    }
}

#[async_trait]
impl RecordStore for MetricsStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        self.watch(Operation::Put, self.inner.put(record, facts, at, presence)).await
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        self.watch(Operation::Get, self.inner.get(cid, known)).await
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.watch(Operation::Resolve, self.inner.resolve(cid)).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.watch(Operation::Delete, self.inner.delete(cid)).await
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.watch(Operation::PutReferrer, self.inner.put_referrer(subject, referrer, at)).await
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        self.watch(Operation::Referrers, self.inner.referrers(subject)).await
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.watch(Operation::ReferrerBytes, self.inner.referrer_bytes(subject, referrer)).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        self.watch(Operation::DeleteReferrer, self.inner.delete_referrer(subject, referrer)).await
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        let walk = self.inner.walk(from);
        Box::pin(walk.inspect(|item| self.metrics.done(Operation::Walk, item.as_ref().err())))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.watch(Operation::Ping, self.inner.ping()).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.watch(Operation::Close, self.inner.close()).await
    }
}
