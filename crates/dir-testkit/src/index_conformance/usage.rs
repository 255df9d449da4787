//! Checks of usage counters and the order they make.

use super::{Subject, cid, delete, everything, fill, named, put};
use crate::generate::{Generator, Numbers, query};
use crate::oracle;
use dir_core::index::{RecordIndex, Row, Usage};
use dir_core::query::{Query, Sort};

async fn usage(index: &dyn RecordIndex, n: u64) -> Option<Usage> {
    index.row(&cid(n)).await.unwrap().map(|row| row.usage)
}

/// Counters of a batch add up, also for one record several times; a delete takes them, and a record that comes again
/// begins at nothing.
pub async fn counters_add_up_and_go_with_their_row(subject: &Subject) {
    let index = subject.index.as_ref();
    index.apply(vec![put(1, &named("x"), 10), put(2, &named("y"), 20)]).await.unwrap();
    let counted = |pulls, lookups| Usage { pulls, lookups };
    let counts = vec![(cid(1), counted(2, 0)), (cid(9), counted(5, 5)), (cid(1), counted(0, 3))];
    index.add_usage(counts).await.unwrap();
    assert_eq!(usage(index, 1).await, Some(counted(2, 3)));
    assert_eq!(usage(index, 2).await, Some(Usage::default()));
    assert_eq!(usage(index, 9).await, None, "counters alone make no row");
    index.apply(vec![delete(1, 30), put(1, &named("x"), 40)]).await.unwrap();
    assert_eq!(usage(index, 1).await, Some(Usage::default()));
    index.apply(vec![put(9, &named("z"), 50)]).await.unwrap();
    index.add_usage(vec![(cid(9), counted(1, 0))]).await.unwrap();
    assert_eq!(usage(index, 9).await, Some(counted(1, 0)));
}

/// POPULARITY is by counters, then as RECENCY; for any query and any page size, the other orders untouched.
pub async fn popularity_is_the_order_of_counters(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(31);
    let mut rows: Vec<Row> = fill(index, (0..160).map(|_| generator.facts()).collect()).await;
    let facts: Vec<_> = rows.iter().map(|row| (*row.facts).clone()).collect();
    let mut numbers = Numbers::new(32);
    for round in 0..6 {
        let counts: Vec<_> = (0..20)
            .map(|_| {
                let row = &mut rows[numbers.skewed(160)];
                let more = Usage { pulls: numbers.below(3) as u64, lookups: numbers.below(2) as u64 };
                row.usage = row.usage.plus(more);
                (row.cid, more)
            })
            .collect();
        index.add_usage(counts).await.unwrap();
        for sort in [Sort::Popularity, Sort::Recency, Sort::ProviderCount] {
            for _ in 0..12 {
                let asked = Query { sort, ..query(&mut numbers, &facts) };
                let Ok(expected) = oracle::answer(&rows, &asked) else { continue };
                let page = 1 + numbers.below(30);
                let found = everything(index, &asked, page).await;
                assert_eq!(found, expected, "round {round}, pages of {page}: {asked:?}");
            }
            let all = Query { sort, ..Query::default() };
            assert_eq!(everything(index, &all, 7).await, oracle::answer(&rows, &all).unwrap(), "{sort:?}");
        }
    }
}
