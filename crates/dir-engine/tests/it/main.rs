//! Use cases over the memory adapters, with stores and indexes that fail on command.

// Helpers of tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod events;
mod ingest;
mod reads;
mod rebuild;
mod reconcile;
mod requests;
mod usage;
mod watching;
mod world;
