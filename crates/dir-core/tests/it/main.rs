//! Everything in `tests/data/vectors.json`, and properties of the canonical form.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod json;
mod properties;
mod vectors;
