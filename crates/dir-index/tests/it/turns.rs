//! Queries that cost much are asked in turns: other tasks and changes come in between, and a caller that goes away
//! stops them.

use dir_core::index::{Change, RecordIndex};
use dir_core::query::{Filter, Query, QueryKind};
use dir_core::{RecordFacts, Timestamp};
use dir_index::{MAX_FILTERS, MemoryIndex};
use dir_testkit::index_conformance::cid;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const RECORDS: u64 = 200;

/// Records with much text, of which every second says that it is even.
async fn filled() -> MemoryIndex {
    let index = MemoryIndex::default();
    for n in 0..RECORDS {
        let word = if n % 2 == 0 { "even" } else { "odd" };
        let description = format!("{}{word} {}", "lorem ipsum ".repeat(400), n);
        let facts = Arc::new(RecordFacts { description, ..RecordFacts::default() });
        let at = Timestamp(i64::try_from(n).unwrap());
        index.apply(vec![Change::Put { cid: cid(n), facts, at, event: None, owner: None }]).await.unwrap();
    }
    index
}

/// As many filters as are answered; one of them is met by every second record.
fn many_filters() -> Query {
    let others = (1..MAX_FILTERS).map(|n| format!("*ipsum{n}*"));
    let filter = |value| Filter { kind: QueryKind::Description, value, negate: false };
    Query { filters: others.chain(["*even*".to_owned()]).map(filter).collect(), ..Query::default() }
}

#[tokio::test]
async fn others_run_and_change_records_while_a_query_is_answered() {
    let (index, query) = (filled().await, many_filters());
    let mut counting = Box::pin(index.count(&query));
    let mut turns = 0;
    let counted = loop {
        match counting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(counted) => break counted.unwrap(),
            Poll::Pending => turns += 1,
        }
        if turns == 3 {
            // One that was looked at already, and one that is still to come.
            let gone = |n| Change::Delete { cid: cid(n), at: Timestamp(1_000), event: None };
            index.apply(vec![gone(0), gone(RECORDS - 2)]).await.unwrap();
        }
    };
    // 512 patterns on a megabyte, eight million at a time.
    assert!((50..=RECORDS).contains(&turns), "{turns}");
    assert_eq!(counted, RECORDS / 2 - 2);
}

#[tokio::test]
async fn pages_are_the_same_as_those_of_a_query_that_costs_little() {
    let index = filled().await;
    let mut dear = many_filters();
    let mut cheap = dear.clone();
    cheap.filters.drain(..MAX_FILTERS - 1);
    (dear.offset, cheap.offset) = (7, 7);
    let mut after = None;
    loop {
        let expected = index.search(&cheap, after.as_ref(), 40).await.unwrap();
        assert_eq!(index.search(&dear, after.as_ref(), 40).await.unwrap(), expected);
        match expected.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
}
