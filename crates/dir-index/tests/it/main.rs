//! The adapters against the conformance suite, crashes and damage.

// Helpers of tests are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod durable;
mod memory;
