//! Holds the dependency on the public Rust SDK; the suite is in `tests/live.rs`.
