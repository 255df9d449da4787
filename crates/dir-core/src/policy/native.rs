//! Native rules: subjects are SPIFFE IDs, methods may be groups, rules may deny and may end.

use super::conditions::Conditions;
use super::csv::check_rules;
use super::method::{self, Refused};
use super::problem::{Fault, PolicyError, Warning, WarningKind};
use super::roles::RoleBinding;
use super::subject::Subject;
use super::{Loaded, MethodCatalogue, MethodSet, Policy, Readings, Rule, RuleEffect, UnknownMethod, lint};
use crate::identity::TrustDomain;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Longest id of a rule, in bytes. Ids become labels of metrics.
const ID_MAX: usize = 64;

/// Limits that a rule gives to the callers it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLimits {
    /// Calls a second.
    pub rps: Option<u32>,
    /// Calls at once.
    pub burst: Option<u32>,
    /// Open streams.
    pub max_streams: Option<u32>,
}

/// A rule as its author wrote it.
#[derive(Debug, Clone)]
pub struct NativeRule {
    /// Unique name.
    pub id: String,
    /// Line in its file, from 1.
    pub line: Option<usize>,
    /// What it does.
    pub effect: RuleEffect,
    /// SPIFFE ID patterns, `local`, `federated`, `oidc:…`, `anonymous:http`.
    pub principals: Vec<String>,
    /// `/pkg.Svc/Method`, `/pkg.Svc/*`, `@read`, `@write`, `@admin` or `*`.
    pub methods: Vec<String>,
    /// When it ends; only for allow rules.
    pub not_after: Option<Timestamp>,
    /// Limits of the grant.
    pub limits: Option<RuleLimits>,
    /// What it asks of the record that a call names.
    pub resources: Option<Conditions>,
}

impl RuleLimits {
    /// Calls a second, and at once: without a burst as many as come in a second.
    pub fn rate(&self) -> Option<(u32, u32)> {
        self.rps.map(|rps| (rps, self.burst.unwrap_or(rps)))
    }

    fn fault(&self, effect: RuleEffect) -> Option<String> {
        let text = match *self {
            _ if effect == RuleEffect::Deny => "limits are for allow rules: a deny rule lets nothing through",
            Self { rps: None, burst: None, max_streams: None } => {
                "limits has at least one of `rps`, `burst` and `max_streams`"
            }
            Self { rps: Some(0), .. } | Self { max_streams: Some(0), .. } => {
                "a limit of 0 would refuse every call; write a deny rule"
            }
            Self { rps: None, burst: Some(_), .. } => "`burst` needs `rps`",
            Self { rps: Some(rps), burst: Some(burst), .. } if burst < rps => {
                return Some(format!("burst {burst} is below the rate {rps}; give at least the rate"));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Policy {
    /// Compiles native rules. `own` is the own trust domain; without it the classes `local` and `federated` are faults.
    pub fn from_rules(
        rules: Vec<NativeRule>,
        own: Option<&TrustDomain>,
        catalogue: &MethodCatalogue,
        unknown: UnknownMethod,
    ) -> Result<Loaded, PolicyError> {
        Self::from_native(rules, &[], own, catalogue, unknown)
    }

    /// As [`Policy::from_rules`], with roles: each binding is an allow rule, `role-<role>-<number>`, after the others.
    pub fn from_native(
        mut rules: Vec<NativeRule>,
        bindings: &[RoleBinding],
        own: Option<&TrustDomain>,
        catalogue: &MethodCatalogue,
        unknown: UnknownMethod,
    ) -> Result<Loaded, PolicyError> {
        let mut compiler = Compiler { own, catalogue, unknown, faults: Vec::new(), warnings: Vec::new() };
        let written = rules.len();
        rules.extend(bindings.iter().enumerate().map(|(at, binding)| binding.rule(at + 1)));
        compiler.ids(&rules);
        let compile = |(number, rule): (usize, NativeRule)| {
            let binding = number.checked_sub(written).and_then(|at| bindings.get(at));
            compiler.rule(number, rule, binding)
        };
        let rules: Vec<Rule> = rules.into_iter().enumerate().map(compile).collect();
        let Compiler { faults, mut warnings, .. } = compiler;
        check_rules(&rules, faults)?;
        warnings.extend(lint::review(&rules, catalogue));
        Ok(Loaded { policy: Policy::compile(rules, catalogue), warnings })
    }

    /// The policy of a server that was given none: everything for the own trust domain; `Pull`, `PullReferrer` and
    /// `Lookup` for everybody else who is trusted.
    pub fn default_for(own: &TrustDomain, catalogue: &MethodCatalogue) -> Self {
        let reading = ["Pull", "PullReferrer", "Lookup"];
        let reading = reading.map(|name| format!("/agntcy.dir.store.v1.StoreService/{name}"));
        let rule = |number, id: &str, subject, methods: MethodSet, methods_text: String| Rule {
            id: id.to_owned(),
            line: None,
            number,
            effect: RuleEffect::Allow,
            subjects: vec![subject],
            readings: Readings { strict: methods.clone(), compat: methods.clone() },
            methods,
            methods_text,
            not_after: None,
            limits: None,
            resources: None,
        };
        let granted = catalogue.select(|path| reading.iter().any(|r| r == path));
        let rules = vec![
            rule(0, "default-local", Subject::local(own), catalogue.all(), "*".to_owned()),
            rule(1, "default-federated", Subject::federated(own), granted, reading.join(", ")),
        ];
        Policy::compile(rules, catalogue)
    }
}

struct Compiler<'a> {
    own: Option<&'a TrustDomain>,
    catalogue: &'a MethodCatalogue,
    unknown: UnknownMethod,
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
}

impl Compiler<'_> {
    fn ids(&mut self, rules: &[NativeRule]) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if rule.id.is_empty() || rule.id.len() > ID_MAX || !rule.id.bytes().all(good) {
                let text = format!("an id has 1 to {ID_MAX} characters of A-Z, a-z, 0-9, '-', '_' and '.'");
                self.faults.push(fault(rule, text));
            } else if let Some(first) = seen.insert(&rule.id, number) {
                self.faults.push(fault(rule, format!("rule {} has this id already", first + 1)));
            }
        }
    }

    fn rule(&mut self, number: usize, rule: NativeRule, binding: Option<&RoleBinding>) -> Rule {
        let claimed = binding.is_some_and(|binding| !binding.claims.is_empty());
        if (rule.principals.is_empty() && !claimed) || rule.methods.is_empty() {
            self.faults.push(fault(&rule, "a rule has at least one principal and one method"));
        }
        if rule.effect == RuleEffect::Deny && rule.not_after.is_some() {
            let text =
                "not_after is for allow rules: a deny rule that ends by itself would open what it closes";
            self.faults.push(fault(&rule, text));
        }
        if let Some(text) = rule.limits.and_then(|limits| limits.fault(rule.effect)) {
            self.faults.push(fault(&rule, text));
        }
        let denies = rule.effect == RuleEffect::Deny;
        let asked = rule.resources.as_ref();
        if let Some(text) = asked.and_then(|asked| asked.fault(denies, &rule.methods, rule.limits.is_some()))
        {
            self.faults.push(fault(&rule, text));
        }
        let mut subjects = Vec::new();
        for principal in &rule.principals {
            match self.subject(principal) {
                Ok(subject) => subjects.push(subject),
                Err(text) => self.faults.push(fault(&rule, format!("principal \"{principal}\": {text}"))),
            }
        }
        for claims in binding.into_iter().flat_map(|binding| &binding.claims) {
            match self.claims(binding, claims) {
                Ok(subject) => subjects.push(subject),
                Err(text) => self.faults.push(fault(&rule, format!("claims \"{claims}\": {text}"))),
            }
        }
        let mut methods = MethodSet::default();
        for text in &rule.methods {
            match method::native(text, self.catalogue) {
                Ok(found) => methods.extend(&found),
                Err(Refused::Unknown(text)) if self.unknown == UnknownMethod::Warn => {
                    let at = fault(&rule, format!("{text}; it is left out"));
                    self.warnings.push(Warning { kind: WarningKind::UnknownMethod, at });
                }
                Err(Refused::Malformed(text) | Refused::Unknown(text)) => {
                    self.faults.push(fault(&rule, text));
                }
            }
        }
        Rule {
            id: rule.id,
            line: rule.line,
            number,
            effect: rule.effect,
            subjects,
            readings: Readings { strict: methods.clone(), compat: methods.clone() },
            methods,
            methods_text: rule.methods.join(", "),
            not_after: rule.not_after,
            limits: rule.limits,
            resources: rule.resources,
        }
    }

    /// A claim counts in the tokens of one trust domain: whoever signs tokens could write any claim into them.
    fn claims(&self, role: Option<&RoleBinding>, text: &str) -> Result<Subject, String> {
        let domain = match role.and_then(|role| role.trust_domain.as_deref()) {
            Some(name) => name.parse().map_err(|why| format!("trust domain \"{name}\": {why}"))?,
            None => self.own.cloned().ok_or(
                "write whose tokens are believed, as `trust_domain`: the own one is not known \
                 (authn.trust_domain, or --trust-domain)",
            )?,
        };
        Subject::parse_claims(domain, text)
    }

    fn subject(&self, text: &str) -> Result<Subject, String> {
        let own = || {
            self.own.ok_or_else(|| {
                format!(
                    "`{text}` needs the name of the own trust domain (authn.trust_domain, or --trust-domain)"
                )
            })
        };
        match text {
            "local" => Ok(Subject::local(own()?)),
            "federated" => Ok(Subject::federated(own()?)),
            "anonymous:http" => Ok(Subject::http()),
            _ if text.starts_with("oidc:") => Subject::parse_oidc(text),
            _ => Subject::parse_id(text).map_err(|why| {
                format!(
                    "{why}; there are also `local`, `federated`, `oidc:<provider>:…` and `anonymous:http`"
                )
            }),
        }
    }
}

fn fault(rule: &NativeRule, text: impl Into<String>) -> Fault {
    Fault { line: rule.line, rule: Some(rule.id.clone()), text: text.into() }
}
