//! `dir-admin federation`

use super::print;
use crate::cli::{Format, GlobalArgs};
use crate::report::{Failure, Report, Thresholds};
use clap::{Args, Subcommand};
use dir_client::{AuthMode, Client, ClientConfig, ClientError, Kind, exit, settings};
use dir_core::Clock;
use dir_runtime::SystemClock;
use std::sync::Arc;
use std::time::Duration;

/// The mode of a job that nobody told otherwise.
const AUTH_MODE: &str = "x509";
/// SVID, connection, answer, and one more attempt: a run takes no more than so many of its timeouts.
const STEPS: u32 = 4;

/// Trust bundles and trust domains
#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    Check(CheckArgs),
}

const EXAMPLES: &str = "\
Examples:
  dir-admin federation check --server-addr api.example.org:8888 \\
    --spiffe-socket-path unix:///run/spire/agent.sock
  dir-admin federation check --output json --warn-root-expiry 168h";

/// Ask a server, over mTLS with the own SVID, which trust bundles it holds
///
/// Reports how many bundles there are, how old they are and when the first root expires. Warns (exit code 10) of a
/// last root that expires soon, of bundles that are old or empty, and of clocks that disagree.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Warn of a bundle whose only root expires within this time (a CA of 24 hours has its successor by half-time)
    #[arg(long, default_value = "6h", value_name = "TIME", value_parser = settings::duration)]
    warn_root_expiry: Duration,
    /// Warn of bundles that were last received longer ago than this
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = settings::duration)]
    max_bundle_age: Duration,
    /// Warn when the clocks of client and server differ by more than this
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = settings::duration)]
    max_clock_skew: Duration,
}

pub(crate) async fn run(global: &GlobalArgs, command: FederationCommand) -> u8 {
    let FederationCommand::Check(args) = command;
    let thresholds = Thresholds {
        root_expiry: args.warn_root_expiry,
        bundle_age: args.max_bundle_age,
        clock_skew: args.max_clock_skew,
    };
    match check(global, &thresholds).await {
        Ok(report) => {
            print(&match global.output {
                Format::Human => report.line(),
                Format::Json => report.json(),
            });
            if report.warnings.is_empty() { exit::OK } else { exit::PARTIAL }
        }
        Err(failure) => {
            print(&match global.output {
                Format::Human => failure.line(),
                Format::Json => failure.json(),
            });
            if !failure.next.is_empty() {
                eprintln!("next: {}", failure.next);
            }
            failure.code
        }
    }
}

async fn check(global: &GlobalArgs, thresholds: &Thresholds) -> Result<Report, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let mut flags = global.flags();
    if flags.auth_mode.is_none() && env("DIRECTORY_CLIENT_AUTH_MODE").is_none_or(|mode| mode.is_empty()) {
        flags.auth_mode = Some(AUTH_MODE.to_owned());
    }
    let config = settings::client_config(&settings::Sources { flags: &flags, env: &env, profile: None })?;
    let config =
        ClientConfig { user_agent: concat!("dir-admin/", env!("CARGO_PKG_VERSION")).to_owned(), ..config };
    let bound = config.identity_timeout.saturating_mul(STEPS);
    let late = ClientError::new(
        Kind::Timeout,
        format!("check {} ({})", config.server_addr, config.server_addr_source),
        format!("not done within {} s", bound.as_secs_f64()),
        "",
    );
    let mode = config.auth_mode;
    tokio::time::timeout(bound, ask(config, mode, thresholds))
        .await
        .unwrap_or(Err(late))
        .map_err(Failure::from)
}

async fn ask(config: ClientConfig, mode: AuthMode, thresholds: &Thresholds) -> Result<Report, ClientError> {
    let clock = Arc::new(SystemClock);
    let client = Client::new(config, Arc::clone(&clock) as Arc<dyn Clock>).await?;
    let answer = client.server_identity().await?;
    let own = client.identity().map(|report| report.id.to_string());
    Ok(Report::new(client.address(), mode, own, &answer, clock.now(), thresholds))
}
