//! The commands, one file each.

pub(crate) mod audit;
pub(crate) mod completion;
mod connect;
pub(crate) mod federation;
mod partners;
pub(crate) mod store;
pub(crate) mod version;

use crate::cli::{Cli, Command, Format, GlobalArgs};
use crate::report::Failure;
use dir_client::exit;
use std::io::{self, Write};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

/// Runs a command to its exit code.
pub(crate) async fn run(cli: Cli) -> u8 {
    start_log();
    let stopped = async {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut term), Ok(mut int)) => tokio::select! { _ = term.recv() => (), _ = int.recv() => () },
            // Without handlers the signals do what they always do.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        code = dispatch(cli) => code,
        () = stopped => {
            eprintln!("stopped before it was done");
            exit::TEMPORARY
        }
    }
}

async fn dispatch(cli: Cli) -> u8 {
    match cli.command {
        Command::Audit(command) => audit::run(&cli.global, &command),
        Command::Federation(command) => federation::run(&cli.global, command).await,
        Command::Store(command) => store::run(&cli.global, command).await,
        Command::Version(_) => version::run(&cli.global),
        Command::Completion(args) => completion::run(&args),
    }
}

/// Warnings to stderr; `DIRECTORY_LOGGER_LOG_LEVEL` and `DIRECTORY_LOGGER_LOG_FORMAT` as everywhere else, but never
/// more than what says something about the job.
fn start_log() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let level = match var("DIRECTORY_LOGGER_LOG_LEVEL").to_ascii_uppercase().as_str() {
        "DEBUG" => Level::DEBUG,
        "INFO" => Level::INFO,
        "ERROR" => Level::ERROR,
        _ => Level::WARN,
    };
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).with_ansi(false);
    // A second subscriber cannot come about in `main`; if one were there, it would do.
    let _ = if var("DIRECTORY_LOGGER_LOG_FORMAT") == "json" { log.json().try_init() } else { log.try_init() };
}

/// Writes a result to stdout. Nobody there to read it is no failure of the job.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
}

/// Says why there is no result, and what to do; the exit code.
fn failed(global: &GlobalArgs, what: &str, failure: &Failure) -> u8 {
    print(&match global.output {
        Format::Human => failure.line(what),
        Format::Json => failure.json(),
    });
    if !failure.next.is_empty() {
        eprintln!("next: {}", failure.next);
    }
    failure.code
}
