//! `serve`.

use crate::config::Loaded;
use crate::exit::{Failure, Status};

pub(crate) fn run(loaded: &Loaded) -> anyhow::Result<Status> {
    let errors: Vec<String> = loaded.errors().map(|p| format!("  {p}")).collect();
    if !errors.is_empty() {
        let text = format!("the configuration cannot be served:\n{}", errors.join("\n"));
        // A secret that is not mounted (yet) is no fault of the configuration.
        let only_secrets = loaded.errors().all(|problem| problem.is_missing_secret);
        let status = if only_secrets { Status::Secret } else { Status::Config };
        return Err(Failure::new(status, text).into());
    }
    crate::node::run(loaded)
}
