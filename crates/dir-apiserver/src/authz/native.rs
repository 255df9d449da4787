//! The native policy file: YAML into typed rules.

use dir_core::Timestamp;
use dir_core::policy::{
    Conditions, Fault, NativeRule, Ownership, POLICY_MAX_BYTES, PolicyError, Role, RoleBinding, RuleEffect,
    RuleLimits,
};
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
    #[serde(default)]
    roles: Vec<Spanned<RoleText>>,
}

/// What a file says.
pub(super) struct Native {
    pub(super) rules: Vec<NativeRule>,
    pub(super) roles: Vec<RoleBinding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleText {
    role: String,
    /// For people only.
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    principals: Vec<String>,
    #[serde(default)]
    claims: Vec<String>,
    trust_domain: Option<String>,
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
    resources: Option<ResourcesText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourcesText {
    owner: Option<OwnerText>,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize)]
enum OwnerText {
    #[serde(rename = "self")]
    Own,
    #[serde(rename = "other")]
    Other,
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

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Native, PolicyError> {
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
    let bound = document.roles.into_iter().filter_map(|role| binding(role).map_err(|f| faults.push(f)).ok());
    let bound = bound.collect();
    if faults.is_empty() { Ok(Native { rules, roles: bound }) } else { Err(PolicyError { faults }) }
}

fn binding(binding: Spanned<RoleText>) -> Result<RoleBinding, Fault> {
    let line = usize::try_from(binding.referenced.line()).ok();
    let binding = binding.value;
    let Some(role) = Role::of(&binding.role) else {
        let names = Role::ALL.map(Role::as_str).join(", ");
        let text = format!("there is no role \"{}\"; there are {names}", binding.role);
        return Err(Fault { line, rule: None, text });
    };
    Ok(RoleBinding {
        role,
        line,
        principals: binding.principals,
        claims: binding.claims,
        trust_domain: binding.trust_domain,
    })
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
        resources: rule.resources.map(conditions),
    })
}

fn conditions(resources: ResourcesText) -> Conditions {
    let owner = resources.owner.map(|owner| match owner {
        OwnerText::Own => Ownership::Own,
        OwnerText::Other => Ownership::Other,
    });
    Conditions { owner, labels: resources.labels }
}

#[cfg(test)]
#[path = "native_mutated.rs"]
mod mutated;

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../examples/policies/organisation.yaml");

    #[test]
    fn the_example_is_read_with_its_lines() {
        let Native { rules, roles } = read(EXAMPLE).unwrap();
        assert!(roles.is_empty());
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
        let fault = |text: &str| read(text).err().unwrap().to_string();
        let rule = |more: &str| {
            format!(
                "version: 1\nrules:\n  - id: a\n    effect: allow\n    principals: [local]\n    methods: ['@read']\n{more}"
            )
        };
        assert!(read(&rule("")).is_ok());
        for wrong in ["own", "{owner: me}", "{owners: self}", "{labels: /skills/a}"] {
            assert!(
                fault(&rule(&format!("    resources: {wrong}\n"))).starts_with("is no policy"),
                "{wrong}"
            );
        }
        let asked = read(&rule("    resources: {owner: self, labels: [/skills/a/*]}\n")).unwrap();
        let labels = vec!["/skills/a/*".to_owned()];
        assert_eq!(asked.rules[0].resources, Some(Conditions { owner: Some(Ownership::Own), labels }));
        assert!(fault(&rule("    not_after: soon\n")).contains("not_after \"soon\" is no time"));
        assert!(fault(&rule("").replace("version: 1", "version: 2")).contains("version 2 of the format"));
        assert!(fault(&rule("").replace("allow", "maybe")).contains("maybe"));
        let bound = |more: &str| format!("{}roles:\n  - {more}\n", rule(""));
        assert!(fault(&bound("role: owner")).contains("there are admin, editor, viewer, service-account"));
        assert!(fault(&bound("{role: viewer, principal: local}")).contains("principal"));
        let roles = read(&bound("{role: viewer, principals: [local], claims: [a/b/c]}")).unwrap().roles;
        assert_eq!((roles[0].role, roles[0].line), (Role::Viewer, Some(8)));
        assert!(fault("p,acme.example,*\n").starts_with("is no policy"));
        assert!(fault("").starts_with("is no policy"));
        let large = format!("version: 1\n#{}", "x".repeat(POLICY_MAX_BYTES));
        assert!(fault(&large).contains("more than 1048576 bytes"));
    }
}
