//! Decoding, the structural check, and a schema server on loopback.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod decoding;
mod examples;
mod server;
mod structure;

use dir_core::RecordFacts;
use dir_core::json::Doc;

fn doc(text: &str) -> Doc {
    Doc::parse(text.as_bytes()).unwrap()
}

fn facts(text: &str) -> RecordFacts {
    dir_oasf::facts(&doc(text)).unwrap()
}
