//! The native policy file: YAML or TOML into typed rules.

use dir_core::Timestamp;
use dir_core::policy::{
    Conditions, Fault, NativeRule, Ownership, POLICY_MAX_BYTES, PolicyError, Role, RoleBinding, RuleEffect,
    RuleLimits,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The only version of the format.
const VERSION: u32 = 1;

/// How a native policy is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Yaml,
    Toml,
}

/// A document whose rules and roles know where they stand: in the way of its form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<R, B> {
    version: Option<u32>,
    #[serde(default = "Vec::new")]
    rules: Vec<R>,
    #[serde(default = "Vec::new")]
    roles: Vec<B>,
}

/// Something and its line.
type At<T> = (Option<usize>, T);

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
    not_after: Option<TimeText>,
    limits: Option<LimitsText>,
    resources: Option<ResourcesText>,
}

/// TOML has times of its own.
#[derive(Deserialize)]
#[serde(untagged)]
enum TimeText {
    Text(String),
    Time(toml::value::Datetime),
}

impl std::fmt::Display for TimeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Time(time) => time.fmt(f),
        }
    }
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
pub(super) fn read(text: &str, form: Form) -> Result<Native, PolicyError> {
    if text.len() > POLICY_MAX_BYTES {
        return Err(whole(format!("the policy has more than {POLICY_MAX_BYTES} bytes")));
    }
    let document = match form {
        Form::Yaml => yaml(text)?,
        Form::Toml => toml(text)?,
    };
    if document.version != Some(VERSION) {
        let written = match form {
            Form::Yaml => format!("version: {VERSION}"),
            Form::Toml => format!("version = {VERSION}"),
        };
        let text = match document.version {
            Some(version) => format!("version {version} of the format is not known; write `{written}`"),
            None => format!("is no policy: it does not say its version; write `{written}`"),
        };
        return Err(whole(text));
    }
    let mut faults = Vec::new();
    let rules = document.rules.into_iter().filter_map(|rule| native(rule).map_err(|f| faults.push(f)).ok());
    let rules = rules.collect();
    let bound = document.roles.into_iter().filter_map(|role| binding(role).map_err(|f| faults.push(f)).ok());
    let bound = bound.collect();
    if faults.is_empty() { Ok(Native { rules, roles: bound }) } else { Err(PolicyError { faults }) }
}

/// A fault of the whole file.
fn whole(text: String) -> PolicyError {
    PolicyError::from(Fault { line: None, rule: None, text })
}

fn yaml(text: &str) -> Result<Document<At<RuleText>, At<RoleText>>, PolicyError> {
    type Spanned<T> = serde_saphyr::Spanned<T>;
    fn at<T: DeserializeOwned>(found: Spanned<T>) -> At<T> {
        (usize::try_from(found.referenced.line()).ok(), found.value)
    }
    let read: Document<Spanned<RuleText>, Spanned<RoleText>> = serde_saphyr::from_str(text)
        .map_err(|error| whole(format!("is no policy: {}", error.without_snippet())))?;
    Ok(Document {
        version: read.version,
        rules: read.rules.into_iter().map(at).collect(),
        roles: read.roles.into_iter().map(at).collect(),
    })
}

fn toml(text: &str) -> Result<Document<At<RuleText>, At<RoleText>>, PolicyError> {
    let line = |offset: usize| text.get(..offset).map(|before| before.matches('\n').count() + 1);
    let read: Document<toml::Spanned<RuleText>, toml::Spanned<RoleText>> =
        toml::from_str(text).map_err(|error| {
            let fault = format!("is no policy: {}", error.message());
            let line = error.span().and_then(|span| line(span.start));
            PolicyError::from(Fault { line, rule: None, text: fault })
        })?;
    let rule = |rule: toml::Spanned<RuleText>| (line(rule.span().start), rule.into_inner());
    let binding = |bound: toml::Spanned<RoleText>| (line(bound.span().start), bound.into_inner());
    Ok(Document {
        version: read.version,
        rules: read.rules.into_iter().map(rule).collect(),
        roles: read.roles.into_iter().map(binding).collect(),
    })
}

fn binding((line, binding): At<RoleText>) -> Result<RoleBinding, Fault> {
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

fn native((line, rule): At<RuleText>) -> Result<NativeRule, Fault> {
    let written = rule.not_after.map(|text| text.to_string());
    let not_after = written.as_deref().and_then(Timestamp::parse_rfc3339);
    if let Some(text) = written.filter(|_| not_after.is_none()) {
        let text = format!("not_after \"{text}\" is no time; write 2027-06-30T00:00:00Z");
        return Err(Fault { line, rule: Some(rule.id), text });
    }
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

    fn read(text: &str) -> Result<Native, PolicyError> {
        super::read(text, Form::Yaml)
    }

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
    fn the_samples_of_the_manual_are_policies() {
        const MANUAL: &str = include_str!("../../../../docs/reference/authorization.md");
        let samples: Vec<&str> =
            MANUAL.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(samples.len() >= 3);
        for sample in samples {
            assert!(read(sample).is_ok(), "{sample}");
        }
    }

    #[test]
    fn a_file_says_its_version() {
        let fault = |text, form| super::read(text, form).err().unwrap().to_string();
        assert!(fault("rules: []", Form::Yaml).contains("write `version: 1`"));
        assert!(fault("rules = []", Form::Toml).contains("write `version = 1`"));
        assert!(fault("version: 2\nrules: []", Form::Yaml).contains("version 2 of the format is not known"));
    }

    #[test]
    fn toml_says_the_same_as_yaml() {
        const TOML: &str = include_str!("../../../../examples/policies/organisation.toml");
        let (yaml, toml) = (read(EXAMPLE).unwrap(), super::read(TOML, Form::Toml).unwrap());
        let said = |native: Native| {
            let rules =
                native.rules.into_iter().map(|rule| format!("{:?}", NativeRule { line: None, ..rule }));
            rules.collect::<Vec<_>>()
        };
        for rule in &toml.rules {
            let line = TOML.lines().nth(rule.line.unwrap() - 1).unwrap();
            assert_eq!(line, "[[rules]]", "{}", rule.id);
        }
        assert_eq!(said(toml), said(yaml));
    }

    #[test]
    fn what_is_no_policy_in_toml() {
        let rule = |more: &str| {
            format!(
                "version = 1\n\n[[rules]]\nid = \"a\"\neffect = \"allow\"\nprincipals = [\"local\"]\n\
                 methods = [\"@read\"]\n{more}"
            )
        };
        let fault = |text: &str| super::read(text, Form::Toml).err().unwrap().faults.remove(0);
        let end = |text: &str| super::read(&rule(text), Form::Toml).unwrap().rules[0].not_after;
        assert_eq!(end("not_after = 2031-06-30T00:00:00Z"), Timestamp::parse_rfc3339("2031-06-30T00:00:00Z"));
        assert_eq!(end("not_after = \"2031-06-30T00:00:00Z\""), end("not_after = 2031-06-30T02:00:00+02:00"));
        for local in ["2031-06-30", "2031-06-30T00:00:00", "\"soon\""] {
            let fault = fault(&rule(&format!("not_after = {local}")));
            assert!(fault.text.contains("is no time") && fault.line == Some(3), "{fault:?}");
        }
        let unknown = fault(&rule("limit = 3"));
        assert!(unknown.text.contains("unknown field `limit`") && unknown.line == Some(8), "{unknown:?}");
        assert_eq!(fault("version = 1\n[[rules]\n").line, Some(2));
        assert!(fault("version = 2").text.contains("write `version = 1`"));
        assert!(fault("").text.starts_with("is no policy"));
        assert!(fault(EXAMPLE).text.starts_with("is no policy"), "YAML is no TOML");
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
