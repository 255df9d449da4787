//! The store in an OCI image layout directory, the embedded default.
//!
//! ```text
//! oci-layout, index.json, blobs/sha256/<hex>    what ordinary tools read
//! .directory/lock                               one process at a time
//! .directory/tags.log                           what index.json will say: one small frame a change
//! .directory/journal-<n>.wal                    changes with their content, not in files yet
//! ```
//! A change is acknowledged when its frame is flushed to the journal; changes that wait share one flush. A second
//! thread turns full journal segments into blob files and entries of the tag log, and `close` writes `index.json`,
//! so that no push rewrites a file that grows with the store. What is not in files yet is read from the journal.
//!
//! A crash at any moment loses nothing that was acknowledged: the tag log and the journal are replayed, unfinished
//! writes at their ends are dropped, and every step from journal to files may be repeated. An `index.json` that
//! somebody else changed is taken as it is, with what the journal holds on top.

mod checkpoint;
mod foreign;
mod frame;
mod maintain;
mod open;
mod read;
mod segment;
mod state;
mod writer;

use crate::limits::Limits;
use crate::memory::mark_cid;
use async_trait::async_trait;
use bytes::Bytes;
use checkpoint::Job;
use dir_core::oci::{Subject, record_manifest, referrer_manifest};
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use frame::{Artifact, Digest};
use futures::{StreamExt, stream};
pub(crate) use maintain::no_shards;
use open::Opened;
use read::Part;
use state::Loc;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use writer::{Change, Command, Outcome};

/// Default of [`LayoutConfig::segment_bytes`]: 32 MiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 32 << 20;
/// Records between two marks of a walk.
const WALK_CHUNK: usize = 64;

/// Configuration of a [`LayoutStore`].
#[derive(Debug, Clone)]
pub struct LayoutConfig {
    /// The directory; made when it does not exist.
    pub path: PathBuf,
    /// A journal segment is put into files when it has this size. More means fewer file system flushes, and more to
    /// replay after a crash.
    pub segment_bytes: u64,
    /// What is stored or read at most.
    pub limits: Limits,
}

impl LayoutConfig {
    /// The defaults, in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), segment_bytes: DEFAULT_SEGMENT_BYTES, limits: Limits::default() }
    }
}

/// A [`RecordStore`] in an OCI image layout directory.
pub struct LayoutStore {
    opened: Option<Opened>,
    limits: Limits,
}

impl LayoutStore {
    /// Opens the directory, makes it when it is not there, and replays what the last process left. Blocks: it reads
    /// from disk.
    ///
    /// # Errors
    /// [`StoreError::Layout`] when another process has it open, [`StoreError::Unavailable`] when it cannot be read
    /// or written.
    pub fn open(config: &LayoutConfig) -> Result<Self, StoreError> {
        Ok(Self { opened: Some(open::open(config)?), limits: config.limits })
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.opened.as_ref().map_or(0, |o| o.state.read().records.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn opened(&self) -> Result<&Opened, StoreError> {
        self.opened
            .as_ref()
            .ok_or_else(|| unavailable("use the image layout", io::Error::other("it is closed")))
    }

    async fn change(&self, change: Change) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || unavailable("write to the image layout", io::Error::other("its writer has stopped"));
        let command = Command { change, reply };
        self.opened()?.commands.send(command).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }

    fn record(&self, cid: &Cid) -> Result<Option<(Artifact, Loc)>, StoreError> {
        let state = self.opened()?.state.read();
        Ok(state.records.get(cid).map(|e| (e.artifact(cid), e.loc.clone())))
    }

    fn referrer(&self, subject: &Cid, manifest: &Digest) -> Result<Option<(Artifact, Loc)>, StoreError> {
        let state = self.opened()?.state.read();
        let entry = state.records.get(subject).ok_or(StoreError::NotFound(*subject))?;
        let found = entry.referrers().iter().find(|r| r.artifact.manifest == *manifest);
        Ok(found.map(|r| (r.artifact.clone(), r.loc.clone())))
    }
}

fn unavailable(context: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable { context: context.to_owned(), source: source.into() }
}

fn size32(what: &str, len: usize) -> Result<u32, StoreError> {
    u32::try_from(len).map_err(|_overflow| StoreError::TooLarge {
        what: what.to_owned(),
        size: len as u64,
        limit: u64::from(u32::MAX),
    })
}

#[async_trait]
impl RecordStore for LayoutStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        _presence: Presence,
    ) -> Result<Put, StoreError> {
        self.limits.check_blob("record", record.bytes().len())?;
        let cid = record.cid();
        if self.record(&cid)?.is_some() {
            return Ok(Put::Existed);
        }
        let manifest = record_manifest(&cid, record.bytes().len() as u64, facts, at);
        self.limits.check_manifest("record manifest", manifest.len())?;
        let artifact = Artifact {
            cid,
            manifest: Cid::of(&manifest),
            manifest_size: size32("record manifest", manifest.len())?,
            blob_size: size32("record", record.bytes().len())?,
            created: Some(at.secs() * 1000),
        };
        let change = Change::Record { artifact, manifest, blob: record.bytes().clone() };
        match self.change(change).await? {
            Outcome::Done => Ok(Put::Stored),
            _ => Ok(Put::Existed),
        }
    }

    async fn get(&self, cid: &Cid, _known: Known) -> Result<Record, StoreError> {
        for _ in 0..2 {
            let Some((artifact, loc)) = self.record(cid)? else { return Err(StoreError::NotFound(*cid)) };
            if let Some(record) = self.read(&artifact, loc, Part::Blob).await? {
                return Ok(record);
            }
        }
        Err(StoreError::BlobMissing(*cid))
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        self.stored(cid).await
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.change(Change::Unrecord(*cid)).await? == Outcome::Done)
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        self.limits.check_blob("referrer", referrer.bytes.len())?;
        Record::verify(referrer.cid, referrer.bytes.clone())?;
        loop {
            let (record, _) = self.record(subject)?.ok_or(StoreError::NotFound(*subject))?;
            let target =
                Subject { digest: record.manifest.oci_digest(), size: u64::from(record.manifest_size) };
            let manifest = referrer_manifest(referrer, &target, at);
            self.limits.check_manifest("referrer manifest", manifest.len())?;
            let artifact = Artifact {
                cid: referrer.cid,
                manifest: Cid::of(&manifest),
                manifest_size: size32("referrer manifest", manifest.len())?,
                blob_size: size32("referrer", referrer.bytes.len())?,
                created: Some(at.secs() * 1000),
            };
            let change = Change::Referrer {
                subject: *subject,
                subject_manifest: record.manifest,
                artifact,
                api_type: referrer.api_type.clone(),
                manifest,
                blob: referrer.bytes.clone(),
            };
            match self.change(change).await? {
                Outcome::Done => return Ok(Put::Stored),
                Outcome::Unchanged => return Ok(Put::Existed),
                Outcome::NoSubject => return Err(StoreError::NotFound(*subject)),
                Outcome::Moved => {}
            }
        }
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        let state = self.opened()?.state.read();
        let entry = state.records.get(subject).ok_or(StoreError::NotFound(*subject))?;
        Ok(entry.referrers().iter().map(state::ReferrerEntry::stored).collect())
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        let gone = || StoreError::BlobMissing(referrer.cid);
        let manifest = Cid::from_oci_digest(&referrer.manifest_digest).ok_or_else(gone)?;
        for _ in 0..2 {
            let (artifact, loc) = self.referrer(subject, &manifest)?.ok_or_else(gone)?;
            // The artifact was found by its manifest: its blob is checked, and whether that is the one asked for.
            if let Some(blob) = self.read(&artifact, loc, Part::Blob).await? {
                return Ok(Record::verify(referrer.cid, blob.bytes().clone())?.bytes().clone());
            }
        }
        Err(gone())
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        let Some(manifest) = Cid::from_oci_digest(&referrer.manifest_digest) else { return Ok(false) };
        match self.change(Change::Unreferrer { subject: *subject, manifest }).await? {
            Outcome::Done => Ok(true),
            Outcome::NoSubject => Err(StoreError::NotFound(*subject)),
            _ => Ok(false),
        }
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        let plan = mark_cid(from).and_then(|after| self.walk_plan(after));
        let cids = match plan {
            Ok(cids) => cids,
            Err(e) => return Box::pin(stream::iter([Err(e)])),
        };
        let chunks = stream::unfold((cids, 0), move |(cids, at)| async move {
            let end = cids.len().min(at + WALK_CHUNK);
            if at == end {
                return None;
            }
            let chunk = self.walk_chunk(&cids[at..end]).await;
            Some((chunk, (cids, end)))
        });
        let others = stream::once(async { self.foreign_tags().unwrap_or_else(|e| vec![Err(e)]) });
        Box::pin(chunks.chain(others).flat_map(stream::iter))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let dir = Arc::clone(&self.opened()?.dir);
        if self.opened()?.commands.is_closed() {
            return Err(unavailable("write to the image layout", io::Error::other("its writer has stopped")));
        }
        let tried = tokio::task::spawn_blocking(move || {
            std::fs::metadata(dir.index()).map_err(|e| unavailable("read the image index", e))?;
            dir.try_write().map_err(|e| unavailable("write to the image layout", e))
        });
        tried.await.map_err(|e| unavailable("use the image layout", e))?
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.change(Change::Seal).await?;
        let (reply, answer) = oneshot::channel();
        let failed = |e: io::Error| unavailable("write out the image layout", e);
        let stopped = || failed(io::Error::other("its checkpoint thread has stopped"));
        self.opened()?.jobs.send(Job::Finish(reply)).map_err(|_closed| stopped())?;
        answer.await.map_err(|_closed| stopped())?.map_err(failed)
    }
}

impl Drop for LayoutStore {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take() else { return };
        let Opened { commands, jobs, stop, threads, lock, .. } = opened;
        stop.store(true, Ordering::Relaxed);
        drop((commands, jobs));
        for thread in threads {
            let _ = thread.join();
        }
        // Only now may another process have the directory.
        drop(lock);
    }
}

impl std::fmt::Debug for LayoutStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.opened.as_ref().map(|o| o.dir.root.display().to_string());
        f.debug_struct("LayoutStore").field("path", &path).finish_non_exhaustive()
    }
}
