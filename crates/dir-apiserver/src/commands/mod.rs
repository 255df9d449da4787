//! One file a command. Standard output is data, standard error is talk.

pub(crate) mod authz;
mod authz_check;
mod authz_explain;
mod authz_test;
pub(crate) mod completion;
pub(crate) mod config_check;
pub(crate) mod config_env;
pub(crate) mod config_explain;
pub(crate) mod config_show;
pub(crate) mod serve;
pub(crate) mod version;

use std::io::{self, Write};

/// Writes to standard output. A reader that went away (`… | head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
