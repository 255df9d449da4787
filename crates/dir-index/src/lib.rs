//! Adapters of the index port: what makes records findable.
//!
//! Memory answers, always: [`MemoryIndex`] keeps nothing else, [`SledIndex`] writes every change to disk first
//! and loads what is there when it opens. Either can be rebuilt from the record store at any time.

mod chunk;
mod codec;
mod core;
mod cursor;
mod dict;
mod durable;
mod fold;
mod frozen;
mod holes;
mod image;
mod label;
mod log;
mod members;
mod memory;
mod order;
mod packed;
mod pairs;
mod pattern;
mod plan;
mod popular;
mod posting;
mod postings;
mod quote;
mod rank;
mod sketch;
mod texts;
mod values;

pub use durable::{
    DEFAULT_CACHE_BYTES, MIN_CACHE_BYTES, Opened, SetAside, SledConfig, SledIndex, open_or_set_aside,
};
pub use log::{DEFAULT_EVENT_RETENTION, first_seq};
pub use memory::{MemoryConfig, MemoryIndex};
pub use pattern::MAX_WILDCARD_BYTES;
pub use plan::{MAX_FILTERS, MAX_HOLES};
