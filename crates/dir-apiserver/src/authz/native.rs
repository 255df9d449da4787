//! The native policy file: YAML into typed rules.

use dir_core::Timestamp;
use dir_core::policy::{Fault, NativeRule, POLICY_MAX_BYTES, PolicyError, RuleEffect, RuleLimits};
use serde::Deserialize;
use serde_saphyr::Spanned;

/// The only version of the format.
const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default)]
    rules: Vec<Spanned<RuleText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    /// For people only.
    #[serde(default, rename = "description")]
    _description: Option<String>,
    effect: EffectText,
    principals: Vec<String>,
    methods: Vec<String>,
    not_after: Option<String>,
    limits: Option<LimitsText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EffectText {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsText {
    rps: Option<u32>,
    burst: Option<u32>,
    max_streams: Option<u32>,
}

/// Reads the rules of a file.
pub(super) fn rules(text: &str) -> Result<Vec<NativeRule>, PolicyError> {
    let whole = |text: String| PolicyError::from(Fault { line: None, rule: None, text });
    if text.len() > POLICY_MAX_BYTES {
        return Err(whole(format!("the policy has more than {POLICY_MAX_BYTES} bytes")));
    }
    let document: Document = serde_saphyr::from_str(text)
        .map_err(|error| whole(format!("is no policy: {}", error.without_snippet())))?;
    if document.version != VERSION {
        let text =
            format!("version {} of the format is not known; write `version: {VERSION}`", document.version);
        return Err(whole(text));
    }
    let mut faults = Vec::new();
    let rules = document.rules.into_iter().filter_map(|rule| native(rule).map_err(|f| faults.push(f)).ok());
    let rules = rules.collect();
    if faults.is_empty() { Ok(rules) } else { Err(PolicyError { faults }) }
}

fn native(rule: Spanned<RuleText>) -> Result<NativeRule, Fault> {
    let line = usize::try_from(rule.referenced.line()).ok();
    let rule = rule.value;
    let not_after = match rule.not_after.as_deref().map(|text| (text, Timestamp::parse_rfc3339(text))) {
        None => None,
        Some((_, Some(end))) => Some(end),
        Some((text, None)) => {
            let text = format!("not_after \"{text}\" is no time; write 2027-06-30T00:00:00Z");
            return Err(Fault { line, rule: Some(rule.id), text });
        }
    };
    Ok(NativeRule {
        id: rule.id,
        line,
        effect: match rule.effect {
            EffectText::Allow => RuleEffect::Allow,
            EffectText::Deny => RuleEffect::Deny,
        },
        principals: rule.principals,
        methods: rule.methods,
        not_after,
        limits: rule.limits.map(|l| RuleLimits { rps: l.rps, burst: l.burst, max_streams: l.max_streams }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../examples/policies/organisation.yaml");

    #[test]
    fn the_example_is_read_with_its_lines() {
        let rules = rules(EXAMPLE).unwrap();
        let ids: Vec<&str> = rules.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["own-domain", "ops-admin", "no-ci-deletes", "partner-read"]);
        for rule in &rules {
            let line = EXAMPLE.lines().nth(rule.line.unwrap() - 1).unwrap();
            assert!(line.contains(&rule.id), "{} is not in {line}", rule.id);
        }
        assert_eq!(rules[3].not_after, Timestamp::parse_rfc3339("2031-06-30T00:00:00Z"));
        assert_eq!(rules[3].limits, Some(RuleLimits { rps: Some(50), burst: Some(100), max_streams: None }));
        assert_eq!(rules[2].effect, RuleEffect::Deny);
    }

    #[test]
    fn what_is_no_policy() {
        let fault = |text: &str| rules(text).unwrap_err().to_string();
        let rule = |more: &str| {
            format!(
                "version: 1\nrules:\n  - id: a\n    effect: allow\n    principals: [local]\n    methods: ['@read']\n{more}"
            )
        };
        assert!(rules(&rule("")).is_ok());
        assert!(fault(&rule("    resources: own\n")).contains("resources"));
        assert!(fault(&rule("    not_after: soon\n")).contains("not_after \"soon\" is no time"));
        assert!(fault(&rule("").replace("version: 1", "version: 2")).contains("version 2 of the format"));
        assert!(fault(&rule("").replace("allow", "maybe")).contains("maybe"));
        assert!(fault("p,acme.example,*\n").starts_with("is no policy"));
        assert!(fault("").starts_with("is no policy"));
        let large = format!("version: 1\n#{}", "x".repeat(POLICY_MAX_BYTES));
        assert!(fault(&large).contains("more than 1048576 bytes"));
    }
}
