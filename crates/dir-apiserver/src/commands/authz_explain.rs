//! `authz explain`: one decision, and why.

use super::authz::{broken, report};
use crate::authz::Source;
use crate::cli::Output;
use crate::exit::Status;
use dir_core::policy::{Asked, Explanation, Policy, RecordTraits, Rule, RuleEffect};
use dir_core::{Principal, Timestamp};
use serde_json::{Value, json};

pub(super) fn run(
    source: &Source,
    subject: &Principal,
    method: &str,
    at: Timestamp,
    record: Option<&RecordTraits>,
    output: Output,
) -> anyhow::Result<Status> {
    let policy = source.read().map_err(|e| broken(source, e))?.policy;
    let method = path_of(&policy, method);
    let asked = Asked { own: subject, claims: None, delegated: None };
    let found = match record {
        None => policy.explain_call(asked, &method, at),
        Some(record) => policy.explain_record(asked, &method, at, record),
    };
    let who = subject.as_str();
    let told = json!({
        "subject": who,
        "method": method,
        "at": at.rfc3339(),
        "decision": found.decision.effect.as_str(),
        "cause": found.reason(true),
        "rule": found.decision.rule.map(rule),
        "nearest": found.misses.iter().map(|miss| {
            let mut told = rule(miss.rule);
            told["difference"] = json!(miss.difference.as_str());
            told
        }).collect::<Vec<_>>(),
    });
    report(output, &told, || human(who, &method, &found))?;
    Ok(if found.decision.effect.goes_on() { Status::Ok } else { Status::Generic })
}

/// The path of a method, which may be named by its service and its own name when one service alone ends so.
fn path_of(policy: &Policy, method: &str) -> String {
    let path = format!("/{}", method.trim_start_matches('/'));
    let catalogue = policy.catalogue();
    if catalogue.find(&path).is_some() {
        return path;
    }
    let end = format!(".{}", method.trim_start_matches('/'));
    let mut ending = catalogue.iter().filter(|(_, known)| known.ends_with(&end));
    match (ending.next(), ending.next()) {
        (Some((_, only)), None) => only.to_owned(),
        _ => path,
    }
}

fn human(who: &str, method: &str, found: &Explanation<'_>) -> String {
    let word = found.decision.effect.as_str();
    let mut text = format!("{word}: {who} calling {method}\n  {}\n", found.reason(true));
    if let Some(rule) = found.decision.rule {
        text.push_str(&format!("  {}: {}\n", rule.place(), spelled(rule)));
    }
    for miss in &found.misses {
        text.push_str(&format!(
            "  nearest rule {} {}: {}\n",
            miss.rule.place(),
            miss.difference.as_str(),
            spelled(miss.rule)
        ));
    }
    text
}

fn spelled(rule: &Rule) -> String {
    let who: Vec<String> = rule.subjects.iter().map(ToString::to_string).collect();
    let effect = if rule.effect == RuleEffect::Deny { "deny" } else { "allow" };
    let end = rule.not_after.map(|end| format!(", until {end}")).unwrap_or_default();
    format!("{effect} {} to call {}{end}", who.join(", "), rule.methods_text)
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "line": rule.line,
        "effect": if rule.effect == RuleEffect::Deny { "deny" } else { "allow" },
        "subjects": rule.subjects.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "methods": rule.methods_text,
        "not_after": rule.not_after.map(Timestamp::rfc3339),
    })
}
