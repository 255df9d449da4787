//! Adapters of the store port: record bytes in an OCI image layout directory, in an OCI registry, or in memory,
//! and decorators that stand in front of any of them.
//!
//! The layout of a registry or directory is known to this crate alone; callers speak CIDs. What is read is
//! compared with its CID before it leaves: content that does not match is an error and nothing else.

mod artifact;
mod cache;
mod data_dir;
mod decorate;
mod layout;
mod limits;
mod memory;
mod memory_maintain;
mod oci;

pub use cache::{CacheConfig, CacheStore};
pub use data_dir::{DataDirConfig, DataDirStore};
pub use decorate::{
    MetricsStore, RetryConfig, RetryStore, StackConfig, StoreMetrics, TimeoutConfig, TimeoutStore, decorate,
};
pub use layout::{DEFAULT_SEGMENT_BYTES, LayoutConfig, LayoutStore};
pub use limits::{DEFAULT_MAX_BLOB_BYTES, DEFAULT_MAX_MANIFEST_BYTES, Limits};
pub use memory::MemoryStore;
pub use oci::{Credentials, DEFAULT_REGISTRY_ADDRESS, DEFAULT_REPOSITORY, Layout, OciConfig, OciStore};
