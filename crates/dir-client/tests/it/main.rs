//! The client against a server that behaves as a script says.

#![allow(clippy::unwrap_used)] // helpers of tests fail like tests

mod exchange;
mod fake;
mod faults;
mod files;
mod rotation;
mod spiffe;
mod token;
