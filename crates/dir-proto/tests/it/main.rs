//! Holds `/proto` against the tables of the public API in `tests/data`, and the conversions against their rules.

#![allow(clippy::expect_used, clippy::panic, reason = "a test helper that cannot go on is a failed test")]

mod comments;
mod convert;
mod facts;
mod rules;
mod wire;

use prost_reflect::DescriptorPool;

/// The committed descriptors, with extensions resolved.
fn pool() -> DescriptorPool {
    DescriptorPool::decode(dir_proto::FILE_DESCRIPTOR_SET).expect("the committed descriptor set decodes")
}
