//! `authz test`: a policy held against a table of expected decisions.

use super::authz::{Reading, broken, now, principal, report, time};
use crate::authz::read_bounded;
use crate::cli::Output;
use crate::config::Loaded;
use crate::exit::{Failure, Status};
use dir_core::policy::{Decision, Effect};
use dir_core::{Policy, Timestamp, TrustDomain};
use serde::Deserialize;
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Beside the table.
    policy: Option<PathBuf>,
    trust_domain: Option<String>,
    at: Option<String>,
    cases: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Option<String>,
    subject: String,
    method: String,
    expect: Expected,
    rule: Option<String>,
    at: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
    Unauthenticated,
}

impl Expected {
    const fn as_str(self) -> &'static str {
        match self {
            Expected::Allow => "allow",
            Expected::Deny => "deny",
            Expected::Unauthenticated => "unauthenticated",
        }
    }

    fn fits(self, effect: Effect) -> bool {
        match self {
            Expected::Allow => effect == Effect::Allow,
            Expected::Deny => effect == Effect::Deny,
            Expected::Unauthenticated => effect == Effect::Unauthenticated,
        }
    }
}

pub(super) fn run(
    cases: &Path,
    policy: Option<&Path>,
    reading: &Reading,
    loaded: &Loaded,
    output: Output,
) -> anyhow::Result<Status> {
    let bad = |text: String| Failure::new(Status::Config, format!("{}: {text}", cases.display()));
    let text = read_bounded(cases).map_err(|e| bad(e.to_string()))?;
    let table: Table = serde_saphyr::from_str(&text)
        .map_err(|e| bad(format!("is no table of cases: {}", e.without_snippet())))?;
    if table.cases.is_empty() {
        return Err(bad("has no cases: it would prove nothing".to_owned()).into());
    }
    let beside = table.policy.as_ref().map(|p| cases.parent().unwrap_or(Path::new("")).join(p));
    let mut source = reading.source(policy.or(beside.as_deref()), loaded);
    // What is tested is the policy, enforced or not.
    source.shadow = false;
    if let Some(name) = &table.trust_domain {
        let own: TrustDomain = name.parse().map_err(|e| bad(format!("trust_domain: {e}")))?;
        source.own = Some(own);
    }
    let policy = source.read().map_err(|e| broken(&source, e))?.policy;
    let at = table.at.as_deref().map(time).transpose().map_err(|e| bad(format!("at: {e}")))?;
    let mut outcomes = Vec::with_capacity(table.cases.len());
    for case in &table.cases {
        let line = case.referenced.line();
        outcomes.push(judge(&case.value, &policy, at).map_err(|e| bad(format!("{e} (line {line})")))?);
    }
    tell(&outcomes, &source.path, output)
}

struct Outcome {
    passed: bool,
    told: Value,
    text: String,
}

fn judge(case: &Case, policy: &Policy, at: Option<Timestamp>) -> Result<Outcome, String> {
    let who = principal(&case.subject).map_err(|e| format!("subject: {e}"))?;
    let at = case.at.as_deref().map(time).transpose()?.or(at).unwrap_or_else(now);
    let decision = policy.decide(&who, &case.method, at);
    let passed = case.expect.fits(decision.effect) && rule_fits(case, &decision);
    let (wanted, is) = (case.expect.as_str(), decision.effect.as_str());
    let rule = decision.rule.map(|r| r.id.as_str());
    let name = case.name.clone().unwrap_or_else(|| format!("{} {}", case.subject, case.method));
    let by = |rule: Option<&str>| rule.map(|r| format!(" by {r}")).unwrap_or_default();
    let text = if passed {
        format!("ok      {name}\n")
    } else {
        let wanted = format!("{wanted}{}", by(case.rule.as_deref()));
        format!("FAILED  {name}\n        expected {wanted}, got {is}{}: {}\n", by(rule), decision.reason())
    };
    let told = json!({
        "name": case.name,
        "subject": case.subject,
        "method": case.method,
        "expected": wanted,
        "expected_rule": case.rule,
        "decision": is,
        "rule": rule,
        "passed": passed,
    });
    Ok(Outcome { passed, told, text })
}

fn rule_fits(case: &Case, decision: &Decision<'_>) -> bool {
    case.rule.as_deref().is_none_or(|wanted| decision.rule.is_some_and(|r| r.id == wanted))
}

fn tell(outcomes: &[Outcome], policy: &Path, output: Output) -> anyhow::Result<Status> {
    let failed = outcomes.iter().filter(|o| !o.passed).count();
    let told = json!({
        "policy": policy,
        "cases": outcomes.iter().map(|o| &o.told).collect::<Vec<_>>(),
        "failed": failed,
    });
    report(output, &told, || {
        let lines: String = outcomes.iter().map(|o| o.text.as_str()).collect();
        format!("{lines}{}: {} cases, {failed} failed\n", policy.display(), outcomes.len())
    })?;
    Ok(if failed == 0 { Status::Ok } else { Status::Generic })
}
