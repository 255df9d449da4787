//! The gRPC face of a node: services, the layer stack in one fixed order, and the serving loop.
//!
//! [`App`] is what is served; [`serve`] serves it on connections that somebody else has accepted (and, with
//! mTLS, authenticated). This crate alone makes a `tonic::Status`.

mod access;
mod app;
mod audit;
mod authz;
mod body;
mod codec;
mod conn;
mod cork;
mod delegated;
mod drive;
mod flood;
mod frames;
mod grant_limits;
mod guard;
mod guarded;
mod inflow;
mod job_metrics;
mod layers;
mod life;
mod message;
mod meter;
mod methods;
mod metrics;
mod outflow;
mod rate;
mod records;
mod retry;
mod routes;
mod serve;
mod services;
mod status;
mod timeout;
mod together;
mod token;

pub use app::{App, AppConfig, AppDeps, AppError};
pub use audit::{
    Audit, AuditConfig, AuditError, AuditSink, OpenAudit, RefusedHandshake, SecurityEvent, WhenFull,
};
pub use authz::Authorization;
pub use methods::method_catalogue;
pub use rate::{NoSuchMethod, Rate, RateConfig};
pub use serve::{Conn, ServeConfig, ServeEnd, plain_incoming, serve};
pub use services::info::{AuthMode, InfoConfig, ServerInfo};
pub use token::Tokens;
