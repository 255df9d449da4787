//! What every index adapter must do, written once. An adapter's tests call [`index_conformance!`] with a
//! function that makes an empty index.
//!
//! [`index_conformance!`]: crate::index_conformance

// A suite is test code: it fails by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
mod paging;
mod queries;
mod tables;
mod usage;

pub use changes::*;
pub use paging::*;
pub use queries::*;
pub use usage::*;

use dir_core::facts::RecordFacts;
use dir_core::index::{Change, RecordIndex, Row, Usage};
use dir_core::query::{Filter, Query, QueryKind};
use dir_core::{Cid, EventKind, Timestamp};
use std::any::Any;
use std::sync::Arc;

/// An empty index under test, and whatever must live as long as it does (a temporary directory).
pub struct Subject {
    /// The index.
    pub index: Arc<dyn RecordIndex>,
    /// Dropped after the index.
    pub keep: Box<dyn Any + Send>,
}

impl Subject {
    /// An index that needs nothing beside it.
    pub fn new(index: Arc<dyn RecordIndex>) -> Self {
        Self { index, keep: Box::new(()) }
    }
}

/// One `#[tokio::test]` per check, over `$make`: a function without arguments that returns a
/// [`Subject`](crate::index_conformance::Subject) with an empty index.
#[macro_export]
macro_rules! index_conformance {
    ($make:expr) => {
        $crate::index_conformance!(@each $make,
            a_put_makes_a_row, a_second_put_leaves_the_row_and_writes_its_event, a_delete_takes_everything,
            changes_apply_in_their_order, events_rise_and_page, a_record_belongs_to_whoever_made_its_row, no_event_asked_means_none_written,
            concurrent_changes_are_all_visible, readers_meet_each_record_once_while_others_change, a_closed_index_says_so, facts_come_back_exactly,
            order_is_newest_first_then_cid, pages_join_to_the_whole, limit_and_offset_count_over_pages,
            pages_are_stable_while_records_come_and_go, cids_page_in_digest_order, foreign_cursors_are_refused,
            wildcards_follow_the_table, comparisons_follow_the_table, combinations_follow_the_table,
            bad_values_are_named, counts_ignore_limit_and_offset, random_queries_equal_the_oracle,
            queries_stay_exact_after_deletes,
            counters_add_up_and_go_with_their_row, popularity_is_the_order_of_counters);
    };
    (@each $make:expr, $($check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let subject = $make();
                $crate::index_conformance::$check(&subject).await;
            }
        )+
    };
}

/// The CID that stands for record number `n`.
pub fn cid(n: u64) -> Cid {
    Cid::of(&n.to_be_bytes())
}

/// Facts with a name only.
pub fn named(name: &str) -> Arc<RecordFacts> {
    Arc::new(RecordFacts { name: name.to_owned(), ..RecordFacts::default() })
}

/// A put of record `n`, with the event of a push.
pub fn put(n: u64, facts: &Arc<RecordFacts>, at: i64) -> Change {
    Change::Put {
        cid: cid(n),
        facts: facts.clone(),
        at: Timestamp(at),
        event: Some(EventKind::RecordPushed),
        owner: None,
    }
}

/// A delete of record `n`, with its event.
pub fn delete(n: u64, at: i64) -> Change {
    Change::Delete { cid: cid(n), at: Timestamp(at), event: Some(EventKind::RecordDeleted) }
}

/// A query of one filter.
pub fn one(kind: QueryKind, value: &str) -> Query {
    all(&[(kind, value, false)])
}

/// A query of several filters: kind, value, negate.
pub fn all(filters: &[(QueryKind, &str, bool)]) -> Query {
    let filters = filters
        .iter()
        .map(|&(kind, value, negate)| Filter { kind, value: value.to_owned(), negate })
        .collect();
    Query { filters, ..Query::default() }
}

/// All pages of a query, joined.
pub async fn everything(index: &dyn RecordIndex, query: &Query, page: usize) -> Vec<Cid> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let answer = index.search(query, after.as_ref(), page).await.unwrap();
        assert!(answer.cids.len() <= page, "a page has at most what was asked for");
        found.extend(answer.cids);
        match answer.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

/// Puts records, ten a batch; answers their rows. Index times come in runs of equal ones, out of order.
pub async fn fill(index: &dyn RecordIndex, facts: Vec<RecordFacts>) -> Vec<Row> {
    let rows: Vec<Row> = facts
        .into_iter()
        .zip(0_u64..)
        .map(|(facts, n)| Row {
            cid: cid(n),
            indexed_at: Timestamp(1_000 + i64::try_from((n * 7) % 40).unwrap()),
            facts: Arc::new(facts),
            usage: Usage::default(),
        })
        .collect();
    for batch in rows.chunks(10) {
        let changes = batch
            .iter()
            .map(|row| Change::Put {
                cid: row.cid,
                facts: row.facts.clone(),
                at: row.indexed_at,
                event: None,
                owner: None,
            })
            .collect();
        index.apply(changes).await.unwrap();
    }
    rows
}
