//! The real binary as a process: starting, refusing, stopping, crashing.

// Test helpers fail by panicking; clippy exempts only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod audit;
mod authz;
mod authz_commands;
mod boot;
mod client;
mod commands;
mod crash;
mod damage;
mod exit_codes;
mod federation;
mod jwt;
mod lab;
mod life;
mod metrics;
mod node;
mod owners;
mod raw;
mod secrets;
mod start;
mod stop;
mod usage;
mod watch;
