//! Tests against real SPIRE and real Zot: `make test-world`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test may fail loudly

mod federation;
mod jwt;
mod life;
mod partners;
mod store;
mod story;
mod support;
