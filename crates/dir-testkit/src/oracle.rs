//! What a query must answer, by the plainest reading of the search contract: loops over records, nothing
//! prepared, nothing shared with any index. Slow on purpose.

use dir_core::Cid;
use dir_core::facts::RecordFacts;
use dir_core::index::Row;
use dir_core::query::{Filter, Query, QueryError, QueryKind, Sort};

/// The CIDs that a query answers over these rows, in order, with limit and offset.
pub fn answer(rows: &[Row], query: &Query) -> Result<Vec<Cid>, QueryError> {
    let mut found = Vec::new();
    check(&query.filters)?;
    for row in rows {
        let shown = query.scope.as_ref().is_none_or(|scope| scope.shows(&row.facts.labels()));
        if shown && accepts(&row.facts, &query.filters) {
            found.push(row);
        }
    }
    // Nothing counts providers yet: their order is RECENCY among equals.
    let uses = |row: &Row| if query.sort == Sort::Popularity { row.usage.total() } else { 0 };
    found.sort_by(|a, b| uses(b).cmp(&uses(a)).then(b.indexed_at.cmp(&a.indexed_at)).then(a.cid.cmp(&b.cid)));
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let limit = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found.into_iter().skip(offset).take(limit).map(|row| row.cid).collect())
}

/// The first bad value, in the order of the filters.
pub fn check(filters: &[Filter]) -> Result<(), QueryError> {
    for filter in filters {
        let value = filter.value.as_str();
        match filter.kind {
            QueryKind::SkillId => check_id("skill", value)?,
            QueryKind::DomainId => check_id("domain", value)?,
            QueryKind::ModuleId => check_id("module", value)?,
            QueryKind::ScanSeverity => {
                let known = ["", "NONE", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
                if !known.contains(&value.to_uppercase().as_str()) {
                    return Err(QueryError::BadValue(value.to_owned()));
                }
            }
            QueryKind::IdentityVerified | QueryKind::OwnerVerified if filter.negate || value != "true" => {
                return Err(QueryError::BadValue(value.to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_id(what: &'static str, value: &str) -> Result<(), QueryError> {
    let bad = |why| Err(QueryError::BadId { what, value: value.to_owned(), why });
    if value.is_empty() || value.chars().any(|c| !c.is_ascii_digit()) {
        return bad("invalid syntax");
    }
    match value.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_too_large) => bad("value out of range"),
    }
}

/// Whether a record meets all filters (which [`check`] has accepted).
pub fn accepts(facts: &RecordFacts, filters: &[Filter]) -> bool {
    let values = |kind: QueryKind, negate: bool| -> Vec<&str> {
        let these = filters.iter().filter(|f| f.kind == kind && f.negate == negate);
        these.map(|f| f.value.as_str()).collect()
    };
    texts(facts, &values)
        && authors(facts, &values)
        && classes(facts, &values)
        && locators(facts, filters)
        && annotations(facts, filters)
        && dependents(filters, &values)
}

type Values<'v, 'f> = dyn Fn(QueryKind, bool) -> Vec<&'f str> + 'v;

fn texts(facts: &RecordFacts, values: &Values<'_, '_>) -> bool {
    for (kind, column) in [(QueryKind::Name, &facts.name), (QueryKind::Description, &facts.description)] {
        let blank_says_nothing = kind == QueryKind::Description;
        let keep = |v: &&str| !(blank_says_nothing && v.trim().is_empty());
        let wanted: Vec<&str> = values(kind, false).into_iter().filter(keep).collect();
        if !wanted.is_empty() && !wanted.iter().any(|v| wild(column, v)) {
            return false;
        }
        if values(kind, true).into_iter().filter(keep).any(|v| wild(column, v)) {
            return false;
        }
    }
    let compared = [
        (QueryKind::Version, &facts.version),
        (QueryKind::CreatedAt, &facts.created_at),
        (QueryKind::SchemaVersion, &facts.schema_version),
    ];
    for (kind, column) in compared {
        let wanted = values(kind, false);
        if !wanted.is_empty() && !cmp(column, &wanted) {
            return false;
        }
        if values(kind, true).into_iter().any(|v| cmp(column, &[v])) {
            return false;
        }
    }
    true
}

fn authors(facts: &RecordFacts, values: &Values<'_, '_>) -> bool {
    let matches = |v: &str| match &facts.authors {
        None => false,
        Some(list) if list.is_empty() => wild("", &format!("*{v}*")),
        Some(list) => list.iter().any(|author| wild(author, &format!("*{v}*"))),
    };
    let wanted = values(QueryKind::Author, false);
    (wanted.is_empty() || wanted.into_iter().any(matches))
        && !values(QueryKind::Author, true).into_iter().any(matches)
}

fn classes(facts: &RecordFacts, values: &Values<'_, '_>) -> bool {
    let skills: Vec<(u64, &str)> = facts.skills.iter().map(|s| (s.id, s.name.as_str())).collect();
    let domains: Vec<(u64, &str)> = facts.domains.iter().map(|d| (d.id, d.name.as_str())).collect();
    let modules: Vec<(u64, &str)> = facts.modules.iter().map(|m| (m.id, m.name.as_str())).collect();
    let kinds = [
        (QueryKind::SkillId, QueryKind::SkillName, skills),
        (QueryKind::DomainId, QueryKind::DomainName, domains),
        (QueryKind::ModuleId, QueryKind::ModuleName, modules),
    ];
    kinds.iter().all(|(id_kind, name_kind, rows)| {
        let names = |negate: bool| -> Vec<&str> {
            let mut names = values(*name_kind, negate);
            if *name_kind == QueryKind::ModuleName {
                names.retain(|v| !v.trim().is_empty());
            }
            names
        };
        let is = |id: u64, ids: &[&str]| ids.iter().any(|v| v.parse() == Ok(id));
        let called = |name: &str, names: &[&str]| names.iter().any(|v| wild(name, v));
        let (ids, wanted) = (values(*id_kind, false), names(false));
        let included = (ids.is_empty() && wanted.is_empty())
            || rows.iter().any(|(id, name)| {
                (ids.is_empty() || is(*id, &ids)) && (wanted.is_empty() || called(name, &wanted))
            });
        let (ids, unwanted) = (values(*id_kind, true), names(true));
        included && !rows.iter().any(|(id, name)| is(*id, &ids) || called(name, &unwanted))
    })
}

/// What a locator value asks for: type pattern, URL pattern.
pub fn locator_parts(value: &str) -> (Option<&str>, Option<&str>) {
    let present = |text: &'_ str| !text.trim().is_empty();
    if !value.contains(':') {
        if value.starts_with('*') {
            return (None, Some(value));
        }
        return (Some(value).filter(|v| present(v)), None);
    }
    let (before, after) = value.split_once(':').unwrap_or((value, ""));
    if after.starts_with("//") && before.starts_with('*') {
        return (None, Some(value));
    }
    (Some(before).filter(|v| present(v)), Some(after).filter(|v| present(v)))
}

fn locators(facts: &RecordFacts, filters: &[Filter]) -> bool {
    [false, true].into_iter().all(|negate| {
        let (mut kinds, mut urls) = (Vec::new(), Vec::new());
        for filter in filters.iter().filter(|f| f.kind == QueryKind::Locator && f.negate == negate) {
            let (kind, url) = locator_parts(&filter.value);
            kinds.extend(kind);
            urls.extend(url);
        }
        let rows = facts.locators.iter().map(|l| (l.kind.as_str(), l.url.as_str()));
        pooled(rows, &kinds, &urls, negate)
    })
}

fn annotations(facts: &RecordFacts, filters: &[Filter]) -> bool {
    [false, true].into_iter().all(|negate| {
        let (mut keys, mut texts) = (Vec::new(), Vec::new());
        for filter in filters.iter().filter(|f| f.kind == QueryKind::Annotation && f.negate == negate) {
            match filter.value.split_once(':') {
                None => keys.push(filter.value.as_str()),
                Some(("", _)) => {}
                Some((key, text)) => {
                    keys.push(key);
                    if !text.is_empty() {
                        texts.push(text);
                    }
                }
            }
        }
        let rows = facts.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        pooled(rows, &keys, &texts, negate)
    })
}

/// Some row has a left of the pool and a right of the pool; a pool without entries does not restrict.
fn pooled<'a>(
    mut rows: impl Iterator<Item = (&'a str, &'a str)>,
    lefts: &[&str],
    rights: &[&str],
    negate: bool,
) -> bool {
    if lefts.is_empty() && rights.is_empty() {
        return true;
    }
    let hit = rows.any(|(left, right)| {
        (lefts.is_empty() || lefts.iter().any(|v| wild(left, v)))
            && (rights.is_empty() || rights.iter().any(|v| wild(right, v)))
    });
    hit != negate
}

/// Filters about rows that no record has yet: verification, trust, scans, claims.
fn dependents(filters: &[Filter], values: &Values<'_, '_>) -> bool {
    for kind in [QueryKind::Verified, QueryKind::Trusted] {
        if let Some(last) = filters.iter().rfind(|f| f.kind == kind) {
            let asked = last.value.eq_ignore_ascii_case("true");
            if asked != last.negate {
                return false;
            }
        }
    }
    if filters.iter().any(|f| f.kind == QueryKind::ScanSafe) {
        return false;
    }
    if values(QueryKind::ScanSeverity, false).into_iter().any(|v| !v.is_empty()) {
        return false;
    }
    let rows_needed = [
        QueryKind::ScanStatus,
        QueryKind::ScanFailureReason,
        QueryKind::Identity,
        QueryKind::Owner,
        QueryKind::IdentityVerified,
        QueryKind::OwnerVerified,
    ];
    rows_needed.into_iter().all(|kind| values(kind, false).is_empty())
}

/// The wildcard primitive: `*` any run, `?` one character, everything else itself, without regard to case.
pub fn wild(column: &str, value: &str) -> bool {
    let text = lowered(column);
    let pattern = lowered(value);
    // `reach[i]`: the pattern so far can end before character i of the text.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut reached = false;
        for i in 0..=text.len() {
            reached |= reach[i];
            next[i] = match p {
                '*' => reached,
                '?' => i > 0 && reach[i - 1],
                c => i > 0 && reach[i - 1] && text[i - 1] == c,
            };
        }
        reach = next;
    }
    reach[text.len()]
}

/// One character for one character, so that `?` is well defined.
fn lowered(text: &str) -> Vec<char> {
    text.chars()
        .map(|c| match c.to_lowercase().next() {
            Some('\u{3c2}') => '\u{3c3}',
            Some(lower) => lower,
            None => c,
        })
        .collect()
}

/// The comparison primitive: (all comparisons hold) or (any other value matches).
pub fn cmp(column: &str, values: &[&str]) -> bool {
    let mut comparisons = Vec::new();
    let mut others = Vec::new();
    for value in values {
        if let Some(v) = value.strip_prefix(">=") {
            comparisons.push(column >= v);
        } else if let Some(v) = value.strip_prefix("<=") {
            comparisons.push(column <= v);
        } else if let Some(v) = value.strip_prefix('>') {
            comparisons.push(column > v);
        } else if let Some(v) = value.strip_prefix('<') {
            comparisons.push(column < v);
        } else if let Some(v) = value.strip_prefix('=') {
            comparisons.push(column == v);
        } else {
            others.push(wild(column, value));
        }
    }
    (!comparisons.is_empty() && comparisons.iter().all(|held| *held)) || others.contains(&true)
}
