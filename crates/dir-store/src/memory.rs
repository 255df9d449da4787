//! The store in memory: for tests and for a node that need not survive its process.

use crate::artifact::Manifest;
use crate::limits::Limits;
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::oci::{Subject, record_manifest, referrer_manifest};
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use futures::stream;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Records between two marks of a walk.
const WALK_CHUNK: usize = 64;

/// A [`RecordStore`] in memory. Nothing survives the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    limits: Limits,
    records: RwLock<BTreeMap<Cid, Entry>>,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    manifest: Bytes,
    referrers: Vec<(StoredReferrer, Bytes)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self { limits, records: RwLock::default() }
    }

    /// Replaces the bytes of a record without touching anything else, as failing memory would. For tests of
    /// what stands in front of a store. Answers whether the record was there.
    pub fn corrupt(&self, cid: &Cid, bytes: Bytes) -> bool {
        self.records.write().get_mut(cid).map(|e| e.bytes = bytes).is_some()
    }

    /// The records above `after`, in order.
    pub(crate) fn cids(&self, after: Option<Cid>) -> Vec<Cid> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.read().range((from, Bound::Unbounded)).map(|(cid, _)| *cid).collect()
    }

    /// Whether the content of a record is what it should be.
    pub(crate) fn is_whole(&self, cid: &Cid) -> bool {
        self.records.read().get(cid).is_none_or(|e| Cid::of(&e.bytes) == *cid)
    }

    fn chunk(&self, after: Option<Cid>) -> Vec<Result<Walked, StoreError>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.records.read();
        let mut out: Vec<_> = records
            .range((from, Bound::Unbounded))
            .take(WALK_CHUNK)
            .map(|(cid, entry)| entry.stored(*cid).map(Walked::Record))
            .collect();
        if let Some((last, _)) = records.range((from, Bound::Unbounded)).take(WALK_CHUNK).last() {
            out.push(Ok(Walked::Mark(WalkMark(last.to_string()))));
        }
        out
    }
}

impl Entry {
    fn stored(&self, cid: Cid) -> Result<Stored, StoreError> {
        let digest = Cid::of(&self.manifest).oci_digest();
        Ok(Manifest::parse(&self.manifest, &digest)?.into_stored(cid, digest))
    }
}

/// The CID that a mark names.
pub(crate) fn mark_cid(mark: Option<WalkMark>) -> Result<Option<Cid>, StoreError> {
    let Some(WalkMark(text)) = mark else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|e| StoreError::Layout(format!("walk mark {text:?} is not of this store: {e}")))
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        _presence: Presence,
    ) -> Result<Put, StoreError> {
        self.limits.check_blob("record", record.bytes().len())?;
        let manifest = record_manifest(&record.cid(), record.bytes().len() as u64, facts, at);
        self.limits.check_manifest("record manifest", manifest.len())?;
        let mut records = self.records.write();
        if records.contains_key(&record.cid()) {
            return Ok(Put::Existed);
        }
        let entry = Entry { bytes: record.bytes().clone(), manifest, referrers: Vec::new() };
        records.insert(record.cid(), entry);
        Ok(Put::Stored)
    }

    async fn get(&self, cid: &Cid, _known: Known) -> Result<Record, StoreError> {
        let bytes =
            self.records.read().get(cid).map(|e| e.bytes.clone()).ok_or(StoreError::NotFound(*cid))?;
        Ok(Record::verify(*cid, bytes)?)
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.records.read().get(cid).map(|e| e.stored(*cid)).transpose()
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.records.write().remove(cid).is_some())
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.limits.check_blob("referrer", referrer.bytes.len())?;
        Record::verify(referrer.cid, referrer.bytes.clone())?;
        let mut records = self.records.write();
        let entry = records.get_mut(subject).ok_or(StoreError::NotFound(*subject))?;
        if entry.referrers.iter().any(|(r, _)| r.cid == referrer.cid) {
            return Ok(Put::Existed);
        }
        let subject =
            Subject { digest: Cid::of(&entry.manifest).oci_digest(), size: entry.manifest.len() as u64 };
        let manifest = referrer_manifest(referrer, &subject, at);
        self.limits.check_manifest("referrer manifest", manifest.len())?;
        let stored = StoredReferrer {
            cid: referrer.cid,
            api_type: referrer.api_type.clone(),
            manifest_digest: Cid::of(&manifest).oci_digest(),
            created: Some(Timestamp::from_secs(at.secs())),
        };
        entry.referrers.push((stored, referrer.bytes.clone()));
        Ok(Put::Stored)
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        let records = self.records.read();
        let entry = records.get(subject).ok_or(StoreError::NotFound(*subject))?;
        Ok(entry.referrers.iter().map(|(r, _)| r.clone()).collect())
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        let records = self.records.read();
        let entry = records.get(subject).ok_or(StoreError::NotFound(*subject))?;
        let (_, bytes) = entry
            .referrers
            .iter()
            .find(|(r, _)| r.cid == referrer.cid)
            .ok_or(StoreError::BlobMissing(referrer.cid))?;
        Ok(Record::verify(referrer.cid, bytes.clone())?.bytes().clone())
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        let mut records = self.records.write();
        let entry = records.get_mut(subject).ok_or(StoreError::NotFound(*subject))?;
        let before = entry.referrers.len();
        entry.referrers.retain(|(r, _)| r.manifest_digest != referrer.manifest_digest);
        Ok(entry.referrers.len() < before)
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        let chunks = stream::unfold(Some(mark_cid(from)), move |state| async move {
            match state? {
                Err(e) => Some((vec![Err(e)], None)),
                Ok(after) => {
                    let chunk = self.chunk(after);
                    let last = match chunk.last() {
                        Some(Ok(Walked::Mark(mark))) => Some(mark_cid(Some(mark.clone()))),
                        _ => return None,
                    };
                    Some((chunk, last))
                }
            }
        });
        Box::pin(futures::StreamExt::flat_map(chunks, stream::iter))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
