//! A query compiled: values parsed once, combination rules decided, ready to be asked of every chunk.
//!
//! The rules are those of the search contract: different kinds AND-ed, equal kinds OR-ed, ids and names of one
//! kind (and both halves of locators and annotations) joined on the same row when including, pooled when
//! excluding.

use crate::fold::fold;
use crate::label::Label;
use crate::pattern::Pattern;
use crate::quote::quoted;
use dir_core::query::{Filter, Query, QueryError, QueryKind};
use std::collections::BTreeMap;

/// Filters of one query: each may read a whole dictionary, and nothing else bounds what one call costs.
pub const MAX_FILTERS: usize = 512;

/// Characters of all pieces with `?` of one query: reading a character of a text costs a word for every 64 of them.
pub const MAX_HOLES: u64 = 65_536;

/// Fields with one text (authors: several) per record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TextField {
    Name,
    Version,
    SchemaVersion,
    Description,
    CreatedAt,
    Author,
}

impl TextField {
    pub(crate) const COUNT: usize = 6;
}

/// Fields with rows of two halves per record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PairField {
    /// id, name
    Skill,
    /// id, name
    Domain,
    /// id, name
    Module,
    /// type, URL
    Locator,
    /// key, value
    Annotation,
}

impl PairField {
    pub(crate) const COUNT: usize = 5;
}

/// Text comparison of CMP values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Ge,
    Le,
    Gt,
    Lt,
    Eq,
}

/// Values of one text field: (all comparisons) or (any pattern).
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    pub(crate) comparisons: Vec<(Op, String)>,
    pub(crate) patterns: Vec<Pattern>,
}

/// Which join of the two halves a row must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Left and right on the same row; a side without patterns does not restrict.
    Both,
    /// Left or right.
    Either,
}

/// One condition on a record.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Text {
        field: TextField,
        values: Values,
    },
    Rows {
        field: PairField,
        left: Vec<Pattern>,
        right: Vec<Pattern>,
        join: Join,
    },
    /// One of these labels at least.
    Labels(Vec<Label>),
}

impl Test {
    /// Whether evaluation reads every distinct value of its field.
    pub(crate) fn reads_dictionary(&self) -> bool {
        let globs = |patterns: &[Pattern]| patterns.iter().any(|p| matches!(p, Pattern::Glob(_)));
        match self {
            Self::Text { values, .. } => !values.comparisons.is_empty() || globs(&values.patterns),
            Self::Rows { left, right, .. } => globs(left) || globs(right),
            Self::Labels(_) => false,
        }
    }

    /// Its patterns: those of the left side, or of the text, and those of the right side.
    fn patterns(&self) -> (&[Pattern], &[Pattern]) {
        match self {
            Self::Text { values, .. } => (&values.patterns, &[]),
            Self::Rows { left, right, .. } => (left, right),
            Self::Labels(_) => (&[], &[]),
        }
    }

    /// What asking it costs at most, for each byte of the texts of the left side (or of the field), and of the right.
    pub(crate) fn weights(&self) -> (u64, u64) {
        let all = |patterns: &[Pattern]| patterns.iter().map(Pattern::weight).sum();
        let comparisons = if let Self::Text { values, .. } = self { values.comparisons.len() } else { 0 };
        let (left, right): (u64, u64) = (all(self.patterns().0), all(self.patterns().1));
        (left + comparisons as u64, right)
    }
}

/// A compiled query: all of `include`, none of `exclude`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// A condition that no record of this index meets.
    pub(crate) nothing: bool,
    pub(crate) include: Vec<Test>,
    pub(crate) exclude: Vec<Test>,
}

impl Plan {
    /// Whether every record matches.
    pub(crate) fn is_everything(&self) -> bool {
        !self.nothing && self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether evaluation reads every distinct value of some field.
    pub(crate) fn reads_dictionaries(&self) -> bool {
        self.tests().any(Test::reads_dictionary)
    }

    /// What asks a record anything.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.include.iter().chain(&self.exclude)
    }

    fn check_holes(&self) -> Result<(), QueryError> {
        let patterns = self.tests().map(Test::patterns).flat_map(|(left, right)| left.iter().chain(right));
        let holes: u64 = patterns.map(Pattern::holes).sum();
        if holes <= MAX_HOLES {
            return Ok(());
        }
        Err(QueryError::BadValue(format!(
            "patterns with ? of {holes} characters in one query, at most {MAX_HOLES} are answered; split the query"
        )))
    }

    /// Compiles the filters of a query; the first bad value is the error.
    pub(crate) fn compile(query: &Query) -> Result<Self, QueryError> {
        if query.filters.len() > MAX_FILTERS {
            return Err(QueryError::BadValue(format!(
                "{} filters in one query, at most {MAX_FILTERS} are answered; split the query",
                query.filters.len()
            )));
        }
        let mut builder = Builder::default();
        for filter in &query.filters {
            builder.add(filter)?;
        }
        let mut plan = builder.finish();
        plan.check_holes()?;
        if let Some(scope) = &query.scope {
            plan.include.extend(scope.shown.iter().map(|group| labels(group)));
            plan.exclude.extend((!scope.hidden.is_empty()).then(|| labels(&scope.hidden)));
        }
        Ok(plan)
    }
}

fn labels(wanted: &[String]) -> Test {
    Test::Labels(wanted.iter().filter_map(|label| Label::of(label)).collect())
}

#[derive(Default)]
struct Sides {
    left: Vec<Pattern>,
    right: Vec<Pattern>,
}

#[derive(Default)]
struct Builder {
    nothing: bool,
    text: BTreeMap<TextField, Values>,
    without_text: Vec<Test>,
    rows: BTreeMap<PairField, Sides>,
    without_rows: BTreeMap<PairField, Sides>,
    verified: Option<bool>,
    trusted: Option<bool>,
}

impl Builder {
    fn add(&mut self, filter: &Filter) -> Result<(), QueryError> {
        let (value, negate) = (filter.value.as_str(), filter.negate);
        match filter.kind {
            QueryKind::Name => self.text(TextField::Name, value, negate, false),
            QueryKind::Version => self.text(TextField::Version, value, negate, true),
            QueryKind::CreatedAt => self.text(TextField::CreatedAt, value, negate, true),
            QueryKind::SchemaVersion => self.text(TextField::SchemaVersion, value, negate, true),
            QueryKind::Author => self.text(TextField::Author, &format!("*{value}*"), negate, false),
            QueryKind::Description if value.trim().is_empty() => {}
            QueryKind::Description => self.text(TextField::Description, value, negate, false),
            QueryKind::SkillId => self.id(PairField::Skill, "skill", value, negate)?,
            QueryKind::DomainId => self.id(PairField::Domain, "domain", value, negate)?,
            QueryKind::ModuleId => self.id(PairField::Module, "module", value, negate)?,
            QueryKind::SkillName => self.sides(PairField::Skill, negate).right.push(Pattern::new(value)),
            QueryKind::DomainName => self.sides(PairField::Domain, negate).right.push(Pattern::new(value)),
            QueryKind::ModuleName if value.trim().is_empty() => {}
            QueryKind::ModuleName => self.sides(PairField::Module, negate).right.push(Pattern::new(value)),
            QueryKind::Locator => self.locator(value, negate),
            QueryKind::Annotation => self.annotation(value, negate),
            // The rest asks for rows that no change writes: every record is unverified, unsigned, never scanned
            // and without claims. Of the booleans the last one counts.
            QueryKind::Verified => self.verified = Some((fold(value) == "true") != negate),
            QueryKind::Trusted => self.trusted = Some((fold(value) == "true") != negate),
            // Safe and unsafe both want a scan row.
            QueryKind::ScanSafe => self.nothing = true,
            QueryKind::ScanSeverity if value.is_empty() => {}
            QueryKind::ScanSeverity => {
                known_severity(value)?;
                self.nothing |= !negate;
            }
            QueryKind::ScanStatus | QueryKind::ScanFailureReason | QueryKind::Identity | QueryKind::Owner => {
                self.nothing |= !negate;
            }
            QueryKind::IdentityVerified => self.only_true("identity verified", value, negate)?,
            QueryKind::OwnerVerified => self.only_true("owner verified", value, negate)?,
        }
        Ok(())
    }

    fn text(&mut self, field: TextField, value: &str, negate: bool, comparable: bool) {
        let mut alone = Values::default();
        let values = if negate { &mut alone } else { self.text.entry(field).or_default() };
        match comparison(value).filter(|_| comparable) {
            Some((op, operand)) => values.comparisons.push((op, operand.to_owned())),
            None => values.patterns.push(Pattern::new(value)),
        }
        if negate {
            self.without_text.push(Test::Text { field, values: alone });
        }
    }

    fn sides(&mut self, field: PairField, negate: bool) -> &mut Sides {
        let pool = if negate { &mut self.without_rows } else { &mut self.rows };
        pool.entry(field).or_default()
    }

    fn id(
        &mut self,
        field: PairField,
        what: &'static str,
        value: &str,
        negate: bool,
    ) -> Result<(), QueryError> {
        let id = parse_id(value).map_err(|why| QueryError::BadId { what, value: quoted(value), why })?;
        self.sides(field, negate).left.push(Pattern::Exact(id.to_string()));
        Ok(())
    }

    fn locator(&mut self, value: &str, negate: bool) {
        let (kind, url) = match value.split_once(':') {
            None if value.starts_with('*') => (None, Some(value)),
            None => (Some(value), None),
            Some((kind, url)) if kind.starts_with('*') && url.starts_with("//") => (None, Some(value)),
            Some((kind, url)) => (Some(kind), Some(url)),
        };
        // A side that is blank says nothing, and a pool entry without sides would restrict nothing.
        for (text, left) in [(kind, true), (url, false)] {
            if let Some(text) = text.filter(|t| !t.trim().is_empty()) {
                let sides = self.sides(PairField::Locator, negate);
                let side = if left { &mut sides.left } else { &mut sides.right };
                side.push(Pattern::new(text));
            }
        }
    }

    fn annotation(&mut self, value: &str, negate: bool) {
        let (key, text) = match value.split_once(':') {
            None => (value, ""),
            Some(("", _)) => {
                tracing::debug!(value, "annotation filter without a key is ignored");
                return;
            }
            Some(parts) => parts,
        };
        let sides = self.sides(PairField::Annotation, negate);
        sides.left.push(Pattern::new(key));
        if !text.is_empty() {
            sides.right.push(Pattern::new(text));
        }
    }

    fn only_true(&mut self, what: &str, value: &str, negate: bool) -> Result<(), QueryError> {
        if negate {
            return Err(QueryError::BadValue(format!(
                "{what} filter \"{}\" cannot be negated",
                quoted(value)
            )));
        }
        if value != "true" {
            return Err(QueryError::BadValue(format!(
                "{what} filter accepts only the value \"true\", got \"{}\"",
                quoted(value)
            )));
        }
        self.nothing = true;
        Ok(())
    }

    fn finish(self) -> Plan {
        let nothing = self.nothing || self.verified == Some(true) || self.trusted == Some(true);
        let mut include: Vec<Test> =
            self.text.into_iter().map(|(field, values)| Test::Text { field, values }).collect();
        include.extend(self.rows.into_iter().map(|(field, s)| Test::Rows {
            field,
            left: s.left,
            right: s.right,
            join: Join::Both,
        }));
        let mut exclude = self.without_text;
        exclude.extend(self.without_rows.into_iter().map(|(field, s)| {
            // Ids and names exclude each for itself; halves of locators and annotations exclude together.
            let join = match field {
                PairField::Skill | PairField::Domain | PairField::Module => Join::Either,
                PairField::Locator | PairField::Annotation => Join::Both,
            };
            Test::Rows { field, left: s.left, right: s.right, join }
        }));
        Plan { nothing, include, exclude }
    }
}

/// A value that starts with a comparison sign, and its operand.
fn comparison(value: &str) -> Option<(Op, &str)> {
    const SIGNS: [(&str, Op); 5] =
        [(">=", Op::Ge), ("<=", Op::Le), (">", Op::Gt), ("<", Op::Lt), ("=", Op::Eq)];
    SIGNS.into_iter().find_map(|(sign, op)| value.strip_prefix(sign).map(|operand| (op, operand)))
}

impl Op {
    /// Whether the raw text meets the comparison: by bytes, case-sensitive.
    pub(crate) fn holds(self, text: &str, operand: &str) -> bool {
        match self {
            Op::Ge => text >= operand,
            Op::Le => text <= operand,
            Op::Gt => text > operand,
            Op::Lt => text < operand,
            Op::Eq => text == operand,
        }
    }
}

/// An unsigned decimal of 64 bits, with the error words that clients know.
fn parse_id(value: &str) -> Result<u64, &'static str> {
    if value.is_empty() {
        return Err("invalid syntax");
    }
    value.bytes().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .ok_or("value out of range"),
        _ => Err("invalid syntax"),
    })
}

fn known_severity(value: &str) -> Result<(), QueryError> {
    const SEVERITIES: [&str; 6] = ["NONE", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
    if SEVERITIES.contains(&value.to_uppercase().as_str()) {
        return Ok(());
    }
    Err(QueryError::BadValue(format!(
        "unknown scan severity \"{}\", known are {}",
        quoted(value),
        SEVERITIES.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(kind: QueryKind, value: &str, n: usize) -> Query {
        let filter = Filter { kind, value: value.to_owned(), negate: false };
        Query { filters: vec![filter; n], ..Query::default() }
    }

    #[test]
    fn a_query_has_so_many_filters_and_no_more() {
        assert!(Plan::compile(&filters(QueryKind::Name, "x", MAX_FILTERS)).is_ok());
        let error = Plan::compile(&filters(QueryKind::Name, "x", MAX_FILTERS + 1)).unwrap_err();
        assert!(error.to_string().contains("513 filters in one query, at most 512"), "{error}");
    }

    #[test]
    fn patterns_with_holes_have_so_many_characters_and_no_more() {
        let of = |chars: u64| {
            let pattern = format!("*{}*", "?".repeat(usize::try_from(chars).unwrap_or(0)));
            Filter { kind: QueryKind::Name, value: pattern, negate: false }
        };
        let query = |more| {
            let filters = vec![of(MAX_HOLES / 2), of(MAX_HOLES / 2 + more)];
            Plan::compile(&Query { filters, ..Query::default() })
        };
        assert!(query(0).is_ok());
        let error = query(1).unwrap_err().to_string();
        assert!(error.contains("with ? of 65537 characters in one query, at most 65536"), "{error}");
    }

    #[test]
    fn ids_are_read_as_clients_know_it() {
        assert_eq!(parse_id("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_id("0007"), Ok(7));
        for (value, why) in [("", "invalid syntax"), ("1x", "invalid syntax"), ("0x1", "invalid syntax")] {
            assert_eq!(parse_id(value), Err(why));
        }
        // The first thing that is wrong, from the left, is what is named.
        assert_eq!(parse_id("99999999999999999999x"), Err("value out of range"));
        let error = Plan::compile(&filters(QueryKind::SkillId, "a\"\n", 1)).unwrap_err();
        assert!(error.to_string().ends_with(r#"parsing "a\"\n": invalid syntax"#), "{error}");
    }

    #[test]
    fn only_wildcards_in_the_front_and_comparisons_read_dictionaries() {
        let reads = |kind, value| Plan::compile(&filters(kind, value, 1)).unwrap().reads_dictionaries();
        assert!(reads(QueryKind::Name, "*x") && reads(QueryKind::Version, ">1"));
        assert!(!reads(QueryKind::Name, "x*") && !reads(QueryKind::SkillId, "7"));
    }
}
