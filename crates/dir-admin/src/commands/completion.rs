//! `dir-admin completion`

use crate::cli::Cli;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use dir_client::exit;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(dir-admin completion bash)")]
pub(crate) struct CompletionArgs {
    shell: Shell,
}

pub(crate) fn run(args: &CompletionArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dir-admin", &mut script);
    super::print(&String::from_utf8_lossy(&script));
    exit::OK
}
