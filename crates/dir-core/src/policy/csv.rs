//! The CSV policy: lines of `p,<trust domain>,<method>`.

use super::method::{DEAD_SPELLING, LIVING_SPELLING, MethodPattern, Refused};
use super::problem::{Fault, PolicyError, Warning, WarningKind};
use super::subject::{DomainPattern, Noticed, Subject};
use super::{Loaded, Matching, MethodCatalogue, Policy, Rule, RuleEffect, UnknownMethod, lint};
use std::collections::{HashMap, HashSet};

/// Largest policy, in bytes.
pub const POLICY_MAX_BYTES: usize = 1 << 20;
/// Most rules of a policy.
pub const POLICY_MAX_RULES: usize = 10_000;

impl Policy {
    /// Reads a CSV policy. Every fault is reported, with its line.
    ///
    /// A policy in which nothing is allowed is a fault too: most likely the file was written half.
    pub fn parse_csv(
        text: &str,
        matching: Matching,
        catalogue: &MethodCatalogue,
        unknown: UnknownMethod,
    ) -> Result<Loaded, PolicyError> {
        check_size(text.len())?;
        let mut reader = Reader {
            matching,
            catalogue,
            unknown,
            rules: Vec::new(),
            seen: HashSet::new(),
            patterns: HashMap::new(),
            warnings: Vec::new(),
        };
        let mut faults = Vec::new();
        for (at, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if let Err(text) = reader.line(at + 1, line.trim()) {
                faults.push(Fault::at(at + 1, text));
            }
        }
        let Reader { rules, mut warnings, .. } = reader;
        check_rules(&rules, faults)?;
        warnings.extend(lint::review(&rules, catalogue));
        Ok(Loaded { policy: Policy::compile(rules, catalogue), warnings })
    }
}

/// Refuses what is too large to be a policy.
pub(super) fn check_size(bytes: usize) -> Result<(), PolicyError> {
    if bytes > POLICY_MAX_BYTES {
        let text = format!("the policy has {bytes} bytes; at most {POLICY_MAX_BYTES} are taken");
        return Err(Fault::whole(text).into());
    }
    Ok(())
}

/// Refuses what has faults, too many rules, or none.
pub(super) fn check_rules(rules: &[Rule], mut faults: Vec<Fault>) -> Result<(), PolicyError> {
    if rules.len() > POLICY_MAX_RULES {
        let text = format!("the policy has {} rules; at most {POLICY_MAX_RULES} are taken", rules.len());
        faults.push(Fault::whole(text));
    }
    if faults.is_empty() && !rules.iter().any(|r| r.effect == RuleEffect::Allow) {
        let text = "the policy allows nothing: it has no allow rule. To serve nobody, stop the server";
        faults.push(Fault::whole(text));
    }
    if faults.is_empty() { Ok(()) } else { Err(PolicyError { faults }) }
}

struct Reader<'a> {
    matching: Matching,
    catalogue: &'a MethodCatalogue,
    unknown: UnknownMethod,
    rules: Vec<Rule>,
    /// Trust domain and method of every rule so far.
    seen: HashSet<(String, String)>,
    /// Method patterns that were read: many rules name few methods.
    patterns: HashMap<String, Result<MethodPattern, Refused>>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let fields = fields(line)?;
        match fields.first().map(String::as_str) {
            Some("p") => {}
            Some(kind) if kind.starts_with('g') => {
                return Err(format!(
                    "\"{kind}\" lines assign roles, and this model has none; write a `p` line for each trust domain"
                ));
            }
            kind => {
                let kind = kind.unwrap_or_default();
                return Err(format!("a line of a policy is `p,<trust domain>,<method>`, not \"{kind},…\""));
            }
        }
        let [_, domain, method] = fields.as_slice() else {
            return Err(format!(
                "invalid policy rule size: expected 2 columns after `p` (trust domain, method), got {}",
                fields.len() - 1
            ));
        };
        self.rule(number, domain, method)
    }

    fn rule(&mut self, number: usize, domain: &str, method: &str) -> Result<(), String> {
        let infer = self.matching == Matching::Compat;
        let (pattern, noticed) = DomainPattern::parse(domain, infer)?;
        for noticed in noticed {
            let (kind, text) = match noticed {
                Noticed::LowerCased => (
                    WarningKind::LowerCased,
                    format!(
                        "trust domain \"{domain}\" is taken as \"{pattern}\": trust domains have no capitals"
                    ),
                ),
                Noticed::InferredRegex => (
                    WarningKind::InferredRegex,
                    format!(
                        "trust domain \"{domain}\" is taken as a regular expression over the whole name; write `{pattern}`"
                    ),
                ),
            };
            self.warn(kind, number, text);
        }
        if method == DEAD_SPELLING {
            let text = format!(
                "no such method exists, and the rule grants nothing; the method is {LIVING_SPELLING}"
            );
            self.warn(WarningKind::LegacySpelling, number, text);
            return Ok(());
        }
        let found = match self.methods(method) {
            Ok(found) => found,
            Err(Refused::Unknown(text)) if self.unknown == UnknownMethod::Warn => {
                self.warn(WarningKind::UnknownMethod, number, format!("{text}; the rule grants nothing"));
                return Ok(());
            }
            Err(Refused::Malformed(text) | Refused::Unknown(text)) => return Err(text),
        };
        if let Some(rest) = &found.after_star {
            let text = format!("\"{rest}\" after the `*` of \"{method}\" says nothing");
            self.warn(WarningKind::TextAfterStar, number, text);
        }
        if !found.beyond.is_empty() {
            let names: Vec<&str> = found.beyond.iter().map(|m| self.catalogue.path(m)).collect();
            let text = format!("\"{method}\" also admits, beyond its text: {}", names.join(", "));
            self.warn(WarningKind::AdmitsMore, number, text);
        }
        let subject = Subject::of_domain(pattern);
        if !self.seen.insert((subject.to_string(), method.to_owned())) {
            self.warn(WarningKind::Duplicate, number, "the rule was there before");
            return Ok(());
        }
        self.rules.push(Rule {
            id: format!("line-{number}"),
            line: Some(number),
            number: self.rules.len(),
            effect: RuleEffect::Allow,
            subjects: vec![subject],
            methods: found.methods,
            methods_text: method.to_owned(),
            not_after: None,
            limits: None,
            readings: found.readings,
            resources: None,
        });
        Ok(())
    }

    fn methods(&mut self, text: &str) -> Result<MethodPattern, Refused> {
        let (matching, catalogue) = (self.matching, self.catalogue);
        let parse = || MethodPattern::parse(text, matching, catalogue);
        self.patterns.entry(text.to_owned()).or_insert_with(parse).clone()
    }

    fn warn(&mut self, kind: WarningKind, line: usize, text: impl Into<String>) {
        self.warnings.push(Warning { kind, at: Fault::at(line, text) });
    }
}

/// The fields of a line, without the white space around them. A field in double quotes may hold commas; `""` is a quote.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted)?;
            fields.push(field);
            match after.trim_start().strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if after.trim().is_empty() => return Ok(fields),
                None => return Err("after a closing quote a comma is wanted".to_owned()),
            }
        } else if let Some((field, next)) = rest.split_once(',') {
            fields.push(field.trim_end().to_owned());
            rest = next.trim_start();
        } else {
            fields.push(rest.trim_end().to_owned());
            return Ok(fields);
        }
    }
}

fn quoted_field(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let (text, after) = rest.split_once('"').ok_or("a quote is opened and not closed")?;
        field.push_str(text);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_line() {
        let split = |line: &str| fields(line).map(|f| f.join("|"));
        assert_eq!(split("p,a,b").as_deref(), Ok("p|a|b"));
        assert_eq!(split(" p , a ,  b ").as_deref(), Ok("p|a|b"));
        assert_eq!(split(r#"p,"a,b" , "c""d""#).as_deref(), Ok("p|a,b|c\"d"));
        assert_eq!(split("p,,").as_deref(), Ok("p||"));
        assert!(split(r#"p,"a,b"#).is_err());
        assert!(split(r#"p,"a"b,c"#).is_err());
    }
}
