//! The store in an OCI registry.
//!
//! A push is one blob upload and one manifest `PUT`, a pull of a record that the index knows is one blob `GET`. In
//! the sharded layout a record and its referrers have the repository of the record's first twelve bits, because
//! registries read and rewrite a whole repository's index for each manifest.

mod auth;
mod behind;
mod config;
pub(crate) mod error;
mod http;
mod inspect;
mod maintain;
mod objects;
pub(crate) mod place;
mod referrers;
mod reshard;
pub(crate) mod stamp;
mod transfer;
mod walk;

pub use config::{Credentials, DEFAULT_REGISTRY_ADDRESS, DEFAULT_REPOSITORY, Layout, OciConfig};

use crate::artifact::{Descriptor, Manifest};
use async_trait::async_trait;
use bytes::Bytes;
use dir_core::oci::{EMPTY_CONFIG_BYTES, MANIFEST, Subject, record_manifest, referrer_manifest};
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use http::Registry;
use objects::ManifestPut;
use parking_lot::Mutex;
use place::Places;
use stamp::Placement;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

/// The shared config blob's digest, which the empty record has too.
const EMPTY_CONFIG: Cid = Cid::from_digest([
    0x44, 0x13, 0x6f, 0xa3, 0x55, 0xb3, 0x67, 0x8a, 0x11, 0x46, 0xad, 0x16, 0xf7, 0xe8, 0x64, 0x9e, 0x94,
    0xfb, 0x4f, 0xc2, 0x1f, 0xe7, 0x7e, 0x83, 0x10, 0xc0, 0x60, 0xf6, 0x1c, 0xaa, 0xff, 0x8a,
]);
/// Changes of records in the same slot of this many wait for each other.
const STRIPES: usize = 4096;
/// Records whose storing is remembered, so that a repeat looks before it writes.
const REMEMBERED: usize = 65_536;

/// A [`RecordStore`] in an OCI registry.
///
/// Opening asks the registry nothing; the first call finds out its layout. [`RecordStore::ping`] is such a call.
pub struct OciStore {
    registry: Registry,
    stem: String,
    asked: Layout,
    parallel: usize,
    places: Places,
    /// The shared config blob in each repository: uploaded once a process, however many pushes begin at once.
    configs: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    recent: Mutex<Recent>,
    stripes: Vec<AsyncMutex<()>>,
}

/// The records stored last, oldest first.
#[derive(Default)]
struct Recent {
    set: HashSet<Cid>,
    order: VecDeque<Cid>,
}

impl Recent {
    fn add(&mut self, cid: Cid) {
        if self.set.insert(cid) {
            self.order.push_back(cid);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.set.remove(&oldest);
            }
        }
    }
}

/// A manifest by tag that is a record.
struct Found {
    bytes: Bytes,
    digest: Cid,
    manifest: Manifest,
}

impl OciStore {
    /// A store on the registry that `config` names.
    ///
    /// # Errors
    /// [`StoreError::Layout`] when the configuration cannot be meant.
    pub fn new(config: &OciConfig) -> Result<Self, StoreError> {
        Ok(Self {
            stem: config.checked_repository()?.to_owned(),
            registry: Registry::new(config)?,
            asked: config.layout,
            parallel: config.parallel.max(1),
            places: Places::default(),
            configs: Mutex::default(),
            recent: Mutex::default(),
            stripes: (0..STRIPES).map(|_| AsyncMutex::default()).collect(),
        })
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn stem(&self) -> &str {
        &self.stem
    }

    fn parallel(&self) -> usize {
        self.parallel
    }

    /// The layout in use: [`Layout::Sharded`] or [`Layout::Single`]; `None` before a call has reached the registry.
    pub fn layout(&self) -> Option<Layout> {
        self.places.known().map(|placed| match placed.now {
            Placement::Sharded => Layout::Sharded,
            Placement::Single => Layout::Single,
        })
    }

    /// Keeps other changes of this record in this process away.
    async fn exclusive(&self, record: &Cid) -> MutexGuard<'_, ()> {
        let [.., a, b] = *record.digest();
        self.stripes[usize::from(u16::from_be_bytes([a, b])) % STRIPES].lock().await
    }

    /// The manifest tagged with `cid`, if it is a record.
    async fn find(&self, repository: &str, cid: &Cid) -> Result<Option<Found>, StoreError> {
        let tag = cid.to_string();
        let Some((bytes, digest)) = self.registry.manifest(repository, &tag).await? else { return Ok(None) };
        let manifest = Manifest::parse(&bytes, &tag)?;
        Ok(manifest.is_record().then_some(Found { bytes, digest, manifest }))
    }

    /// A record wherever it is, and the repository that it is in.
    async fn seek(&self, cid: &Cid) -> Result<Option<(String, Found)>, StoreError> {
        let mut look = self.look(cid).await?;
        while let Some(repository) = look.next() {
            if let Some(found) = self.find(&repository, cid).await? {
                return Ok(Some((repository, found)));
            }
        }
        Ok(None)
    }

    /// A blob of a record wherever it is, as the registry gives it.
    async fn seek_blob(&self, record: &Cid, blob: &Cid) -> Result<Bytes, StoreError> {
        let mut look = self.look(record).await?;
        while let Some(repository) = look.next() {
            if let Some(bytes) = self.registry.blob(&repository, blob).await? {
                return Ok(bytes);
            }
        }
        Err(StoreError::BlobMissing(*blob))
    }

    async fn must_seek(&self, cid: &Cid) -> Result<(String, Found), StoreError> {
        self.seek(cid).await?.ok_or(StoreError::NotFound(*cid))
    }

    /// Makes sure that a repository has the shared config blob. The answer stands for this upload of it.
    async fn ensure_config(&self, repository: &str) -> Result<Arc<OnceCell<()>>, StoreError> {
        let known = self.configs.lock().get(repository).cloned();
        let cell = known
            .unwrap_or_else(|| Arc::clone(self.configs.lock().entry(repository.to_owned()).or_default()));
        let bytes = Bytes::from_static(EMPTY_CONFIG_BYTES);
        cell.get_or_try_init(|| self.registry.upload(repository, &EMPTY_CONFIG, &bytes)).await?;
        Ok(cell)
    }

    /// The registry does not have it any more: the next push uploads it again.
    fn forget_config(&self, repository: &str, upload: &Arc<OnceCell<()>>) {
        let mut configs = self.configs.lock();
        if configs.get(repository).is_some_and(|now| Arc::ptr_eq(now, upload)) {
            configs.remove(repository);
        }
    }

    /// Uploads a blob and puts the manifest that names it. Answers whether the registry keeps the list of
    /// referrers of the manifest's subject.
    async fn store_artifact(
        &self,
        repository: &str,
        reference: &str,
        (cid, blob): (&Cid, &Bytes),
        manifest: &Bytes,
    ) -> Result<bool, StoreError> {
        let content = async {
            // A record can be the config blob itself.
            if *cid == EMPTY_CONFIG { Ok(()) } else { self.registry.upload(repository, cid, blob).await }
        };
        let (config, ()) = futures::future::try_join(self.ensure_config(repository), content).await?;
        match self.registry.put_manifest(repository, reference, manifest, MANIFEST).await? {
            ManifestPut::Done { subject_kept } => Ok(subject_kept),
            // Garbage collection took a blob: once more from the start.
            ManifestPut::UnknownBlob(_) => {
                self.forget_config(repository, &config);
                self.ensure_config(repository).await?;
                self.registry.upload(repository, cid, blob).await?;
                self.registry.put_manifest_again(repository, reference, manifest, MANIFEST).await
            }
        }
    }

    async fn read_blob(&self, record: &Cid, cid: &Cid) -> Result<Bytes, StoreError> {
        let bytes = self.seek_blob(record, cid).await?;
        Ok(Record::verify(*cid, bytes)?.bytes().clone())
    }

    /// Removes a record from one repository, with everything that refers to it.
    ///
    /// Refused when the registry cannot say what that is: removed alone, the record would leave referrers behind that
    /// nobody finds. The error says how to bring the registry to say it.
    async fn remove_record(&self, repository: &str, cid: &Cid, found: &Found) -> Result<u64, StoreError> {
        let subject = found.digest.oci_digest();
        // The record goes last: what was cut off can be repeated.
        let referrers = self.registry.referrers_of(repository, &subject, self.parallel).await?;
        for referrer in &referrers {
            self.remove_referrer(repository, &subject, referrer).await?;
        }
        if !self.registry.keeps_lists(repository, &subject).await? {
            self.registry.drop_list(repository, &subject).await?;
        }
        self.registry.delete_manifest(repository, &subject).await?;
        self.registry.drop_tag(repository, &cid.to_string(), &found.digest).await?;
        Ok(referrers.len() as u64)
    }

    /// Removes a referrer's manifest, its tag if an older writer gave it one, and its place in the list.
    async fn remove_referrer(
        &self,
        repository: &str,
        subject: &str,
        referrer: &StoredReferrer,
    ) -> Result<bool, StoreError> {
        let Some(digest) = Cid::from_oci_digest(&referrer.manifest_digest) else { return Ok(false) };
        let text = digest.oci_digest();
        let found = self.registry.delete_manifest(repository, &text).await?;
        self.registry.drop_tag(repository, &referrer.cid.to_string(), &digest).await?;
        if !self.registry.keeps_lists(repository, subject).await? {
            self.registry.change_list(repository, subject, None, Some(&text)).await?;
        }
        Ok(found)
    }
}

#[async_trait]
impl RecordStore for OciStore {
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        at: Timestamp,
        presence: Presence,
    ) -> Result<Put, StoreError> {
        let (cid, limits) = (record.cid(), self.registry.limits);
        limits.check_blob("record", record.bytes().len())?;
        let manifest = record_manifest(&cid, record.bytes().len() as u64, facts, at);
        limits.check_manifest("record manifest", manifest.len())?;
        let _alone = self.exclusive(&cid).await;
        let placed = self.placed().await?;
        // An index that was asked before an equal push ended does not know: what was stored lately is looked up.
        // During a conversion a record may be in two places, and afterwards others may write to the same one.
        let look = presence == Presence::Unknown
            || placed.leaving.is_some()
            || self.places.is_converted()
            || self.recent.lock().set.contains(&cid);
        if look && self.seek(&cid).await?.is_some() {
            return Ok(Put::Existed);
        }
        let repository = self.home(&cid).await?;
        self.store_artifact(&repository, &cid.to_string(), (&cid, record.bytes()), &manifest).await?;
        self.recent.lock().add(cid);
        Ok(Put::Stored)
    }

    async fn get(&self, cid: &Cid, known: Known) -> Result<Record, StoreError> {
        if known == Known::Unknown {
            self.must_seek(cid).await?.1.manifest.check_record_layer(cid)?;
        }
        Ok(Record::verify(*cid, self.seek_blob(cid, cid).await?)?)
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        let found = match self.seek(cid).await {
            Err(error) => return Err(behind::judged(self, error, || self.seek(cid)).await),
            Ok(found) => found,
        };
        Ok(found.map(|(_, f)| f.manifest.into_stored(*cid, f.digest.oci_digest())))
    }

    async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        let _alone = self.exclusive(cid).await;
        let mut found = false;
        for repository in self.placed().await?.homes(&self.stem, cid) {
            if let Some(record) = self.find(&repository, cid).await? {
                self.remove_record(&repository, cid, &record).await?;
                found = true;
            }
        }
        Ok(found)
    }

    async fn put_referrer(
        &self,
        subject: &Cid,
        referrer: &Referrer,
        at: Timestamp,
    ) -> Result<Put, StoreError> {
        let limits = self.registry.limits;
        limits.check_blob("referrer", referrer.bytes.len())?;
        Record::verify(referrer.cid, referrer.bytes.clone())?;
        let _alone = self.exclusive(subject).await;
        let (repository, found) = self.must_seek(subject).await?;
        let target = Subject { digest: found.digest.oci_digest(), size: found.bytes.len() as u64 };
        let listed = self.registry.referrers_of(&repository, &target.digest, self.parallel).await?;
        if listed.iter().any(|r| r.cid == referrer.cid) {
            return Ok(Put::Existed);
        }
        let manifest = referrer_manifest(referrer, &target, at);
        limits.check_manifest("referrer manifest", manifest.len())?;
        let digest = Cid::of(&manifest).oci_digest();
        let content = (&referrer.cid, &referrer.bytes);
        let kept = self.store_artifact(&repository, &digest, content, &manifest).await?;
        if !kept && !self.registry.keeps_lists(&repository, &target.digest).await? {
            let descriptor = Descriptor {
                media_type: MANIFEST.to_owned(),
                digest,
                size: manifest.len() as u64,
                artifact_type: Some(MANIFEST.to_owned()),
                annotations: Manifest::parse(&manifest, "referrer")?.annotations,
            };
            self.registry.change_list(&repository, &target.digest, Some(&descriptor), None).await?;
        }
        Ok(Put::Stored)
    }

    async fn referrers(&self, subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        loop {
            let (repository, found) = self.must_seek(subject).await?;
            let digest = found.digest.oci_digest();
            let listed = self.registry.referrers_of(&repository, &digest, self.parallel).await?;
            // Moved while it was listed: the whole list is in the other place.
            let moving = self.placed().await?.leaving.is_some();
            if !moving || self.must_seek(subject).await?.0 == repository {
                return Ok(listed);
            }
        }
    }

    async fn referrer_bytes(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<Bytes, StoreError> {
        self.read_blob(subject, &referrer.cid).await
    }

    async fn delete_referrer(&self, subject: &Cid, referrer: &StoredReferrer) -> Result<bool, StoreError> {
        let _alone = self.exclusive(subject).await;
        let (repository, found) = self.must_seek(subject).await?;
        let removed = self.remove_referrer(&repository, &found.digest.oci_digest(), referrer).await?;
        self.remove_elsewhere(&repository, subject, referrer).await?;
        Ok(removed)
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        walk::walk(self, from)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.registry.ping(&self.stem).await?;
        self.placed().await.map(drop)
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl std::fmt::Debug for OciStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("OciStore");
        shown.field("registry", &self.registry.name).field("repository", &self.stem);
        shown.field("placed", &self.places.known()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_config_blob() {
        assert_eq!(EMPTY_CONFIG, Cid::of(EMPTY_CONFIG_BYTES));
    }
}
