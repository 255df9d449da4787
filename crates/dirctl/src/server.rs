//! What a server says of itself, as it is shown.

use crate::fail::Fail;
use dir_client::{Client, Kind};
use serde::Serialize;

/// The answer of `GetServerInfo`.
#[derive(Debug, Serialize)]
pub(crate) struct ServerInfo {
    version: String,
    api_versions: Vec<String>,
    trust_domain: String,
    auth_modes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jwt_audiences: Vec<String>,
    capabilities: Vec<String>,
    services: Vec<String>,
    limits: Limits,
}

#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // as on the wire
struct Limits {
    max_receive_bytes: u64,
    max_send_bytes: u64,
    max_concurrent_streams: u32,
}

impl ServerInfo {
    /// Asks the server; `None` from one that does not know the question.
    pub(crate) async fn ask(client: &Client) -> Result<Option<Self>, Fail> {
        let told = match client.server_info().await {
            Ok(told) => told,
            Err(error) if error.kind() == Kind::VersionSkew => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let limits = told.limits.unwrap_or_default();
        Ok(Some(Self {
            auth_modes: told.auth_modes().map(dir_client::auth_mode_name).collect(),
            version: told.version,
            api_versions: told.api_versions,
            trust_domain: told.trust_domain,
            jwt_audiences: told.jwt_audiences,
            capabilities: told.capabilities,
            services: told.services,
            limits: Limits {
                max_receive_bytes: limits.max_receive_bytes,
                max_send_bytes: limits.max_send_bytes,
                max_concurrent_streams: limits.max_concurrent_streams,
            },
        }))
    }

    /// For reading, line by line.
    pub(crate) fn lines(&self, mut line: impl FnMut(&str, &str)) {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        line("version", &format!("{}, API {}", self.version, self.api_versions.join(" ")));
        line("trust domain", &or_dash(self.trust_domain.clone()));
        line("auth modes", &or_dash(self.auth_modes.join(" ")));
        if !self.jwt_audiences.is_empty() {
            line("jwt audiences", &self.jwt_audiences.join(" "));
        }
        line("capabilities", &or_dash(self.capabilities.join(" ")));
        let Limits { max_receive_bytes, max_send_bytes, max_concurrent_streams } = self.limits;
        line(
            "limits",
            &format!(
                "{max_receive_bytes} bytes in, {max_send_bytes} bytes out, {max_concurrent_streams} streams"
            ),
        );
    }
}
