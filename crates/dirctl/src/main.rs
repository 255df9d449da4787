//! The directory's command line.

mod cids;
mod cli;
mod commands;
#[cfg(test)]
mod docs;
mod documents;
mod fail;
mod json;
mod numbers;
mod output;
mod profiles;
mod progress;
mod report;
mod server;
mod words;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Fails only when a provider is already installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(error) = dir_runtime::process::keep_memory_private() {
        eprintln!("error: cannot switch core dumps off: {error}");
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::try_parse().unwrap_or_else(|error| words::pointed(error).exit());
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(commands::run(cli));
            // Reads from a terminal cannot be cancelled; the process does not wait for them.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
