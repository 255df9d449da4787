//! A node in process, over plaintext loopback, driven by the generated clients and by bare HTTP/2.

// Helpers of tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod attacks;
mod audit;
mod authz;
mod delegation;
mod events;
mod frames;
mod jobs;
mod life;
mod listing;
mod naming;
mod narrowed;
mod node;
mod protocol;
mod push;
mod rate;
mod search;
mod services;
mod store;
mod telemetry;
mod texts;
mod watch;
