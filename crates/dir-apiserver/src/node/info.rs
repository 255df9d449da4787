//! What this node tells clients of itself, over gRPC and on the ops listener.

use super::open::Opened;
use crate::config::keys::Config;
use dir_api::{App, AuthMode, InfoConfig, ServerInfo};
use dir_gateway::{Info, InfoSource, Limits};
use std::sync::{Arc, OnceLock};

/// The services, once they are up: the ops listener is there before them.
#[derive(Clone, Default)]
pub(super) struct Services(Arc<OnceLock<App>>);

impl Services {
    pub(super) fn are_up(&self, app: &App) {
        // Services come up once.
        let _ = self.0.set(app.clone());
    }
}

impl InfoSource for Services {
    fn info(&self) -> Option<Info> {
        self.0.get().map(|app| body(app.info()))
    }
}

fn body(info: ServerInfo) -> Info {
    Info {
        version: info.version,
        api_versions: info.api_versions,
        services: info.services,
        auth_modes: info.auth_modes.into_iter().map(AuthMode::name).collect(),
        jwt_audiences: info.jwt_audiences,
        trust_domain: info.trust_domain.map(|domain| domain.to_string()),
        capabilities: info.capabilities,
        limits: Limits {
            max_receive_bytes: info.max_receive_bytes,
            max_send_bytes: info.max_send_bytes,
            max_concurrent_streams: info.max_concurrent_streams,
        },
        now: info.now.to_string(),
    }
}

/// The facts that only the configuration knows.
pub(super) fn config(config: &Config, opened: &Opened) -> InfoConfig {
    let mut capabilities = Vec::new();
    let auth_mode = match &opened.held {
        None => AuthMode::None,
        Some(held) if held.tokens.is_some() => AuthMode::JwtSvid,
        Some(_) => AuthMode::X509Svid,
    };
    let audiences = if auth_mode == AuthMode::JwtSvid { &config.authn.audiences[..] } else { &[] };
    if opened.federation.is_some() {
        capabilities.push("federation");
    }
    InfoConfig {
        auth_modes: vec![auth_mode],
        jwt_audiences: audiences.to_vec(),
        max_concurrent_streams: config.connection.max_concurrent_streams,
        capabilities,
    }
}
