//! `version`.

use crate::about;
use crate::cli::Output;
use crate::exit::Status;
use serde_json::json;

pub(crate) fn run(output: Output) -> anyhow::Result<Status> {
    let facts = json!({
        "name": about::NAME,
        "version": about::VERSION,
        "git_sha": about::git_sha(),
        "target": about::TARGET,
    });
    let text = match output {
        Output::Human => format!("{} {}\n", about::NAME, about::LONG_VERSION),
        Output::Json => format!("{facts}\n"),
        Output::Yaml => serde_saphyr::to_string(&facts)?,
    };
    super::print(&text)?;
    Ok(Status::Ok)
}
