//! `dir-admin version`

use super::print;
use crate::cli::{Format, GlobalArgs};
use clap::Args;
use dir_client::exit;

/// Version and platform, as `--version` prints them.
pub(crate) const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("DIR_ADMIN_TARGET"), ")");

/// Show the version of this program
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

pub(crate) fn run(global: &GlobalArgs) -> u8 {
    print(&match global.output {
        Format::Human => format!("dir-admin {TEXT}"),
        Format::Json => {
            serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "target": env!("DIR_ADMIN_TARGET")})
                .to_string()
        }
    });
    exit::OK
}
