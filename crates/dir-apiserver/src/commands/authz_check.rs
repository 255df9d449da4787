//! `authz check`: everything that is wrong with a policy, or worth knowing.

use super::authz::report;
use crate::authz::{Source, matching_name};
use crate::cli::Output;
use crate::exit::Status;
use dir_core::policy::{Fault, Warning};
use serde_json::{Value, json};

pub(super) fn run(source: &Source, output: Output) -> anyhow::Result<Status> {
    let (rules, errors, noticed) = match source.read() {
        Ok(loaded) => (loaded.policy.rules().len(), Vec::new(), loaded.warnings),
        Err(error) => (0, error.faults(), Vec::new()),
    };
    let (findings, warnings): (Vec<Warning>, Vec<Warning>) =
        noticed.into_iter().partition(|w| w.kind.is_finding());
    let format = if source.native().is_some() { "native" } else { "csv" };
    let told = json!({
        "file": source.path,
        "format": format,
        "matching": source.native().is_none().then(|| matching_name(source.matching)),
        "rules": rules,
        "errors": errors.iter().map(fault).collect::<Vec<_>>(),
        "findings": findings.iter().map(warning).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
    });
    report(output, &told, || {
        let mut text = String::new();
        for error in &errors {
            text.push_str(&format!("error: {error}\n"));
        }
        for (word, list) in [("finding", &findings), ("warning", &warnings)] {
            for entry in list {
                text.push_str(&format!("{word}: {entry}\n"));
            }
        }
        let counts = (errors.len(), findings.len(), warnings.len());
        let path = source.path.display();
        let (errors, findings, warnings) = counts;
        text.push_str(&format!(
            "{path}: {rules} rules, {errors} errors, {findings} findings, {warnings} warnings\n"
        ));
        text
    })?;
    Ok(if errors.is_empty() && findings.is_empty() { Status::Ok } else { Status::Config })
}

fn fault(fault: &Fault) -> Value {
    json!({"line": fault.line, "rule": fault.rule, "text": fault.text})
}

fn warning(warning: &Warning) -> Value {
    let mut told = fault(&warning.at);
    told["kind"] = json!(warning.kind.as_str());
    told
}
