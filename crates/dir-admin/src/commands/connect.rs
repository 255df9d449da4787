//! The way to a server, alike for every job that asks one.

use crate::cli::GlobalArgs;
use dir_client::settings::{self, SettingError};
use dir_client::{ClientConfig, ClientError, Kind};
use std::time::Duration;

/// The mode of a job that nobody told otherwise.
const AUTH_MODE: &str = "x509";
/// SVID, connection, answer, and one more attempt: one question takes no more than so many of its timeouts.
const STEPS: u32 = 4;

/// Settings of the client, from flags and environment.
pub(super) fn config(global: &GlobalArgs) -> Result<ClientConfig, SettingError> {
    let env = |name: &str| std::env::var(name).ok();
    let mut flags = global.flags();
    if flags.auth_mode.is_none() && env("DIRECTORY_CLIENT_AUTH_MODE").is_none_or(|mode| mode.is_empty()) {
        flags.auth_mode = Some(AUTH_MODE.to_owned());
    }
    let config = settings::client_config(&settings::Sources { flags: &flags, env: &env, profile: None })?;
    Ok(ClientConfig { user_agent: concat!("dir-admin/", env!("CARGO_PKG_VERSION")).to_owned(), ..config })
}

/// The longest that one question takes.
pub(super) fn bound(config: &ClientConfig) -> Duration {
    config.identity_timeout.saturating_mul(STEPS)
}

/// It took longer.
pub(super) fn late(config: &ClientConfig, what: &str, bound: Duration) -> ClientError {
    ClientError::new(
        Kind::Timeout,
        format!("{what} {} ({})", config.server_addr, config.server_addr_source),
        format!("not done within {} s", bound.as_secs_f64()),
        "",
    )
}
