//! SPIFFE identity and mTLS.
//!
//! The Workload API pushes material; [`Identity`] turns every push into one coherent, verified [`TlsSnapshot`]
//! (SVID and all bundles together) that any number of readers share. [`accept_loop`] and [`Connector`] make
//! handshakes from the current snapshot, with verifiers that know the roots of each trust domain apart.
//! [`devapi`] is the embedded Workload API for development and tests.
//!
//! This is the only crate that sees a private key of an SVID.

mod acceptor;
mod apply;
mod bundle;
mod config;
mod connector;
pub mod devapi;
mod door;
mod error;
pub mod federation;
mod feed;
mod identity;
mod inspect;
mod ip_rate;
mod jwt;
mod leaf;
mod live;
mod metrics;
mod plain;
mod proto;
pub mod proxy;
mod refuse;
mod snapshot;
mod update;
mod verify;
mod watcher;

pub use acceptor::{Accepted, AcceptorConfig, ClientCertificate, DomainFilter, MinVersion, accept_loop};
pub use bundle::{BundleError, BundleSet, TrustBundle};
pub use config::{Role, StartupWait, WorkloadConfig};
pub use connector::{ConnectError, Connector, ServerCheck};
pub use door::{Origin, RefusedHook};
pub use error::{EndpointError, IdentityError, WaitReason};
pub use identity::{Health, Identity};
pub use inspect::{Seen, inspect};
pub use jwt::{JwtConfig, JwtSource, JwtSvid, JwtSvidError, JwtVerifier, TOKEN_MAX, judge_token};
pub use leaf::Leaf;
pub use plain::{PlainAccepted, PlainConfig, plain_loop};
pub use refuse::{Presented, Refusal, RefuseReason};
pub use snapshot::TlsSnapshot;
