//! Fuzz targets: functions that take any bytes and panic when something does not hold that must hold for all of them.
//!
//! `make test` runs each over its corpus and a few thousand mutations of it ([`mutate`]); `make fuzz` hands the same
//! functions to libFuzzer, which looks at coverage, for as long as one likes. What it finds belongs into
//! `fuzz/corpus/<target>/`.

// A target fails by panicking.
#![allow(clippy::panic, clippy::expect_used)]

pub mod mutate;
mod targets;

pub use targets::{
    bundle_jwks, canonical_json, certificate_leaf, first_bytes, jwt_token, policy_csv, spiffe_id, wire_walk,
};

/// A target: its name, which is also that of its corpus and of its libFuzzer binary, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("spiffe_id", spiffe_id),
    ("certificate_leaf", certificate_leaf),
    ("first_bytes", first_bytes),
    ("bundle_jwks", bundle_jwks),
    ("policy_csv", policy_csv),
    ("wire_walk", wire_walk),
    ("canonical_json", canonical_json),
    ("jwt_token", jwt_token),
];
