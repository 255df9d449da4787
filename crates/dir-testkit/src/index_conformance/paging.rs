//! Checks of order and paging.

use super::{Subject, cid, delete, everything, fill, named, put};
use crate::generate::Generator;
use dir_core::Cid;
use dir_core::index::{Cursor, IndexError};
use dir_core::query::{Filter, Query, QueryKind, Sort};

/// Newest in the index first; equal times by CID; the other orders likewise, as long as nothing is counted.
pub async fn order_is_newest_first_then_cid(subject: &Subject) {
    let index = subject.index.as_ref();
    let times = [(1, 30), (2, 10), (3, 30), (4, -5), (5, 20), (6, 30)];
    for (n, at) in times {
        index.apply(vec![put(n, &named("x"), at)]).await.unwrap();
    }
    let mut newest = vec![cid(1), cid(3), cid(6)];
    newest.sort_unstable();
    let expected = [newest, vec![cid(5), cid(2), cid(4)]].concat();
    for sort in [Sort::Recency, Sort::Popularity, Sort::ProviderCount] {
        let query = Query { sort, ..Query::default() };
        assert_eq!(everything(index, &query, 4).await, expected, "{sort:?}");
    }
}

fn some_query() -> Query {
    let filter = Filter { kind: QueryKind::SchemaVersion, value: "1.*".into(), negate: false };
    Query { filters: vec![filter], ..Query::default() }
}

/// Pages of any size give the same sequence, for dense, sparse and empty results.
pub async fn pages_join_to_the_whole(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(11);
    fill(index, (0..150).map(|_| generator.facts()).collect()).await;
    let sparse = super::one(QueryKind::Name, "*-music-*");
    for query in [Query::default(), some_query(), sparse, super::one(QueryKind::Name, "nobody")] {
        let whole = index.search(&query, None, usize::MAX).await.unwrap();
        assert_eq!(whole.next, None);
        for page in [1, 2, 7, 50, 149, 150, 151] {
            assert_eq!(everything(index, &query, page).await, whole.cids, "pages of {page}");
        }
    }
}

/// The limit and offset of a query are of its whole result, however it is paged.
pub async fn limit_and_offset_count_over_pages(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut generator = Generator::new(12);
    fill(index, (0..60).map(|_| generator.facts()).collect()).await;
    let whole = everything(index, &Query::default(), 100).await;
    for offset in [0, 1, 30, 59, 60, 61, usize::MAX] {
        for limit in [0, 1, 10, 59, 60, 61, usize::MAX] {
            let expected: Vec<Cid> = whole.iter().skip(offset).take(limit).copied().collect();
            let query = Query { offset: offset as u64, limit: Some(limit as u64), ..Query::default() };
            for page in [1, 10, 60, 61] {
                assert_eq!(everything(index, &query, page).await, expected, "{offset}+{limit} by {page}");
            }
        }
    }
}

/// Going on from a cursor neither repeats nor misses a record that was there all the time.
pub async fn pages_are_stable_while_records_come_and_go(subject: &Subject) {
    let index = subject.index.as_ref();
    for n in 0..40 {
        index.apply(vec![put(n, &named("old"), 1_000 + i64::try_from(n).unwrap())]).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after: Option<Cursor> = None;
    let mut round = 0;
    loop {
        let page = index.search(&Query::default(), after.as_ref(), 6).await.unwrap();
        // The last one seen goes, so the cursor stands at a record that is gone; a newer one comes.
        let last = page.cids.last().copied();
        seen.extend(page.cids);
        let gone = (0..40).find(|n| Some(cid(*n)) == last).unwrap();
        index.apply(vec![delete(gone, 1), put(100 + round, &named("new"), 9_000)]).await.unwrap();
        round += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<Cid> = (0..40).rev().map(cid).collect();
    assert_eq!(seen, expected);
}

/// All live CIDs, by digest, in pages.
pub async fn cids_page_in_digest_order(subject: &Subject) {
    let index = subject.index.as_ref();
    let mut expected: Vec<Cid> = (0..700).map(cid).collect();
    index.apply((0..700).map(|n| put(n, &named("x"), 1)).collect()).await.unwrap();
    index.apply((0..700).step_by(7).map(|n| delete(n, 2)).collect()).await.unwrap();
    for gone in (0..700).step_by(7).map(cid) {
        expected.retain(|c| *c != gone);
    }
    expected.sort_unstable();
    for page in [1, 64, 599, 600, 10_000] {
        let mut seen: Vec<Cid> = Vec::new();
        loop {
            let some = index.cids(seen.last(), page).await.unwrap();
            if some.is_empty() {
                break;
            }
            assert!(some.len() <= page);
            seen.extend(some);
        }
        assert_eq!(seen, expected, "pages of {page}");
    }
    // Going on from a CID that is not there works the same.
    assert_eq!(index.cids(Some(&cid(0)), 1).await.unwrap().first(), expected.iter().find(|c| **c > cid(0)));
}

/// A cursor that no index made is an error of the caller.
pub async fn foreign_cursors_are_refused(subject: &Subject) {
    subject.index.apply(vec![put(1, &named("x"), 1)]).await.unwrap();
    for bytes in [vec![], vec![0; 3], vec![9; 200]] {
        let answer = subject.index.search(&Query::default(), Some(&Cursor(bytes)), 5).await;
        assert!(matches!(answer, Err(IndexError::Query(_))), "{answer:?}");
    }
}
