//! Looking after a registry: what jobs ask of it.

use super::OciStore;
use super::error::RegistryFault;
use super::inspect::{self, Seen};
use super::stamp::{self, Placement};
use super::{reshard, walk};
use async_trait::async_trait;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::oci::record_manifest;
use dir_core::store::{BoxStream, StoreError, WalkMark};
use dir_core::{Cid, Record, RecordFacts, Timestamp};

impl From<Placement> for Spread {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Sharded => Spread::Sharded,
            Placement::Single => Spread::Single,
        }
    }
}

#[async_trait]
impl StoreMaintenance for OciStore {
    async fn arrangement(&self) -> Result<Arrangement, StoreError> {
        let placed = self.placed().await?;
        Ok(Arrangement { now: placed.now.into(), leaving: placed.leaving.map(Spread::from) })
    }

    async fn recognised(&self) -> Result<bool, StoreError> {
        // The layout is known from a stamp or has been stamped: a registry without one is not the one that was opened.
        self.placed().await?;
        Ok(stamp::read(self.registry(), self.stem()).await?.is_some())
    }

    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>> {
        walk::names(self)
    }

    fn inspect(&self, depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>> {
        inspect::inspect(self, depth, from)
    }

    async fn repair(&self, finding: &Finding) -> Result<bool, StoreError> {
        match finding.trouble {
            Trouble::Orphan => self.remove_orphan(finding).await,
            Trouble::Duplicate | Trouble::Stray => self.bring_home(finding).await,
            Trouble::LostTag | Trouble::Broken | Trouble::Foreign => Ok(false),
        }
    }

    async fn restore(&self, cid: &Cid, facts: &RecordFacts, at: Timestamp) -> Result<bool, StoreError> {
        let _alone = self.exclusive(cid).await;
        if self.seek(cid).await?.is_some() {
            return Ok(false);
        }
        let bytes = match self.seek_blob(cid, cid).await {
            Err(StoreError::BlobMissing(_)) => return Ok(false),
            bytes => bytes?,
        };
        let record = Record::verify(*cid, bytes)?;
        let manifest = record_manifest(cid, record.bytes().len() as u64, facts, at);
        let home = self.home(cid).await?;
        self.store_artifact(&home, &cid.to_string(), (cid, record.bytes()), &manifest).await?;
        Ok(true)
    }

    fn reshard(&self, to: Spread, dry_run: bool, ages: &[Cid]) -> BoxStream<'_, Result<Reshard, StoreError>> {
        reshard::reshard(self, to, dry_run, ages)
    }
}

impl OciStore {
    /// Removes a referrer whose record is still gone.
    async fn remove_orphan(&self, finding: &Finding) -> Result<bool, StoreError> {
        let Some((bytes, digest)) = self.registry.manifest(&finding.place, &finding.manifest).await? else {
            return Ok(false);
        };
        let manifest = crate::artifact::Manifest::parse(&bytes, &finding.manifest)?;
        let Some(subject) = manifest.subject else { return Ok(false) };
        if self.registry.manifest(&finding.place, &subject.digest).await?.is_some() {
            return Ok(false);
        }
        // Where manifests cannot be read, the record may be one of those, and come back with its file.
        match self.registry.descriptors(&finding.place, &subject.digest).await {
            Err(e) if matches!(RegistryFault::of(&e), Some(RegistryFault::Unlisted(_))) => return Ok(false),
            listed => drop(listed?),
        }
        let removed = self.registry.delete_manifest(&finding.place, &digest.oci_digest()).await?;
        self.registry.drop_tag(&finding.place, &finding.tag, &digest).await?;
        Ok(removed)
    }

    /// Moves a misplaced record, with what refers to it, to where it belongs.
    async fn bring_home(&self, finding: &Finding) -> Result<bool, StoreError> {
        let Some(cid) = finding.cid else { return Ok(false) };
        let _alone = self.exclusive(&cid).await;
        let Some(found) = self.find(&finding.place, &cid).await? else { return Ok(false) };
        let seen = Seen { digest: found.digest, manifest: found.manifest.clone() };
        if inspect::stray(self, &finding.place, cid.to_string(), &seen).await?.is_none() {
            return Ok(false);
        }
        let home = self.home(&cid).await?;
        self.transfer(&finding.place, &home, &cid, &found).await
    }
}
