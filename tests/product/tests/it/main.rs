//! Tests of the whole product on loopback.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test may fail loudly

mod abuse;
mod catalogue;
mod client_modes;
mod comparison;
mod interop;
mod layers;
mod partners;
mod passthrough;
mod rolling;
mod rotation;
mod store_jobs;
mod verify;
