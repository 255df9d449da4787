//! What every adapter of the store port must do, written once.
//!
//! An adapter's tests implement [`Backend`] and call [`run`]. A backend that cannot be tampered with says so, and
//! the [`Report`] names the cases that were skipped for it: the adapter's test states which it expects.
// A case that cannot go on is a failed case.
#![allow(clippy::expect_used, clippy::panic)]

mod content;
mod referrers;
mod walk;

use async_trait::async_trait;
use bytes::Bytes;
use dir_core::oci::{TYPE_SIGNATURE, referrer_blob};
use dir_core::store::{Presence, Put, RecordStore, Referrer};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A manifest that somebody else writes, with the blobs it names.
#[derive(Debug, Clone)]
pub struct Plant {
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// Blobs to be there before it.
    pub blobs: Vec<Bytes>,
    /// Its tag; `None` stores it by digest alone.
    pub tag: Option<String>,
}

/// An adapter under test with an empty store of its own, and a way round it.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The store. Cases hold it no longer than they must, so that [`Backend::reopen`] can.
    fn store(&self) -> Arc<dyn RecordStore>;

    /// Closes the store and opens it again over what it left. `false`: nothing outlives this store.
    async fn reopen(&mut self) -> bool;

    /// Changes the stored bytes of this blob of the record `of`. `false`: not possible here.
    async fn corrupt(&mut self, of: &Cid, blob: &Cid) -> bool;

    /// Whether the backend has this blob where the record `of` lives; `None`: cannot be seen.
    async fn has_blob(&self, of: &Cid, blob: &Cid) -> Option<bool>;

    /// Writes past the store, to where the record `of` lives. `false`: not possible here.
    async fn plant(&mut self, of: &Cid, plant: Plant) -> bool;
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Cases that ran to their end.
    pub passed: Vec<&'static str>,
    /// Cases that the backend cannot be put through.
    pub skipped: Vec<&'static str>,
}

/// Whether a case could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Yes,
    NotHere,
}

type Case = for<'a> fn(&'a mut dyn Backend) -> BoxFuture<'a, Done>;

/// Runs every case, each on a new backend. Panics at the first that fails, naming it.
pub async fn run<B: Backend + 'static>(make: impl AsyncFn() -> B) -> Report {
    let mut report = Report::default();
    for (name, case) in content::CASES.iter().chain(referrers::CASES).chain(walk::CASES) {
        eprintln!("store conformance: {name}");
        let mut backend = make().await;
        match case(&mut backend).await {
            Done::Yes => report.passed.push(name),
            Done::NotHere => report.skipped.push(name),
        }
    }
    report
}

/// A record and its facts; other numbers give other records.
pub fn sample(n: usize) -> (Record, RecordFacts) {
    sample_of_size(n, 0)
}

/// A record of at least `size` bytes.
pub fn sample_of_size(n: usize, size: usize) -> (Record, RecordFacts) {
    let facts = RecordFacts {
        name: format!("example/agent-{n}"),
        version: "v1.0.0".to_owned(),
        schema_version: "1.0.0".to_owned(),
        description: "x".repeat(size),
        ..RecordFacts::default()
    };
    let text = format!(
        r#"{{"description":"{}","name":"{}","schema_version":"1.0.0","version":"v1.0.0"}}"#,
        facts.description, facts.name
    );
    (Record::from_canonical(text.into()), facts)
}

/// A referrer of `subject`; other notes give other referrers.
pub fn sample_referrer(subject: &Cid, note: &str) -> Referrer {
    let annotations = BTreeMap::from([("note".to_owned(), note.to_owned())]);
    let created_at = "2026-01-02T03:04:05Z".to_owned();
    let bytes = referrer_blob(subject, TYPE_SIGNATURE, &created_at, &annotations, None).unwrap_or_default();
    Referrer { cid: Cid::of(&bytes), bytes, api_type: TYPE_SIGNATURE.to_owned(), created_at, annotations }
}

/// The time of the `n`th second of the tests.
pub fn at(n: i64) -> Timestamp {
    Timestamp::from_secs(1_767_225_600 + n)
}

/// Stores the `n`th sample; it must be new.
async fn store_sample(backend: &dyn Backend, n: usize) -> Record {
    let (record, facts) = sample(n);
    let put = backend.store().put(&record, &facts, at(0), Presence::Unknown).await;
    assert_eq!(put.expect("put"), Put::Stored);
    record
}
