//! `dirctl completion`

use super::Context;
use crate::cli::Cli;
use crate::fail::Fail;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use dir_client::exit;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  source <(dirctl completion bash)
  dirctl completion zsh > ~/.zfunc/_dirctl
  dirctl completion fish > ~/.config/fish/completions/dirctl.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionArgs {
    shell: Shell,
}

pub(crate) fn run(_context: &Context, args: &CompletionArgs) -> Result<u8, Fail> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dirctl", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(exit::OK)
}
