//! `directory.info.v1.ServerInfoService`: what a client has to know, worked out from what is really configured.

use super::rpc::{self, encode};
use crate::app::{App, Inner};
use crate::body::RequestBody;
use crate::methods;
use crate::routes::Route;
use dir_core::{Timestamp, TrustDomain};
use dir_proto::convert;
use dir_proto::directory::info::v1 as pb;
use http::{Request, Response};
use std::collections::BTreeSet;
use tonic::body::Body;

/// Versions of the public API that every client of which finds its calls here.
const API_VERSIONS: [&str; 2] = ["1.7", "1.8"];

/// A way to say who is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Nobody is authenticated.
    None,
    /// mTLS with an X.509-SVID.
    X509Svid,
    /// A JWT-SVID with every call.
    JwtSvid,
}

impl AuthMode {
    /// Its name outside of protobuf: `none`, `x509_svid`, `jwt_svid`.
    pub const fn name(self) -> &'static str {
        match self {
            AuthMode::None => "none",
            AuthMode::X509Svid => "x509_svid",
            AuthMode::JwtSvid => "jwt_svid",
        }
    }

    const fn wire(self) -> pb::AuthMode {
        match self {
            AuthMode::None => pb::AuthMode::None,
            AuthMode::X509Svid => pb::AuthMode::X509Svid,
            AuthMode::JwtSvid => pb::AuthMode::JwtSvid,
        }
    }
}

/// What `GetServerInfo` says beyond what the services know themselves.
#[derive(Debug, Clone)]
pub struct InfoConfig {
    /// Ways to authenticate, preferred first.
    pub auth_modes: Vec<AuthMode>,
    /// Audiences of which a JWT-SVID must name one.
    pub jwt_audiences: Vec<String>,
    /// Streams a connection may have open at once.
    pub max_concurrent_streams: u32,
    /// What is switched on outside of the services.
    pub capabilities: Vec<&'static str>,
}

impl Default for InfoConfig {
    fn default() -> Self {
        Self {
            auth_modes: vec![AuthMode::None],
            jwt_audiences: Vec::new(),
            max_concurrent_streams: 0,
            capabilities: Vec::new(),
        }
    }
}

/// What a client has to know of this server.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Version of the server binary.
    pub version: String,
    /// Versions of the public API.
    pub api_versions: Vec<&'static str>,
    /// Services that are offered, sorted.
    pub services: Vec<String>,
    /// Ways to authenticate, preferred first.
    pub auth_modes: Vec<AuthMode>,
    /// Audiences of which a JWT-SVID must name one.
    pub jwt_audiences: Vec<String>,
    /// The server's own trust domain.
    pub trust_domain: Option<TrustDomain>,
    /// What is switched on, sorted.
    pub capabilities: Vec<&'static str>,
    /// Largest message that is received, in bytes.
    pub max_receive_bytes: u64,
    /// Largest message that is sent, in bytes.
    pub max_send_bytes: u64,
    /// Streams a connection may have open at once.
    pub max_concurrent_streams: u32,
    /// The server's clock.
    pub now: Timestamp,
}

impl App {
    /// What a client has to know of this server, at this moment.
    pub fn info(&self) -> ServerInfo {
        info(&self.0)
    }
}

fn info(app: &Inner) -> ServerInfo {
    let config = &app.config;
    let mut capabilities: BTreeSet<&'static str> = config.info.capabilities.iter().copied().collect();
    capabilities.extend(app.authorization.is_some().then_some("authorization"));
    capabilities.extend(app.limiter.is_some().then_some("rate-limits"));
    capabilities.extend(["reflection", "resumable-watch"]);
    let bytes = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
    ServerInfo {
        version: config.version.clone(),
        api_versions: API_VERSIONS.to_vec(),
        services: services(),
        auth_modes: config.info.auth_modes.clone(),
        jwt_audiences: config.info.jwt_audiences.clone(),
        trust_domain: app.identity.as_ref().and_then(|i| i.report()).map(|r| r.id.trust_domain().clone()),
        capabilities: capabilities.into_iter().collect(),
        max_receive_bytes: bytes(config.max_recv_msg_size),
        max_send_bytes: bytes(config.max_send_msg_size),
        max_concurrent_streams: config.info.max_concurrent_streams,
        now: app.clock.now(),
    }
}

/// Services of which at least one method is answered.
fn services() -> Vec<String> {
    let offered = methods::paths().filter(|path| Route::of(path) != Route::Unimplemented);
    let named = offered.filter_map(|path| Some(path.strip_prefix('/')?.split_once('/')?.0.to_owned()));
    named.collect::<BTreeSet<_>>().into_iter().collect()
}

pub(crate) async fn server_info(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |_: pb::GetServerInfoRequest| async move {
        let info = info(app);
        Ok(encode(&pb::GetServerInfoResponse {
            version: info.version,
            api_versions: info.api_versions.into_iter().map(str::to_owned).collect(),
            services: info.services,
            auth_modes: info.auth_modes.into_iter().map(|mode| mode.wire().into()).collect(),
            jwt_audiences: info.jwt_audiences,
            trust_domain: info.trust_domain.map_or_else(String::new, |domain| domain.to_string()),
            capabilities: info.capabilities.into_iter().map(str::to_owned).collect(),
            limits: Some(pb::Limits {
                max_receive_bytes: info.max_receive_bytes,
                max_send_bytes: info.max_send_bytes,
                max_concurrent_streams: info.max_concurrent_streams,
            }),
            now: Some(convert::timestamp(info.now)),
        }))
    })
    .await
}
