//! The conversion from one layout to the other, while reads and writes go on.
//!
//! The stamp says first that a conversion is under way: from then on new records are written where they will belong,
//! and reads look in both places. Then every record is copied, with what refers to it, byte for byte, and removed
//! from its old place; what is left there is what is left to do, so that a conversion that was cut off at any moment
//! goes on where it was. The stamp is cleared last.

use super::place::repositories;
use super::stamp::{Placed, Placement};
use super::walk::until_failure;
use super::{EMPTY_CONFIG, Found, OciStore};
use crate::artifact::{Descriptor, Manifest};
use dir_core::Cid;
use dir_core::maintenance::{Finding, Reshard, Spread, Trouble};
use dir_core::oci::{INDEX, MANIFEST};
use dir_core::store::{BoxStream, StoreError};
use futures::{StreamExt, stream};
use std::collections::BTreeMap;

type Step = Result<Reshard, StoreError>;

/// What became of one record.
pub(super) enum Transfer {
    /// It is in its new place only, with so many referrers.
    Moved(u64),
    /// It stays where it is; the text says why.
    Left(Trouble, String),
}

/// Tags to look at, by repository.
type Plan = Vec<(String, Vec<String>)>;

/// How far a conversion is.
enum Stage {
    Begin,
    /// Passes go on until one moves nothing: what was being written when the conversion began shows up late.
    Pass(Plan, usize),
    End,
    Over,
}

/// State between two items.
struct Work<'a> {
    store: &'a OciStore,
    to: Placement,
    dry_run: bool,
    stage: Stage,
    moved: u64,
}

pub(super) fn reshard(store: &OciStore, to: Spread, dry_run: bool) -> BoxStream<'_, Step> {
    let to = match to {
        Spread::Sharded => Placement::Sharded,
        Spread::Single => Placement::Single,
        Spread::Whole => {
            let refused = StoreError::Unsupported("a registry is laid out sharded or single".to_owned());
            return Box::pin(stream::iter([Err(refused)]));
        }
    };
    let work = Work { store, to, dry_run, stage: Stage::Begin, moved: 0 };
    let steps = stream::unfold(work, |mut work| async move {
        let items = match work.next().await {
            Ok(None) => return None,
            Ok(Some(items)) => items,
            Err(e) => {
                work.stage = Stage::Over;
                vec![Err(e)]
            }
        };
        Some((items, work))
    });
    Box::pin(until_failure(steps.flat_map(stream::iter)))
}

impl Work<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Step>>, StoreError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Ok(None),
            Stage::End => {
                if !self.dry_run {
                    self.store.arrange(Placed::from(self.to)).await?;
                }
                Ok(Some(vec![Ok(Reshard::Done)]))
            }
            Stage::Begin => {
                let placed = self.store.placed().await?;
                if placed == Placed::from(self.to) {
                    return Ok(Some(vec![Ok(Reshard::Total(0)), Ok(Reshard::Done)]));
                }
                // The other way round while one is unfinished: what has moved moves back.
                let leaving = if placed.now == self.to { placed.leaving } else { Some(placed.now) };
                let placed = Placed { now: self.to, leaving };
                if !self.dry_run {
                    self.store.arrange(placed).await?;
                }
                self.plan(leaving.unwrap_or(self.to)).await.map(Some)
            }
            Stage::Pass(plan, at) => self.pass(plan, at).await.map(Some),
        }
    }

    /// Lists what is to be looked at.
    async fn plan(&mut self, from: Placement) -> Result<Vec<Step>, StoreError> {
        let store = self.store;
        let lists = stream::iter(repositories(from, store.stem()))
            .map(|repository| async move {
                let mut tags = store.registry().tags(&repository).await?;
                tags.retain(|tag| tag.parse::<Cid>().is_ok());
                Ok::<_, StoreError>((repository, tags))
            })
            .buffered(store.parallel());
        let mut lists = std::pin::pin!(lists);
        let mut plan = Plan::new();
        while let Some(list) = lists.next().await {
            let (repository, tags) = list?;
            if !tags.is_empty() {
                plan.push((repository, tags));
            }
        }
        let total = plan.iter().map(|(_, tags)| tags.len() as u64).sum();
        self.moved = 0;
        self.stage = Stage::Pass(plan, 0);
        Ok(vec![Ok(Reshard::Total(total))])
    }

    /// One batch of tags of one repository.
    async fn pass(&mut self, mut plan: Plan, at: usize) -> Result<Vec<Step>, StoreError> {
        let store = self.store;
        let Some((repository, tags)) = plan.get_mut(at) else {
            // Nothing has moved in this pass: nothing is left. A dry run sees the same things again.
            let again = self.moved > 0 && !self.dry_run;
            let leaving = store.placed().await?.leaving;
            if let Some(leaving) = leaving.filter(|_| again) {
                return self.plan(leaving).await;
            }
            self.stage = Stage::End;
            return Ok(Vec::new());
        };
        let rest = tags.split_off(tags.len().min(store.parallel()));
        let batch = std::mem::replace(tags, rest);
        let (dry_run, to, place) = (self.dry_run, self.to, repository.clone());
        let steps: Vec<Step> = stream::iter(batch)
            .map(|tag| one(store, &place, tag, to, dry_run))
            .buffered(store.parallel())
            .collect()
            .await;
        self.moved += steps.iter().filter(|s| matches!(s, Ok(Reshard::Moved(..)))).count() as u64;
        let done = plan.get(at).is_none_or(|(_, tags)| tags.is_empty());
        self.stage = Stage::Pass(plan, if done { at + 1 } else { at });
        Ok(steps)
    }
}

/// One tag of a repository that is left.
async fn one(store: &OciStore, place: &str, tag: String, to: Placement, dry_run: bool) -> Step {
    let Ok(cid) = tag.parse::<Cid>() else { return Ok(Reshard::Passed) };
    let _alone = store.exclusive(&cid).await;
    let Some(found) = store.find(place, &cid).await? else { return Ok(Reshard::Passed) };
    let home = to.repository(store.stem(), &cid);
    let moved = if dry_run {
        let listed = store.registry().descriptors(place, &found.digest.oci_digest()).await?;
        Transfer::Moved(listed.len() as u64)
    } else {
        store.transfer(place, &home, &cid, &found).await?
    };
    Ok(match moved {
        Transfer::Moved(referrers) => Reshard::Moved(cid, referrers),
        Transfer::Left(trouble, detail) => Reshard::Left(Finding {
            trouble,
            place: place.to_owned(),
            tag,
            manifest: found.digest.oci_digest(),
            cid: Some(cid),
            detail,
        }),
    })
}

impl OciStore {
    /// Moves one record with everything that refers to it. The caller keeps other changes of it away.
    ///
    /// The record's tag comes last in the new place and goes last from the old one: whoever finds it finds all that
    /// refers to it.
    pub(super) async fn transfer(
        &self,
        from: &str,
        to: &str,
        cid: &Cid,
        found: &Found,
    ) -> Result<Transfer, StoreError> {
        let subject = found.digest.oci_digest();
        let listed = self.registry().descriptors(from, &subject).await?;
        if let Some(there) = self.find(to, cid).await?
            && there.digest != found.digest
        {
            if !listed.is_empty() {
                let detail = format!(
                    "{to} has another manifest of this record, and this one has referrers of its own"
                );
                return Ok(Transfer::Left(Trouble::Duplicate, detail));
            }
            self.remove_record(from, cid, found).await?;
            return Ok(Transfer::Moved(0));
        }
        self.ensure_config(to).await?;
        let mut copied = Vec::with_capacity(listed.len());
        for descriptor in &listed {
            match self.copy_manifest(from, to, &descriptor.digest).await? {
                Ok(descriptor) => copied.push(descriptor),
                Err(missing) => {
                    let detail = format!("its referrer {} cannot be copied: {missing}", descriptor.digest);
                    return Ok(Transfer::Left(Trouble::Broken, detail));
                }
            }
        }
        if let Err(missing) = self.copy_blobs(from, to, &found.manifest).await? {
            return Ok(Transfer::Left(Trouble::Broken, missing));
        }
        if !self.registry().keeps_lists(from, &subject).await? {
            for descriptor in &copied {
                self.registry().change_list(to, &subject, Some(descriptor), None).await?;
            }
        }
        self.registry().put_manifest_again(to, &cid.to_string(), &found.bytes, MANIFEST).await?;
        // Not until the new place shows it whole.
        if self.find(to, cid).await?.is_none_or(|there| there.digest != found.digest) {
            let detail = format!("{to} does not show the record after it was written");
            return Ok(Transfer::Left(Trouble::Broken, detail));
        }
        for descriptor in &listed {
            self.remove_listed(from, &subject, descriptor).await?;
        }
        self.remove_record(from, cid, found).await?;
        Ok(Transfer::Moved(listed.len() as u64))
    }

    /// Removes what was copied, and the tag that others may have given it.
    async fn remove_listed(
        &self,
        place: &str,
        subject: &str,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let Some(digest) = Cid::from_oci_digest(&descriptor.digest) else { return Ok(()) };
        self.registry().delete_manifest(place, &descriptor.digest).await?;
        if let Ok(cid) = descriptor.annotation(dir_core::oci::KEY_CID).parse::<Cid>() {
            self.registry().drop_tag(place, &cid.to_string(), &digest).await?;
        }
        if !self.registry().keeps_lists(place, subject).await? {
            self.registry().change_list(place, subject, None, Some(&descriptor.digest)).await?;
        }
        Ok(())
    }

    /// Copies a manifest by digest with its blobs. The inner error says what is missing.
    async fn copy_manifest(
        &self,
        from: &str,
        to: &str,
        digest: &str,
    ) -> Result<Result<Descriptor, String>, StoreError> {
        let Some((bytes, _)) = self.registry().manifest(from, digest).await? else {
            return Ok(Err("its manifest is missing".to_owned()));
        };
        let manifest = Manifest::parse(&bytes, digest)?;
        if let Err(missing) = self.copy_blobs(from, to, &manifest).await? {
            return Ok(Err(missing));
        }
        let media_type = if manifest.manifests.is_some() { INDEX } else { MANIFEST };
        self.registry().put_manifest_again(to, digest, &bytes, media_type).await?;
        Ok(Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size: bytes.len() as u64,
            artifact_type: Some(MANIFEST.to_owned()),
            annotations: Some(manifest.annotations.unwrap_or_else(BTreeMap::new)),
        }))
    }

    /// Copies the blobs of a manifest, or has them mounted where the registry can. The inner error says what is
    /// missing or not what its digest says.
    async fn copy_blobs(
        &self,
        from: &str,
        to: &str,
        manifest: &Manifest,
    ) -> Result<Result<(), String>, StoreError> {
        for blob in manifest.config.iter().chain(manifest.layers.iter().flatten()) {
            let Some(digest) = Cid::from_oci_digest(&blob.digest) else {
                return Ok(Err(format!("{} is no SHA-256 digest", blob.digest)));
            };
            if digest == EMPTY_CONFIG {
                self.ensure_config(to).await?;
                continue;
            }
            match self.registry().bring(to, from, &digest).await? {
                None => return Ok(Err(format!("blob {} is missing", blob.digest))),
                Some(false) => return Ok(Err(format!("blob {} does not hash to its digest", blob.digest))),
                Some(true) => {}
            }
        }
        Ok(Ok(()))
    }
}
