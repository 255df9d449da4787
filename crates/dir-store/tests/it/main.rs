//! Every adapter under the conformance suite of the store port, and what is its own.
// Helpers of tests are tests: what they cannot do is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod crash;
mod damage;
mod data_dir;
mod data_dir_apart;
mod decorate;
mod layout;
mod layout_restart;
mod memory;
mod oci;
mod process;
mod real;
mod reshard;
mod reshard_deep;
