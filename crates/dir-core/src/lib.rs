//! Vocabulary and ports of the directory.
//!
//! This crate knows what a record, a CID, a query and a principal *are*, and which ports the rest of the
//! product talks through. It performs no IO, reads no clock and names no runtime: time, randomness and
//! environment are parameters.

pub mod bucket;
pub mod chain;
pub mod cid;
pub mod class;
pub mod event;
pub mod facts;
pub mod identity;
pub mod index;
pub mod json;
pub mod maintenance;
pub mod oci;
pub mod partners;
pub mod policy;
mod principal;
pub mod query;
pub mod record;
pub mod rules;
pub mod store;
pub mod time;
pub mod token;

pub use crate::time::{Clock, Timestamp};
pub use cid::{Cid, CidError, DigestError, digest_to_cid};
pub use class::{Class, Classified};
pub use event::{Event, EventKind};
pub use facts::RecordFacts;
pub use identity::{Peer, Principal, SpiffeId, TrustDomain};
pub use policy::Policy;
pub use record::Record;
pub use token::{TokenIdentity, TokenRefusal, TokenVerifier};
