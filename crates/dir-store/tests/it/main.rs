//! Every adapter under the conformance suite of the store port, and what is its own.
// Helpers of tests are tests: what they cannot do is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod crash;
mod data_dir;
mod decorate;
mod layout;
mod memory;
mod oci;
mod process;
mod real;
mod reshard;
