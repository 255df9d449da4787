//! What queries cost: a bounded answer from a large store costs what it costs from a small one.

use dir_core::Timestamp;
use dir_core::index::{Change, RecordIndex, Work};
use dir_core::query::{Filter, Query, QueryKind, Sort};
use dir_index::{MemoryConfig, MemoryIndex};
use dir_testkit::catalogue::Catalogue;
use dir_testkit::index_conformance::cid;
use std::sync::Arc;

const CHUNK: usize = 1_000;
const SMALL: u64 = 4_000;
const LARGE: u64 = 24_000;

async fn filled(records: u64) -> MemoryIndex {
    let index = MemoryIndex::with_config(&MemoryConfig { chunk_records: CHUNK, ..MemoryConfig::default() });
    let catalogue = Catalogue::new(3, LARGE);
    for n in 0..records {
        let (facts, at) = (Arc::new(catalogue.facts(n)), Timestamp(i64::try_from(n).unwrap()));
        index.apply(vec![Change::Put { cid: cid(n), facts, at, event: None, owner: None }]).await.unwrap();
    }
    index
}

fn asked(filters: &[(QueryKind, &str)]) -> Query {
    let filter = |&(kind, value): &(QueryKind, &str)| Filter { kind, value: value.to_owned(), negate: false };
    Query { filters: filters.iter().map(filter).collect(), limit: Some(50), ..Query::default() }
}

async fn cost(index: &MemoryIndex, query: &Query) -> (usize, Work) {
    let before = index.work();
    let found = index.search(query, None, 50).await.unwrap().cids.len();
    let after = index.work();
    let spent = Work {
        values: after.values - before.values,
        sketches: after.sketches - before.sketches,
        records: after.records - before.records,
    };
    (found, spent)
}

#[tokio::test]
async fn a_bounded_answer_costs_the_same_from_a_store_six_times_as_large() {
    use QueryKind as K;
    let (small, large) = (filled(SMALL).await, filled(LARGE).await);
    let queries = [
        asked(&[]),
        asked(&[(K::SkillId, "10201")]),
        asked(&[(K::SkillName, "tool_interaction/*"), (K::DomainName, "technology/networking")]),
        asked(&[
            (K::SkillName, "*summarization"),
            (K::ModuleName, "integration/mcp"),
            (K::Annotation, "tier:bronze"),
        ]),
        asked(&[(K::Name, "*invoice*")]),
        asked(&[(K::Author, "fischer")]),
        asked(&[(K::Description, "*networking*"), (K::SchemaVersion, "1.0.0")]),
        asked(&[(K::CreatedAt, ">=2025-06-01")]),
        Query { offset: 30, ..asked(&[(K::DomainId, "201")]) },
    ];
    for query in queries {
        let ((few, less), (many, more)) = (cost(&small, &query).await, cost(&large, &query).await);
        assert_eq!((few, many), (50, 50), "{query:?}");
        let total = |work: Work| work.values + work.sketches + work.records;
        let slack = 2 * CHUNK as u64;
        assert!(
            total(more) <= 2 * total(less) + slack,
            "{query:?}: {less:?} of {SMALL}, {more:?} of {LARGE}"
        );
        assert!(total(more) < LARGE / 2, "{query:?}: {more:?}");
    }
}

/// A value that few records have stands anywhere: bits of every distinct value are looked at, and few are read.
#[tokio::test]
async fn a_rare_piece_of_text_is_read_in_few_values() {
    let index = filled(LARGE).await;
    for query in [
        asked(&[(QueryKind::Name, "*-12345*")]),
        asked(&[(QueryKind::Name, "*nobody has this*")]),
        asked(&[(QueryKind::Description, "*summarizes quarks*")]),
    ] {
        let (found, work) = cost(&index, &query).await;
        assert!(found < 50);
        assert!(work.values < LARGE / 20, "{query:?}: {work:?}");
    }
}

/// Half of all descriptions have the piece; those of records that the other filter leaves are read.
#[tokio::test]
async fn texts_are_read_of_the_records_that_other_filters_leave() {
    let index = filled(LARGE).await;
    let name = Catalogue::new(3, LARGE).facts(0).name;
    let (_, all) = cost(&index, &asked(&[(QueryKind::Description, "*teams in*")])).await;
    let two = asked(&[(QueryKind::Name, &name), (QueryKind::Description, "*teams in*")]);
    let (found, work) = cost(&index, &two).await;
    assert!(found > 0 && all.values > 500, "{found} found, {all:?} for the piece alone");
    assert!(work.values <= 4, "{work:?}");
    // The same for a filter that excludes.
    let mut without = two.clone();
    without.filters[1].negate = true;
    let (found, work) = cost(&index, &without).await;
    assert!(found == 0 && work.values <= 4, "{work:?}");
}

/// The most used records of a chunk are known: POPULARITY looks at no more than it answers from each chunk.
#[tokio::test]
async fn popularity_does_not_sort_the_store() {
    let index = filled(LARGE).await;
    let used = dir_core::index::Usage { pulls: 1, lookups: 0 };
    index.add_usage((0..LARGE).step_by(7).map(|n| (cid(n), used)).collect()).await.unwrap();
    let (found, work) = cost(&index, &Query { sort: Sort::Popularity, ..asked(&[]) }).await;
    assert_eq!(found, 50);
    assert!(work.records < LARGE / 2, "{work:?}");
}
