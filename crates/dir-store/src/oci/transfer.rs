//! One record from one repository to another, with everything that refers to it.

use super::{EMPTY_CONFIG, Found, OciStore};
use crate::artifact::{Descriptor, Manifest};
use dir_core::Cid;
use dir_core::maintenance::Trouble;
use dir_core::oci::{INDEX, KEY_CID, MANIFEST};
use dir_core::store::{StoreError, StoredReferrer};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// What came of copying one record.
pub(super) enum Copied {
    /// It is in its new place too, whole.
    Both(Old),
    /// It stays where it is; the text says why.
    Left(Trouble, String),
}

/// What is to be removed of a record that is in its new place.
pub(super) struct Old {
    pub(super) cid: Cid,
    digest: Cid,
    pub(super) attached: Vec<Attached>,
}

/// Something that refers to the record, or to what refers to it.
pub(super) struct Attached {
    subject: String,
    descriptor: Descriptor,
}

impl OciStore {
    /// Moves one record with everything that refers to it; answers whether it could be. The caller keeps other changes
    /// of it away.
    pub(super) async fn transfer(
        &self,
        from: &str,
        to: &str,
        cid: &Cid,
        found: &Found,
    ) -> Result<bool, StoreError> {
        let Copied::Both(old) = self.copy(from, to, cid, found).await? else { return Ok(false) };
        self.clear(from, &old).await?;
        Ok(true)
    }

    /// Copies one record with everything that refers to it. The caller keeps other changes of it away.
    ///
    /// The record's tag comes last in the new place and goes last from the old one: whoever finds it finds all that
    /// refers to it. From then on whatever is attached to it is attached in the new place.
    pub(super) async fn copy(
        &self,
        from: &str,
        to: &str,
        cid: &Cid,
        found: &Found,
    ) -> Result<Copied, StoreError> {
        let subject = found.digest.oci_digest();
        let attached = self.attached(from, &subject).await?;
        let there = self.find(to, cid).await?.map(|there| there.digest);
        let old = Old { cid: *cid, digest: found.digest, attached };
        if there.is_some_and(|there| there != found.digest) {
            if !old.attached.is_empty() {
                let detail = format!(
                    "{to} has another manifest of this record, and this one has referrers of its own"
                );
                return Ok(Copied::Left(Trouble::Duplicate, detail));
            }
            return Ok(Copied::Both(old));
        }
        self.ensure_config(to).await?;
        let mut copied = Vec::with_capacity(old.attached.len());
        for Attached { subject, descriptor } in &old.attached {
            match self.copy_manifest(from, to, &descriptor.digest).await? {
                Ok(descriptor) => copied.push((subject, descriptor)),
                Err(missing) => {
                    let detail = format!("its referrer {} cannot be copied: {missing}", descriptor.digest);
                    return Ok(Copied::Left(Trouble::Broken, detail));
                }
            }
        }
        // An attempt that was cut off may have come to here.
        if there.is_none()
            && let Err(missing) = self.copy_blobs(from, to, &found.manifest).await?
        {
            return Ok(Copied::Left(Trouble::Broken, missing));
        }
        if !self.registry().keeps_lists(from, &subject).await? {
            for (subject, descriptor) in &copied {
                self.registry().change_list(to, subject, Some(descriptor), None).await?;
            }
        }
        if there.is_some() {
            return Ok(Copied::Both(old));
        }
        self.registry().put_manifest_again(to, &cid.to_string(), &found.bytes, MANIFEST).await?;
        // Not until the new place shows it whole.
        if self.find(to, cid).await?.is_none_or(|there| there.digest != found.digest) {
            let detail = format!("{to} does not show the record after it was written");
            return Ok(Copied::Left(Trouble::Broken, detail));
        }
        Ok(Copied::Both(old))
    }

    /// Removes from its old place what was copied, and nothing else. The caller keeps other changes of it away.
    pub(super) async fn clear(&self, place: &str, old: &Old) -> Result<(), StoreError> {
        let subject = old.digest.oci_digest();
        let lists = self.registry().keeps_lists(place, &subject).await?;
        // What nothing refers to goes first.
        for Attached { subject, descriptor } in old.attached.iter().rev() {
            let Some(digest) = Cid::from_oci_digest(&descriptor.digest) else { continue };
            // Others may have given it a tag.
            let tag = descriptor.annotation(KEY_CID).parse::<Cid>().ok();
            self.drop_manifest(place, &digest, tag).await?;
            if !lists {
                self.registry().change_list(place, subject, None, Some(&descriptor.digest)).await?;
            }
        }
        if !lists {
            self.registry().drop_list(place, &subject).await?;
        }
        let (removed, stays) = self.drop_manifest(place, &old.digest, Some(old.cid)).await?;
        // A record has a tag: what became of it says what becomes of others.
        if removed {
            self.registry().drops_tags.set(!stays);
        }
        Ok(())
    }

    /// Removes a tag whose manifest is missing from the old place of a record that has been pushed anew in its new one;
    /// answers whether it was. Registries delete no such tag: it is given the new manifest first.
    pub(super) async fn drop_lost_tag(&self, place: &str, home: &str, cid: &Cid) -> Result<bool, StoreError> {
        let Some(found) = self.find(home, cid).await? else { return Ok(false) };
        self.ensure_config(place).await?;
        if self.copy_blobs(home, place, &found.manifest).await?.is_err() {
            return Ok(false);
        }
        self.registry().put_manifest_again(place, &cid.to_string(), &found.bytes, MANIFEST).await?;
        self.drop_manifest(place, &found.digest, Some(*cid)).await?;
        Ok(true)
    }

    /// Removes a manifest and its tag; answers whether it was there, and whether its tag had to be removed by itself.
    async fn drop_manifest(
        &self,
        place: &str,
        digest: &Cid,
        tag: Option<Cid>,
    ) -> Result<(bool, bool), StoreError> {
        let registry = self.registry();
        let removed = registry.delete_manifest(place, &digest.oci_digest()).await?;
        let Some(tag) = tag.map(|cid| cid.to_string()) else { return Ok((removed, false)) };
        if removed && registry.drops_tags.get() == Some(true) {
            return Ok((true, false));
        }
        let stays = registry.manifest(place, &tag).await?.is_some_and(|(_, there)| there == *digest);
        if stays {
            registry.drop_tag(place, &tag, digest).await?;
        }
        Ok((removed, stays))
    }

    /// Removes a referrer from the places that a record is in beside `repository`: one that is being moved is in two,
    /// and what stayed in the old one would come back.
    pub(super) async fn remove_elsewhere(
        &self,
        repository: &str,
        subject: &Cid,
        referrer: &StoredReferrer,
    ) -> Result<(), StoreError> {
        let homes: HashSet<String> = self.placed().await?.homes(self.stem(), subject).into_iter().collect();
        for other in homes.iter().filter(|home| *home != repository) {
            if let Some(found) = self.find(other, subject).await? {
                self.remove_referrer(other, &found.digest.oci_digest(), referrer).await?;
            }
        }
        Ok(())
    }

    /// Everything that refers to a manifest, and to that in turn; what is referred to comes before what refers to it.
    async fn attached(&self, place: &str, subject: &str) -> Result<Vec<Attached>, StoreError> {
        let (mut out, mut next) = (Vec::new(), VecDeque::from([subject.to_owned()]));
        let mut seen = HashSet::from([subject.to_owned()]);
        while let Some(subject) = next.pop_front() {
            for descriptor in self.registry().descriptors(place, &subject).await? {
                // The list of the tag schema is anybody's to write: it may name what is not to go along.
                if seen.insert(descriptor.digest.clone())
                    && (self.registry().keeps_lists(place, &subject).await?
                        || self.refers(place, &descriptor.digest, &subject).await?)
                {
                    next.push_back(descriptor.digest.clone());
                    out.push(Attached { subject: subject.clone(), descriptor });
                }
            }
        }
        Ok(out)
    }

    /// Whether a manifest says of itself that it refers to another, or is not there to say anything.
    async fn refers(&self, place: &str, digest: &str, subject: &str) -> Result<bool, StoreError> {
        let Some((bytes, _)) = self.registry().manifest(place, digest).await? else { return Ok(true) };
        let manifest = Manifest::parse(&bytes, digest)?;
        Ok(manifest.subject.is_some_and(|named| named.digest == subject))
    }

    /// Copies a manifest with its blobs, and the tag that others may have given it. The inner error says what is missing.
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
        let tag = manifest.annotation(KEY_CID).parse::<Cid>().ok().map(|cid| cid.to_string());
        let tagged = match &tag {
            Some(tag) => self.registry().manifest(from, tag).await?,
            None => None,
        };
        let tag = tag.filter(|_| tagged.is_some_and(|(_, there)| there.oci_digest() == digest));
        let reference = tag.as_deref().unwrap_or(digest);
        self.registry().put_manifest_again(to, reference, &bytes, media_type).await?;
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
