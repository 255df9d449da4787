//! Fakes and conformance suites.

pub mod catalogue;
pub mod fake_registry;
pub mod fill;
pub mod generate;
pub mod index_conformance;
pub mod oracle;
pub mod store_conformance;
pub mod workload;
