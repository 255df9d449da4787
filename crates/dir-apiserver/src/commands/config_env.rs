//! `config env`: the table of variables, or the whole reference page.

use crate::config::reference;
use crate::exit::Status;

pub(crate) fn run(markdown: bool) -> anyhow::Result<Status> {
    super::print(&if markdown { reference::markdown() } else { reference::variables_markdown() })?;
    Ok(Status::Ok)
}
