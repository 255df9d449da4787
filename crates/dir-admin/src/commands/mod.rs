//! The commands, one file each.

pub(crate) mod audit;
pub(crate) mod completion;
mod connect;
pub(crate) mod federation;
mod mark;
mod partners;
pub(crate) mod store;
pub(crate) mod version;

use crate::cli::{Cli, Command, Format, GlobalArgs};
use crate::report::Failure;
use dir_client::exit;
use mark::Mark;
use std::io::{self, Write};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where the engine logs findings, which a job prints as well.
const FINDINGS: &str = "dir_engine::jobs::audit";

/// Runs a command to its exit code.
pub(crate) async fn run(cli: Cli) -> u8 {
    start_log();
    let (global, what, mark) = (cli.global.clone(), cli.command.name(), Mark::default());
    let ended = tokio::select! {
        biased;
        code = dispatch(cli, &mark) => Ok(code),
        code = stopped() => Err(code),
    };
    ended.unwrap_or_else(|code| failed(&global, what, &cut_off(code, &mark.get())))
}

/// Waits for a signal; the exit code that it asks for.
async fn stopped() -> u8 {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => tokio::select! {
            _ = term.recv() => exit::TEMPORARY,
            _ = int.recv() => exit::INTERRUPTED,
        },
        // Without handlers the signals do what they always do.
        _ => std::future::pending().await,
    }
}

fn cut_off(code: u8, mark: &str) -> Failure {
    let next = match mark {
        "" => "run it again".to_owned(),
        mark => format!("to go on where it was: --from {mark}"),
    };
    Failure::new("cancelled", "stopped before it was done".to_owned(), next, code).at(mark)
}

async fn dispatch(cli: Cli, mark: &Mark) -> u8 {
    match cli.command {
        Command::Audit(command) => audit::run(&cli.global, &command),
        Command::Federation(command) => federation::run(&cli.global, command).await,
        Command::Store(command) => store::run(&cli.global, command, mark).await,
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
    // A finding is told once, unless somebody wants the log of the job.
    let findings = if level == Level::WARN { Level::ERROR } else { level };
    let targets = Targets::new().with_default(level).with_target(FINDINGS, findings);
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let subscriber = tracing_subscriber::registry().with(targets);
    // A second subscriber cannot come about in `main`; if one were there, it would do.
    let _ = if var("DIRECTORY_LOGGER_LOG_FORMAT") == "json" {
        subscriber.with(log.json()).try_init()
    } else {
        subscriber.with(log).try_init()
    };
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
