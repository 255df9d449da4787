//! Adapters of the index port: what makes records findable.
//!
//! Memory answers, always. Every adapter can be rebuilt from the record store at any time.

mod chunk;
mod core;
mod cursor;
mod dict;
mod fold;
mod log;
mod memory;
mod pairs;
mod pattern;
mod plan;
mod posting;

pub use log::DEFAULT_EVENT_RETENTION;
pub use memory::{MemoryConfig, MemoryIndex};
