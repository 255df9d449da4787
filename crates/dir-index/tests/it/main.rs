//! The adapters against the conformance suite, restarts and damage.

// Helpers of tests are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod durable;
mod memory;
mod owners;
mod saved;
mod span;
mod turns;
mod values;
mod work;
