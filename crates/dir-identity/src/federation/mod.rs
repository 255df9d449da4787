//! Federation: the bundles of partner trust domains, fetched and kept up to date, and our own for them to fetch.
//!
//! The Workload API delivers foreign bundles only to workloads whose registration entry names the partner, and such
//! an entry cannot even be made while the partner's bundle is missing. [`Federation`] obtains bundles on its own, so
//! that a partner that is down, slow or lying changes nothing for anybody else. [`BundleEndpoint`] publishes ours.
//!
//! For each trust domain one source counts, never a union: the Workload API, else what was fetched, else the
//! bootstrap file.

mod address;
mod config;
mod disk;
mod document;
mod error;
mod fetch;
pub(crate) mod json;
mod keeper;
mod manager;
mod metrics;
mod once;
mod partner;
mod publish;
mod schedule;

pub use config::{
    BACKOFF_MAX, Endpoint, FETCH_LIMIT, FederationConfig, Partner, REFRESH_MAX, REFRESH_MIN,
    REFRESH_UNHINTED, STALE_AFTER,
};
pub use document::{BundleDocument, DOCUMENT_MAX, DocumentError};
pub use error::{FederationError, FetchError};
pub use manager::{Federation, PartnerStatus};
pub use once::{Bundle, Once, OnceError, Vouched, root_fingerprint};
pub use publish::{BundleEndpoint, PublishConfig};
