//! `dirctl status`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use crate::server::ServerInfo;
use clap::Args;
use dir_client::{Client, Health, exit};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dirctl status
  dirctl status --profile prod --json | jq -r .info.version";

/// Show which server is used, as whom, and what it says of itself
///
/// Exit code 0 when it serves, 75 when it does not. What is wrong on this side: dirctl doctor.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {}

#[derive(Serialize)]
struct Report {
    profile: Option<String>,
    server: String,
    source: String,
    auth_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    health: &'static str,
    /// Absent for servers that do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<ServerInfo>,
}

#[derive(Serialize)]
struct Identity {
    spiffe_id: String,
    expires_at: String,
}

pub(crate) async fn run(context: &Context) -> Result<u8, Fail> {
    let (profile, config) = (context.profile()?, context.settings()?);
    let client = context.client().await?;
    let health = client.health("").await?;
    let report = Report {
        profile: profile.map(|p| p.name().to_owned()),
        server: client.address(),
        source: config.server_addr_source.to_string(),
        auth_mode: client.auth_mode().to_string(),
        identity: identity(&client),
        health: health.name(),
        info: ServerInfo::ask(&client).await?,
    };
    match context.out.format {
        Format::Human => context.out.line(report.lines().trim_end())?,
        Format::Json | Format::Yaml => context.out.value(&report)?,
    }
    Ok(if health == Health::Serving { exit::OK } else { exit::TEMPORARY })
}

fn identity(client: &Client) -> Option<Identity> {
    let report = client.identity()?;
    Some(Identity { spiffe_id: report.id.to_string(), expires_at: report.not_after.to_string() })
}

impl Report {
    fn lines(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<16} {value}\n"));
        line("profile", self.profile.as_deref().unwrap_or("-"));
        line("server", &format!("{} ({})", self.server, self.source));
        line("auth mode", &self.auth_mode);
        if let Some(identity) = &self.identity {
            line("identity", &format!("{}, until {}", identity.spiffe_id, identity.expires_at));
        }
        line("health", self.health);
        match &self.info {
            Some(info) => info.lines(&mut line),
            None => line("server info", "not told: the server does not know the call"),
        }
        text
    }
}
