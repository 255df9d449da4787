//! The adapters against the conformance suite, crashes and damage.

mod memory;
