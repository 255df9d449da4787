//! The real binary against a node that answers `GetIdentity`, over mTLS with development SVIDs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail like tests

mod audit;
mod federation;
mod killed;
mod offline;
mod world;
