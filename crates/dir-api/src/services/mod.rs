//! The services. Handlers work on message bytes; each says how its own are read and written.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod events;
pub(crate) mod federation;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod jobs;
pub(crate) mod listing;
pub(crate) mod naming;
pub(crate) mod reflection;
pub(crate) mod rpc;
pub(crate) mod search;
pub(crate) mod store;
pub(crate) mod watch;
