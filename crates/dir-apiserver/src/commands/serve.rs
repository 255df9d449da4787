//! `serve`.

use crate::config::Loaded;
use crate::exit::{Failure, Status};

pub(crate) fn run(loaded: &Loaded) -> anyhow::Result<Status> {
    let errors: Vec<String> = loaded.errors().map(|p| format!("  {p}")).collect();
    if !errors.is_empty() {
        let text = format!("the configuration cannot be served:\n{}", errors.join("\n"));
        return Err(Failure::new(Status::Config, text).into());
    }
    crate::node::run(loaded)
}
