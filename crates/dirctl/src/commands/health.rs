//! `dirctl health`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use clap::Args;
use dir_client::{Health, exit};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dirctl health
  dirctl health --timeout 2s";

/// Ask whether the server serves (exit code 0) or not (75)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {
    /// Ask for one service instead of the whole server
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    status: &'a str,
    server: String,
}

pub(crate) async fn run(context: &Context, args: HealthArgs) -> Result<u8, Fail> {
    let client = context.client().await?;
    let health = client.health(&args.service).await?;
    match context.out.format {
        Format::Human => context.out.line(health.name())?,
        Format::Json | Format::Yaml => {
            context.out.value(&Answer { status: health.name(), server: client.address() })?;
        }
    }
    Ok(if health == Health::Serving { exit::OK } else { exit::TEMPORARY })
}
