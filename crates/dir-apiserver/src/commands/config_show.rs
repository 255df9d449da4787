//! `config show`: every key, its value, and where the value comes from.

use crate::cli::Output;
use crate::config::Loaded;
use crate::config::layers::{Entry, Source};
use crate::exit::Status;
use serde_json::Value;

pub(crate) fn run(loaded: &Loaded, changed: bool, output: Output) -> anyhow::Result<Status> {
    let entries: Vec<&Entry> =
        loaded.entries.iter().filter(|e| !changed || e.source != Source::Default).collect();
    let text = match output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&entries)?),
        // Through a JSON value: an enumeration with content has no shape of its own in YAML.
        Output::Yaml => serde_saphyr::to_string(&serde_json::to_value(&entries)?)?,
        Output::Human => human(&entries),
    };
    super::print(&text)?;
    for problem in loaded.errors() {
        eprintln!("error: {problem}");
    }
    Ok(Status::Ok)
}

fn human(entries: &[&Entry]) -> String {
    let value = |e: &Entry| match &e.value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let widest = |of: &dyn Fn(&Entry) -> usize| entries.iter().map(|e| of(e)).max().unwrap_or_default();
    let keys = widest(&|e| e.key.len());
    let values = widest(&|e| value(e).chars().count()).min(50);
    let mut text = format!("{:keys$}  {:values$}  SOURCE\n", "KEY", "VALUE");
    for entry in entries {
        text.push_str(&format!("{:keys$}  {:values$}  {}\n", entry.key, value(entry), entry.source));
    }
    text
}
