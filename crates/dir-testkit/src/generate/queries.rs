//! Random queries over generated records.

use super::Numbers;
use dir_core::facts::RecordFacts;
use dir_core::query::{Filter, Query, QueryKind, Scope, Sort};
use std::sync::Arc;

/// A random query whose values are taken from records, whole, in part, in other case, or invented.
pub fn query(n: &mut Numbers, records: &[RecordFacts]) -> Query {
    let filters = (0..n.below(5)).map(|_| filter(n, records)).collect();
    Query {
        filters,
        sort: *n.pick(&[Sort::Recency, Sort::Popularity, Sort::ProviderCount]),
        limit: if n.one_in(3) { Some(n.below(20) as u64) } else { None },
        offset: if n.one_in(3) { n.below(12) as u64 } else { 0 },
        scope: n.one_in(4).then(|| Arc::new(scope(n, records))),
    }
}

/// What somebody may see: labels of records, whole ones and such with others below, in any case.
fn scope(n: &mut Numbers, records: &[RecordFacts]) -> Scope {
    let mut some = |most: usize| -> Vec<String> { (0..n.below(most)).map(|_| label(n, records)).collect() };
    let hidden = some(3);
    let groups = [some(6), some(40)];
    Scope { shown: groups.into_iter().filter(|group| group.len() > 2).collect(), hidden }
}

fn label(n: &mut Numbers, records: &[RecordFacts]) -> String {
    let labels = records.get(n.below(records.len().max(1))).map(RecordFacts::labels).unwrap_or_default();
    let label = if labels.is_empty() { "/skills/none".to_owned() } else { n.pick(&labels).clone() };
    match n.below(6) {
        0 => label.to_uppercase().replacen("/SKILLS/", "/skills/", 1),
        1 | 2 => format!("{}/*", label.rsplit_once('/').map_or("", |(above, _)| above)),
        _ => label,
    }
}

fn filter(n: &mut Numbers, records: &[RecordFacts]) -> Filter {
    let kind = *n.pick(&QueryKind::ALL);
    let at = n.below(records.len());
    let whole = records.get(at).map_or_else(String::new, |record| value_of(n, kind, record));
    let value = match kind {
        QueryKind::SkillId | QueryKind::DomainId | QueryKind::ModuleId if !n.one_in(40) => whole,
        QueryKind::ScanSeverity if n.one_in(20) => "dreadful".to_owned(),
        QueryKind::ScanSeverity => (*n.pick(&["low", "CRITICAL", "none", ""])).to_owned(),
        QueryKind::IdentityVerified | QueryKind::OwnerVerified if !n.one_in(4) => "true".to_owned(),
        QueryKind::Verified | QueryKind::Trusted | QueryKind::ScanSafe => {
            (*n.pick(&["true", "TRUE", "false", "", "yes"])).to_owned()
        }
        QueryKind::Version | QueryKind::CreatedAt | QueryKind::SchemaVersion if n.one_in(2) => {
            format!("{}{whole}", n.pick(&[">=", "<=", ">", "<", "="]))
        }
        _ => disturbed(n, &whole),
    };
    Filter { kind, value, negate: n.one_in(4) }
}

fn value_of(n: &mut Numbers, kind: QueryKind, facts: &RecordFacts) -> String {
    fn any<T>(n: &mut Numbers, list: &[T], text: impl Fn(&T) -> String) -> String {
        if list.is_empty() { String::new() } else { text(&list[n.below(list.len())]) }
    }
    match kind {
        QueryKind::Name => facts.name.clone(),
        QueryKind::Version => facts.version.clone(),
        QueryKind::SchemaVersion => facts.schema_version.clone(),
        QueryKind::Description => facts.description.clone(),
        QueryKind::CreatedAt => facts.created_at.clone(),
        QueryKind::Author => any(n, facts.authors.as_deref().unwrap_or_default(), Clone::clone),
        QueryKind::SkillId => any(n, &facts.skills, |s| s.id.to_string()),
        QueryKind::SkillName => any(n, &facts.skills, |s| s.name.clone()),
        QueryKind::DomainId => any(n, &facts.domains, |d| d.id.to_string()),
        QueryKind::DomainName => any(n, &facts.domains, |d| d.name.clone()),
        QueryKind::ModuleId => any(n, &facts.modules, |m| m.id.to_string()),
        QueryKind::ModuleName => any(n, &facts.modules, |m| m.name.clone()),
        QueryKind::Locator => {
            let form = n.below(4);
            any(n, &facts.locators, |l| match form {
                0 => l.kind.clone(),
                1 => format!("*{}", l.url),
                2 => format!(":{}", l.url),
                _ => format!("{}:{}", l.kind, l.url),
            })
        }
        QueryKind::Annotation => {
            let pairs: Vec<_> = facts.annotations.iter().collect();
            let form = n.below(3);
            any(n, &pairs, |(key, value)| match form {
                0 => (*key).clone(),
                1 => format!("{key}:"),
                _ => format!("{key}:{value}"),
            })
        }
        _ => (*n.pick(&["completed", "failed", "scanner-*", "did:web:*", "*"])).to_owned(),
    }
}

/// The value as it is, in other case, with wildcards in it, or a piece of it.
fn disturbed(n: &mut Numbers, whole: &str) -> String {
    let chars: Vec<char> = whole.chars().collect();
    let from = n.below(chars.len() + 1);
    let to = from + n.below(chars.len() + 1 - from);
    let piece: String = chars[from..to].iter().collect();
    match n.below(9) {
        0 => whole.to_uppercase(),
        1 => format!("*{piece}*"),
        2 => format!("{}*", chars[..to].iter().collect::<String>()),
        3 => format!("*{}", chars[from..].iter().collect::<String>()),
        4 => chars.iter().map(|&c| if n.one_in(4) { '?' } else { c }).collect(),
        5 => {
            format!("{}*{}", chars[..from].iter().collect::<String>(), chars[to..].iter().collect::<String>())
        }
        6 => (*n.pick(&["", " ", "*", "?", "**", "%", "_", "\\", ":", ":x", "*:", "nobody has this"]))
            .to_owned(),
        _ => whole.to_owned(),
    }
}
