//! The real binary against a real node in this process, with memory behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail like tests

mod bundle;
mod doctor;
mod errors;
mod modes;
mod node;
mod profiles;
mod records;
mod spiffe;
mod verify;
mod watching;
