//! Checks of what matches.

use super::{Subject, all, cid, delete, everything, fill, one, tables};
use crate::generate::{Generator, Numbers, query};
use crate::oracle;
use dir_core::Cid;
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use dir_core::index::{IndexError, RecordIndex, Row};
use dir_core::query::{Query, QueryError, QueryKind};
use std::mem::discriminant;

/// Records of the random checks; enough for several chunks when an adapter makes them small.
const RECORDS: usize = 160;
/// Random queries of each check.
const QUERIES: usize = 150;

/// Wildcard matching, in a field of each kind.
pub async fn wildcards_follow_the_table(subject: &Subject) {
    let index = subject.index.as_ref();
    let facts = tables::WILD.iter().map(|(column, _, _)| RecordFacts {
        name: (*column).into(),
        skills: vec![ClassFact { id: 1, name: (*column).into() }],
        ..RecordFacts::default()
    });
    let rows = fill(index, facts.collect()).await;
    for (row, (column, value, expected)) in rows.iter().zip(tables::WILD) {
        assert_eq!(oracle::wild(column, value), *expected, "oracle: {value:?} on {column:?}");
        for kind in [QueryKind::Name, QueryKind::SkillName] {
            let found = everything(index, &one(kind, value), 50).await.contains(&row.cid);
            assert_eq!(found, *expected, "{kind:?} {value:?} on {column:?}");
        }
    }
}

/// Comparison matching, in each field that has it; fields without it take the sign as text.
pub async fn comparisons_follow_the_table(subject: &Subject) {
    let index = subject.index.as_ref();
    let facts = tables::CMP.iter().map(|(column, _, _)| RecordFacts {
        version: (*column).into(),
        schema_version: (*column).into(),
        created_at: (*column).into(),
        ..RecordFacts::default()
    });
    let rows = fill(index, facts.collect()).await;
    for (row, (column, values, expected)) in rows.iter().zip(tables::CMP) {
        assert_eq!(oracle::cmp(column, values), *expected, "oracle: {values:?} on {column:?}");
        for kind in [QueryKind::Version, QueryKind::SchemaVersion, QueryKind::CreatedAt] {
            let filters: Vec<_> = values.iter().map(|v| (kind, *v, false)).collect();
            let found = everything(index, &all(&filters), 50).await.contains(&row.cid);
            assert_eq!(found, *expected, "{kind:?} {values:?} on {column:?}");
        }
    }
    assert_eq!(index.count(&one(QueryKind::Name, ">=")).await.unwrap(), 0);
}

fn four_records() -> Vec<RecordFacts> {
    let class = |id, name: &str| ClassFact { id, name: name.to_owned() };
    let locator = |kind: &str, url: &str| LocatorFact { kind: kind.to_owned(), url: url.to_owned() };
    let module = |id, name: &str| ModuleFact { id, name: name.to_owned(), ..ModuleFact::default() };
    let notes = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    vec![
        RecordFacts {
            name: "zero".into(),
            description: "Finds <b>things</b>".into(),
            authors: Some(vec!["Alice <alice@example.com>".into(), "Bob & Sons".into()]),
            skills: vec![class(1, "a"), class(2, "b")],
            modules: vec![module(10, "m/x"), module(11, "m/y")],
            locators: vec![locator("https", "//x"), locator("docker", "u1")],
            annotations: notes(&[("team", "red"), ("tier", "gold")]),
            ..RecordFacts::default()
        },
        RecordFacts {
            name: "one".into(),
            authors: None,
            skills: vec![class(1, "b")],
            modules: vec![module(11, "m/x")],
            locators: vec![locator("docker", "u2"), locator("helm", "*")],
            annotations: notes(&[("team", "blue"), ("", "empty")]),
            ..RecordFacts::default()
        },
        RecordFacts {
            name: "two".into(),
            authors: Some(Vec::new()),
            domains: vec![class(1, "a")],
            locators: vec![locator("helm", "u1")],
            annotations: notes(&[("tier", "red")]),
            ..RecordFacts::default()
        },
        RecordFacts::default(),
    ]
}

type Case = (&'static [(QueryKind, &'static str, bool)], &'static [u64]);

fn combinations() -> Vec<Case> {
    [classes(), texts(), rows_of_others()].concat()
}

/// Names, and ids with names on the same row.
fn classes() -> Vec<Case> {
    use QueryKind as K;
    vec![
        // Kinds AND, equal kinds OR; an empty value matches the empty column.
        (&[(K::Name, "zero", false), (K::Name, "one", false)], &[0, 1]),
        (&[(K::Name, "zero", false), (K::SkillId, "1", false)], &[0]),
        (&[(K::Name, "", false)], &[3]),
        (&[(K::Name, "*", true)], &[]),
        (&[(K::Name, "zero", true), (K::Name, "one", true)], &[2, 3]),
        // Id and name on the same row; without a row of the id when negated; either excludes.
        (&[(K::SkillId, "1", false), (K::SkillName, "b", false)], &[1]),
        (&[(K::SkillId, "2", false), (K::SkillId, "1", false), (K::SkillName, "b", false)], &[0, 1]),
        (&[(K::SkillId, "0001", false)], &[0, 1]),
        (&[(K::SkillId, "18446744073709551615", false)], &[]),
        (&[(K::SkillId, "2", true)], &[1, 2, 3]),
        (&[(K::SkillId, "2", true), (K::SkillName, "b", true)], &[2, 3]),
        (&[(K::SkillName, "a", true)], &[1, 2, 3]),
        (&[(K::ModuleId, "11", false), (K::ModuleName, "m/x", false)], &[1]),
        (&[(K::ModuleName, " ", false)], &[0, 1, 2, 3]),
        (&[(K::ModuleName, "", true)], &[0, 1, 2, 3]),
        (&[(K::DomainId, "1", false)], &[2]),
        (&[(K::DomainName, "A", false)], &[2]),
    ]
}

/// Locators, annotations, authors and the other texts.
fn texts() -> Vec<Case> {
    use QueryKind as K;
    vec![
        // Locators: forms a to d, pooling, exclusion.
        (&[(K::Locator, "*x", false)], &[0]),
        (&[(K::Locator, "docker", false)], &[0, 1]),
        (&[(K::Locator, "https://x", false)], &[0]),
        (&[(K::Locator, "*://x", false)], &[]),
        (&[(K::Locator, ":u1", false)], &[0, 2]),
        (&[(K::Locator, "docker:", false)], &[0, 1]),
        (&[(K::Locator, ":", false)], &[0, 1, 2, 3]),
        (&[(K::Locator, " ", false)], &[0, 1, 2, 3]),
        (&[(K::Locator, "docker:u1", false), (K::Locator, "helm:u3", false)], &[0, 2]),
        (&[(K::Locator, "docker:u1", true)], &[1, 2, 3]),
        (&[(K::Locator, "docker:u1", true), (K::Locator, "helm:u3", true)], &[1, 3]),
        // Annotations: key only, pooled values, the empty key.
        (&[(K::Annotation, "team", false)], &[0, 1]),
        (&[(K::Annotation, "team:", false)], &[0, 1]),
        (&[(K::Annotation, "TEAM:r*", false)], &[0]),
        (&[(K::Annotation, "team:gold", false), (K::Annotation, "tier:red", false)], &[0, 2]),
        (&[(K::Annotation, "", false)], &[1]),
        (&[(K::Annotation, ":empty", false)], &[0, 1, 2, 3]),
        (&[(K::Annotation, ":", true)], &[0, 1, 2, 3]),
        (&[(K::Annotation, "team:red", true)], &[1, 2, 3]),
        (&[(K::Annotation, "team:gold", true), (K::Annotation, "tier:red", true)], &[1, 3]),
        // Authors: inside each text, markup included; no list at all is only ever excluded from exclusion.
        (&[(K::Author, "<ALICE@", false)], &[0]),
        (&[(K::Author, "& s", false)], &[0]),
        (&[(K::Author, "*", false)], &[0, 2]),
        (&[(K::Author, "alice", true)], &[1, 2, 3]),
        (&[(K::Author, "", true)], &[1, 3]),
        (&[(K::Description, "*<B>*", false)], &[0]),
        (&[(K::Description, "", false)], &[0, 1, 2, 3]),
        (&[(K::Description, " ", true)], &[0, 1, 2, 3]),
        (&[(K::Version, "", true)], &[]),
        (&[(K::CreatedAt, ">2020", true)], &[0, 1, 2, 3]),
    ]
}

/// Rows of verification and scans, which no record has yet.
fn rows_of_others() -> Vec<Case> {
    use QueryKind as K;
    vec![
        (&[(K::Verified, "true", false)], &[]),
        (&[(K::Verified, "TRUE", true)], &[0, 1, 2, 3]),
        (&[(K::Verified, "no", false)], &[0, 1, 2, 3]),
        (&[(K::Verified, "false", true)], &[]),
        (&[(K::Verified, "true", false), (K::Verified, "false", false)], &[0, 1, 2, 3]),
        (&[(K::Trusted, "true", false)], &[]),
        (&[(K::Trusted, "false", false)], &[0, 1, 2, 3]),
        (&[(K::ScanSafe, "true", false)], &[]),
        (&[(K::ScanSafe, "true", true)], &[]),
        (&[(K::ScanSafe, "false", false)], &[]),
        (&[(K::ScanSeverity, "low", false)], &[]),
        (&[(K::ScanSeverity, "Low", true)], &[0, 1, 2, 3]),
        (&[(K::ScanSeverity, "", false)], &[0, 1, 2, 3]),
        (&[(K::ScanStatus, "completed", false)], &[]),
        (&[(K::ScanStatus, "completed", true)], &[0, 1, 2, 3]),
        (&[(K::ScanFailureReason, "scanner-*", false)], &[]),
        (&[(K::Identity, "spiffe://*", false)], &[]),
        (&[(K::Owner, "*", true)], &[0, 1, 2, 3]),
        (&[(K::IdentityVerified, "true", false)], &[]),
        (&[(K::OwnerVerified, "true", false)], &[]),
    ]
}

/// How filters combine, each rule by example.
pub async fn combinations_follow_the_table(subject: &Subject) {
    let index = subject.index.as_ref();
    let rows = fill(index, four_records()).await;
    for (filters, expected) in combinations() {
        let query = all(filters);
        let mut found = everything(index, &query, 50).await;
        let mut expected: Vec<_> = expected.iter().map(|n| cid(*n)).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filters:?}");
        let mut oracle = oracle::answer(&rows, &query).unwrap();
        oracle.sort_unstable();
        assert_eq!(oracle, expected, "oracle: {filters:?}");
    }
}

/// Values that cannot be answered are errors of the caller, in the words that clients know.
pub async fn bad_values_are_named(subject: &Subject) {
    let index = subject.index.as_ref();
    let ids = [
        (QueryKind::SkillId, "skill", "abc", "invalid syntax"),
        (QueryKind::DomainId, "domain", "", "invalid syntax"),
        (QueryKind::ModuleId, "module", "-1", "invalid syntax"),
        (QueryKind::SkillId, "skill", "+1", "invalid syntax"),
        (QueryKind::SkillId, "skill", "1_0", "invalid syntax"),
        (QueryKind::SkillId, "skill", " 1", "invalid syntax"),
        (QueryKind::SkillId, "skill", "18446744073709551616", "value out of range"),
    ];
    for (kind, what, value, why) in ids {
        let expected = format!(
            "failed to create filter options: failed to parse {what} ID \"{value}\": strconv.ParseUint: parsing \"{value}\": {why}"
        );
        for negate in [false, true] {
            let query = all(&[(kind, value, negate)]);
            let answers = [index.search(&query, None, 1).await.err(), index.count(&query).await.err()];
            for answer in answers {
                assert!(matches!(answer, Some(IndexError::Query(QueryError::BadId { .. }))));
                assert_eq!(answer.unwrap().to_string(), expected);
            }
        }
    }
    let values = [
        (QueryKind::ScanSeverity, "dreadful", false),
        (QueryKind::IdentityVerified, "false", false),
        (QueryKind::IdentityVerified, "true", true),
        (QueryKind::OwnerVerified, "", false),
        (QueryKind::OwnerVerified, "true", true),
    ];
    for (kind, value, negate) in values {
        let answer = index.count(&all(&[(kind, value, negate)])).await.unwrap_err();
        assert!(matches!(answer, IndexError::Query(QueryError::BadValue(_))), "{kind:?} {value}");
        assert!(answer.to_string().contains(value));
    }
}

/// A count is of all matches.
pub async fn counts_ignore_limit_and_offset(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(21);
    fill(index, (0..80).map(|_| generator.facts()).collect()).await;
    let modern = one(QueryKind::SchemaVersion, "1.*");
    for query in [Query::default(), modern] {
        let matches = everything(index, &query, 1_000).await.len() as u64;
        assert!(matches > 10);
        let cut = Query { limit: Some(3), offset: 5, ..query };
        assert_eq!(index.count(&cut).await.unwrap(), matches);
    }
}

/// Random records, random queries: the index answers what the plain loops answer.
pub async fn random_queries_equal_the_oracle(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(31);
    let rows = fill(index, (0..RECORDS).map(|_| generator.facts()).collect()).await;
    let some_matched = compare(index, &rows, 77).await;
    assert!(some_matched > QUERIES / 20, "the queries hardly ever match: {some_matched}");
}

/// The same after half of the records went and some came back.
pub async fn queries_stay_exact_after_deletes(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(32);
    let mut rows = fill(index, (0..RECORDS).map(|_| generator.facts()).collect()).await;
    let half = RECORDS as u64 / 2;
    index.apply((0..half).map(|n| delete(n, 1)).collect()).await.unwrap();
    rows.drain(..RECORDS / 2);
    assert_eq!(index.len(), rows.len() as u64);
    compare(index, &rows, 78).await;
    // `fill` names its records from zero: exactly the deleted ones come back, with other facts.
    rows.extend(fill(index, (0..half).map(|_| generator.facts()).collect()).await);
    compare(index, &rows, 79).await;
}

/// Compares random queries; answers how many had a result.
async fn compare(index: &dyn RecordIndex, rows: &[Row], seed: u64) -> usize {
    let facts: Vec<RecordFacts> = rows.iter().map(|row| RecordFacts::clone(&row.facts)).collect();
    let mut numbers = Numbers::new(seed);
    let mut some = 0;
    for case in 0..QUERIES {
        let query = query(&mut numbers, &facts);
        let page = 1 + numbers.below(30);
        let all = Query { limit: None, offset: 0, ..query.clone() };
        match oracle::answer(rows, &all) {
            Ok(matches) => {
                let (offset, limit) = (query.offset.try_into().unwrap(), query.limit.unwrap_or(u64::MAX));
                let cut = matches.iter().skip(offset).take(limit.try_into().unwrap());
                let expected: Vec<Cid> = cut.copied().collect();
                let found = everything(index, &query, page).await;
                assert_eq!(found, expected, "seed {seed}, case {case}, pages of {page}: {query:?}");
                assert_eq!(index.count(&query).await.unwrap(), matches.len() as u64, "count of {query:?}");
                some += usize::from(!expected.is_empty());
            }
            Err(expected) => match index.search(&query, None, page).await {
                Err(IndexError::Query(found)) => {
                    assert_eq!(discriminant(&found), discriminant(&expected), "{query:?}");
                }
                other => panic!("{expected} expected for {query:?}, got {other:?}"),
            },
        }
    }
    some
}
