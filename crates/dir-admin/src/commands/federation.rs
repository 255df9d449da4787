//! `dir-admin federation`

use super::{connect, failed, partners, print};
use crate::cli::{Format, GlobalArgs};
use crate::report::{Failure, Report, Thresholds};
use clap::{Args, Subcommand};
use dir_client::{AuthMode, Client, ClientConfig, ClientError, exit, settings};
use dir_core::Clock;
use dir_runtime::SystemClock;
use std::sync::Arc;
use std::time::Duration;

/// Trust bundles and trust domains
#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    Check(CheckArgs),
    List(partners::ListArgs),
    Show(partners::ShowArgs),
    Refresh(partners::RefreshArgs),
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
    let args = match command {
        FederationCommand::Check(args) => args,
        FederationCommand::List(_) => return partners::list(global).await,
        FederationCommand::Show(args) => return partners::show(global, &args).await,
        FederationCommand::Refresh(args) => return partners::refresh(global, args).await,
    };
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
        Err(failure) => failed(global, "federation", &failure),
    }
}

async fn check(global: &GlobalArgs, thresholds: &Thresholds) -> Result<Report, Failure> {
    let config = connect::config(global)?;
    let bound = connect::bound(&config);
    let late = connect::late(&config, "check", bound);
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
