//! Typed client of a directory server.
//!
//! A [`Client`] is made from a [`ClientConfig`], connects when it is first used and again whenever the connection is
//! gone. Records travel as [`Document`]s and come back as `dir_core::Record`s whose bytes hash to their CID. Every
//! failure is a [`ClientError`]: what was attempted on which target and who named it, the cause, the next step.

pub mod address;
mod again;
pub mod bundle;
mod client;
mod codec;
pub mod config;
mod credentials;
mod dial;
mod discover;
mod document;
pub mod error;
mod exchange;
mod files;
mod jobs;
mod mismatch;
mod naming;
mod node;
pub mod probe;
mod search;
mod security;
pub mod settings;
mod spiffe;
mod status;
mod store;
mod tls;
mod watch;
mod watching;

pub use address::Address;
pub use client::Client;
pub use config::{AuthMode, ClientConfig, ExpectedServer, ExpectedServerError, Source, TlsFiles};
pub use credentials::TokenFacts;
pub use dir_proto::directory::admin::v1::{AccessRule, ExplainAccessResponse};
pub use document::{Document, DocumentError};
pub use error::{ClientError, Kind, exit};
pub use exchange::{WINDOW, WINDOW_BYTES};
pub use files::FileFacts;
pub use jobs::Job;
pub use naming::Named;
pub use node::{Health, auth_mode_name};
pub use search::{Cids, Records};
pub use store::{Lookup, Pull, Push};
pub use watching::Watch;

/// Messages of the API that callers fill and read themselves.
pub mod wire {
    pub use dir_proto::agntcy::dir::events::v1::EventType;
    pub use dir_proto::convert::core_timestamp as time;
    pub use dir_proto::directory::watch::v1::watch_response::Kind as WatchKind;
    pub use dir_proto::directory::watch::v1::{WatchRequest, WatchResponse};
}

/// A duration as people read it: `10 s`, `1.5 s`, `250 ms`.
fn seconds(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        _ if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
