//! What can be said of a policy by looking at it: rules that decide nothing, rules that depend on the matching.

use super::problem::{Fault, Warning, WarningKind};
use super::{MethodCatalogue, MethodSet, Permission, Rule, RuleEffect};

/// Rules that are compared with each other; a policy with more is not searched for unreachable ones.
const COMPARED_MAX: usize = 1_000;

pub(super) fn review(rules: &[Rule], catalogue: &MethodCatalogue) -> Vec<Warning> {
    let mut found = Vec::new();
    if rules.len() > COMPARED_MAX {
        return found;
    }
    let open = catalogue.group(Permission::Open);
    for rule in rules {
        if let Some(text) = unreachable(rule, rules, &open) {
            found.push(Warning { kind: WarningKind::Unreachable, at: at(rule, text) });
        }
        let depends = depends_on_matching(rule, rules, &open);
        if !depends.is_empty() {
            let names: Vec<&str> = depends.iter().map(|m| catalogue.path(m)).collect();
            let text = format!(
                "\"{}\" admits {} under `compat` matching only; add what is wanted as lines of their own",
                rule.methods_text,
                names.join(", ")
            );
            found.push(Warning { kind: WarningKind::DependsOnMatching, at: at(rule, text) });
        }
    }
    found
}

fn at(rule: &Rule, text: String) -> Fault {
    Fault { line: rule.line, rule: rule.line.is_none().then(|| rule.id.clone()), text }
}

/// Whether everybody that `rule` is about is also whom `other` is about.
fn covers_subjects(other: &Rule, rule: &Rule) -> bool {
    rule.subjects.iter().all(|s| other.subjects.iter().any(|o| o.covers(s)))
}

/// Why a rule never decides anything.
fn unreachable(rule: &Rule, rules: &[Rule], open: &MethodSet) -> Option<String> {
    let methods = rule.methods.without(open);
    if methods.is_empty() {
        return Some("the rule decides nothing: its methods need no permission".to_owned());
    }
    let decides_all = |other: &&Rule| {
        let lasts = match (other.effect, other.not_after, rule.not_after) {
            (RuleEffect::Deny, ..) | (RuleEffect::Allow, None, _) => true,
            (RuleEffect::Allow, Some(theirs), Some(ours)) => theirs >= ours,
            (RuleEffect::Allow, Some(_), None) => false,
        };
        let stronger = other.effect == RuleEffect::Deny || rule.effect == RuleEffect::Allow;
        // A rule that comes first decides by its own limits, whatever wider one follows.
        let same_limits =
            other.number < rule.number || other.limits == rule.limits || other.effect == RuleEffect::Deny;
        // A rule with conditions decides about some records only.
        let of_every_record = other.resources.is_none() || other.resources == rule.resources;
        // What compat matching adds is no reason to drop the line that says it in full.
        lasts
            && stronger
            && same_limits
            && of_every_record
            && methods.is_subset(&other.readings.strict)
            && covers_subjects(other, rule)
    };
    let other = rules.iter().filter(|o| o.number != rule.number).find(|other| {
        // Of two that say the same, the later one is the one too many.
        decides_all(other) && !(other.number > rule.number && says_as_much(rule, other))
    })?;
    Some(format!("the rule decides nothing: {} decides all of it", other.place()))
}

fn says_as_much(rule: &Rule, other: &Rule) -> bool {
    rule.effect == other.effect
        && rule.not_after == other.not_after
        && rule.resources == other.resources
        && other.methods.is_subset(&rule.readings.strict)
        && covers_subjects(rule, other)
}

/// The methods that a rule admits under compat matching, and that strict matching of the whole policy does not grant.
fn depends_on_matching(rule: &Rule, rules: &[Rule], open: &MethodSet) -> MethodSet {
    let mut rest = rule.readings.compat.without(&rule.readings.strict).without(open);
    for other in rules {
        if rest.is_empty() {
            break;
        }
        let whole = other.not_after.is_none() && other.resources.is_none();
        if other.effect == RuleEffect::Allow && whole && covers_subjects(other, rule) {
            rest = rest.without(&other.readings.strict);
        }
    }
    rest
}
