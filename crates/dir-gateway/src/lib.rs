//! HTTP beside the gRPC port: the ops listener that probes and scrapers ask.

pub mod headers;
pub mod ops;
mod server;

pub use ops::{
    About, ComponentHealth, HealthReport, HealthSource, Info, InfoSource, Limits, OpsState, Status, router,
};
pub use server::{HEADER_TIMEOUT, MAX_CONNECTIONS, serve};
