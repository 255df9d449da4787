//! `config check`: every fault at once.

use crate::cli::Output;
use crate::config::Loaded;
use crate::config::layers::Severity;
use crate::exit::Status;
use serde_json::json;

pub(crate) fn run(loaded: &Loaded, output: Output) -> anyhow::Result<Status> {
    let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
    let report = json!({
        "file": loaded.file,
        "errors": errors,
        "warnings": warnings,
        "problems": loaded.problems,
    });
    let text = match output {
        Output::Json => format!("{report:#}\n"),
        Output::Yaml => serde_saphyr::to_string(&report)?,
        Output::Human => human(loaded, errors, warnings),
    };
    super::print(&text)?;
    Ok(if errors == 0 { Status::Ok } else { Status::Config })
}

fn human(loaded: &Loaded, errors: usize, warnings: usize) -> String {
    let mut text = String::new();
    for problem in &loaded.problems {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        text.push_str(&format!("{word}: {problem}\n"));
    }
    let file = loaded.file.as_ref().map_or("no file".to_owned(), |f| f.display().to_string());
    text.push_str(&format!("{file}: {}, {}\n", count(errors, "error"), count(warnings, "warning")));
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
