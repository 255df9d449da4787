//! `completion SHELL`.

use crate::cli::Cli;
use crate::exit::Status;
use clap::CommandFactory;
use clap_complete::Shell;

pub(crate) fn run(shell: Shell) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), crate::about::NAME, &mut script);
    super::print(&String::from_utf8_lossy(&script))?;
    Ok(Status::Ok)
}
