//! Decorators: the same port in front of any adapter.
//!
//! From the outside in: cache, metrics, timeout, retry, adapter. So a cache hit costs nothing of the rest, the metrics
//! show what a caller waited for, and all attempts of an operation with the pauses between them have one time limit: a
//! backend that hangs is given up after 30 s (a delete after 120 s), not after that for each attempt.

pub(crate) mod metrics;
mod retry;
mod timeout;

pub use metrics::{MetricsStore, StoreMetrics};
pub use retry::{RetryConfig, RetryStore};
pub use timeout::{TimeoutConfig, TimeoutStore};

use crate::cache::{CacheConfig, CacheStore};
use dir_core::store::{RecordStore, StoreError};
use std::sync::Arc;

/// The operations of the port, as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get,
    Resolve,
    Delete,
    PutReferrer,
    Referrers,
    ReferrerBytes,
    DeleteReferrer,
    Walk,
    Ping,
    Close,
}

impl Operation {
    pub(crate) const ALL: [Operation; 11] = [
        Operation::Put,
        Operation::Get,
        Operation::Resolve,
        Operation::Delete,
        Operation::PutReferrer,
        Operation::Referrers,
        Operation::ReferrerBytes,
        Operation::DeleteReferrer,
        Operation::Walk,
        Operation::Ping,
        Operation::Close,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Resolve => "resolve",
            Operation::Delete => "delete",
            Operation::PutReferrer => "put_referrer",
            Operation::Referrers => "referrers",
            Operation::ReferrerBytes => "referrer_bytes",
            Operation::DeleteReferrer => "delete_referrer",
            Operation::Walk => "walk",
            Operation::Ping => "ping",
            Operation::Close => "close",
        }
    }
}

/// What stands in front of an adapter.
#[derive(Debug, Clone, Default)]
pub struct StackConfig {
    /// Time limits of each operation, all its attempts together.
    pub timeout: TimeoutConfig,
    /// Attempts.
    pub retry: RetryConfig,
    /// The content cache; `None` leaves it out.
    pub cache: Option<CacheConfig>,
}

/// Puts every decorator in front of `adapter`. Blocks when the cache has a directory: it is read.
///
/// # Errors
/// [`StoreError::Unavailable`] when the cache's directory cannot be used.
pub fn decorate(
    adapter: Arc<dyn RecordStore>,
    config: &StackConfig,
    metrics: &Arc<StoreMetrics>,
) -> Result<Arc<dyn RecordStore>, StoreError> {
    let store: Arc<dyn RecordStore> = Arc::new(RetryStore::new(adapter, config.retry, Arc::clone(metrics)));
    let store: Arc<dyn RecordStore> = Arc::new(TimeoutStore::new(store, config.timeout));
    let store: Arc<dyn RecordStore> = Arc::new(MetricsStore::new(store, Arc::clone(metrics)));
    Ok(match &config.cache {
        Some(cache) => Arc::new(CacheStore::new(store, cache, Arc::clone(metrics))?),
        None => store,
    })
}
