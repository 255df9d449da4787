//! `dirctl version`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use clap::Args;
use dir_client::exit;
use serde::Serialize;

/// Version and platform, as `--version` prints them.
pub(crate) const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("DIRCTL_TARGET"), ")");

const EXAMPLES: &str = "\
Examples:
  dirctl version
  dirctl version --server --json";

/// Show the version of this program, and of the server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VersionArgs {
    /// Ask the server for its version too
    #[arg(long)]
    server: bool,
}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
}

pub(crate) async fn run(context: &Context, args: VersionArgs) -> Result<u8, Fail> {
    let server_version =
        if args.server { Some(context.client().await?.server_identity().await?.version) } else { None };
    match context.out.format {
        Format::Human => {
            context.out.line(format!("dirctl {TEXT}"))?;
            if let Some(version) = &server_version {
                context.out.line(format!("server {version}"))?;
            }
        }
        Format::Json | Format::Yaml => context.out.value(&Versions {
            version: env!("CARGO_PKG_VERSION"),
            target: env!("DIRCTL_TARGET"),
            server_version,
        })?,
    }
    Ok(exit::OK)
}
