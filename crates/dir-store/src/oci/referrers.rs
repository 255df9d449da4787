//! Lists of referrers: the referrers API, and the tag schema for registries without it (distribution-spec 1.1,
//! "Listing Referrers" and "Referrers Tag Schema").

use super::error::RegistryFault;
use super::http::Registry;
use super::objects::{MAX_PAGES, ManifestPut};
use crate::artifact::{Descriptor, Manifest, blob_type};
use bytes::Bytes;
use dir_core::oci::{INDEX, KEY_CID, KEY_CREATED, KEY_REFERRER_TYPE, MANIFEST};
use dir_core::store::{StoreError, StoredReferrer};
use dir_core::{Cid, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use std::collections::HashSet;

/// What is being done, for errors.
const LISTING: &str = "list referrers";
/// What is asked for to find out whether there is a referrers API: no digest.
const NO_DIGEST: &str = "none";
/// How often the tag of a list is written again when somebody else wrote it in between.
const ATTEMPTS: usize = 8;

/// An index as it is listed.
#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// The tag that holds the list of a subject.
fn list_tag(subject: &str) -> String {
    subject.replacen(':', "-", 1)
}

impl Registry {
    /// Descriptors of everything that refers to the manifest `subject`, which exists in `repository`.
    ///
    /// An error when the registry has the API and does not list: Zot answers 404 for every subject of a repository
    /// with a manifest that it cannot read. That is not to say that there are none.
    async fn listed(&self, repository: &str, subject: &str) -> Result<Vec<Descriptor>, StoreError> {
        if self.referrers_api.get() == Some(false) {
            return self.listed_by_tag(repository, subject).await;
        }
        match self.listed_by_api(repository, subject).await? {
            Ok(found) => {
                self.referrers_api.set(true);
                Ok(found)
            }
            Err(status) if self.has_referrers_api(repository).await? => {
                Err(self.fault(LISTING, repository, RegistryFault::Unlisted(status)))
            }
            Err(_) => self.listed_by_tag(repository, subject).await,
        }
    }

    /// Whether the registry has the referrers API: known from an answer of it, or asked for what is no digest.
    ///
    /// An API refuses that with 400 before it looks at any repository (distribution-spec 1.1), and where there is none
    /// it is 404 like any other path. So one repository's trouble decides nothing.
    async fn has_referrers_api(&self, repository: &str) -> Result<bool, StoreError> {
        if let Some(known) = self.referrers_api.get() {
            return Ok(known);
        }
        let url = self.url(repository, &format!("referrers/{NO_DIGEST}"));
        let has = match self.page("look for the referrers API", repository, url, Some(INDEX)).await? {
            Ok(_) => true,
            Err(answer) => match answer.status {
                400 => true,
                404 | 405 => false,
                _ => return Err(self.fault("look for the referrers API", repository, answer.fault())),
            },
        };
        self.referrers_api.settle(has);
        Ok(self.referrers_api.get().unwrap_or(has))
    }

    /// Descriptors of everything that refers to `subject`, each once, ours or not.
    pub(super) async fn descriptors(
        &self,
        repository: &str,
        subject: &str,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let mut seen = HashSet::new();
        let mut listed = self.listed(repository, subject).await?;
        listed.retain(|d| seen.insert(d.digest.clone()));
        Ok(listed)
    }

    /// What the API lists, or the status with which it says that it has no list.
    async fn listed_by_api(
        &self,
        repository: &str,
        subject: &str,
    ) -> Result<Result<Vec<Descriptor>, u16>, StoreError> {
        let mut out = Vec::new();
        let mut url = Some(self.url(repository, &format!("referrers/{subject}")));
        for _ in 0..MAX_PAGES {
            let Some(here) = url else { break };
            let (body, next) = match self.page(LISTING, repository, here, Some(INDEX)).await? {
                Ok(page) => page,
                Err(answer) if matches!(answer.status, 404 | 405) && out.is_empty() => {
                    return Ok(Err(answer.status));
                }
                Err(answer) => return Err(self.fault(LISTING, repository, answer.fault())),
            };
            out.extend(self.parse_listing(repository, &body)?);
            url = next;
        }
        Ok(Ok(out))
    }

    async fn listed_by_tag(&self, repository: &str, subject: &str) -> Result<Vec<Descriptor>, StoreError> {
        match self.manifest(repository, &list_tag(subject)).await? {
            Some((body, _)) => self.parse_listing(repository, &body),
            None => Ok(Vec::new()),
        }
    }

    fn parse_listing(&self, repository: &str, body: &Bytes) -> Result<Vec<Descriptor>, StoreError> {
        let listing: Listing = serde_json::from_slice(body).map_err(|e| {
            let fault = RegistryFault::Protocol(format!("the answer is no OCI index: {e}"));
            self.fault(LISTING, repository, fault)
        })?;
        Ok(listing.manifests.unwrap_or_default())
    }

    /// The referrers of `subject` that are ours to show, oldest first.
    pub(super) async fn referrers_of(
        &self,
        repository: &str,
        subject: &str,
        parallel: usize,
    ) -> Result<Vec<StoredReferrer>, StoreError> {
        let mut seen = HashSet::new();
        let mut listed = self.listed(repository, subject).await?;
        listed.retain(|d| {
            (d.media_type.is_empty() || d.media_type == MANIFEST) && seen.insert(d.digest.clone())
        });
        let found: Vec<Option<StoredReferrer>> = stream::iter(listed)
            .map(|descriptor| self.referrer(repository, subject, descriptor))
            .buffered(parallel.max(1))
            .try_collect()
            .await?;
        let mut out: Vec<_> = found.into_iter().flatten().collect();
        // Registries list in orders of their own; within one second theirs is all there is.
        out.sort_by_key(|r| r.created);
        Ok(out)
    }

    /// What a listed descriptor stands for. One that says it all in its annotations costs no request.
    async fn referrer(
        &self,
        repository: &str,
        subject: &str,
        descriptor: Descriptor,
    ) -> Result<Option<StoredReferrer>, StoreError> {
        let Some(digest) = Cid::from_oci_digest(&descriptor.digest) else { return Ok(None) };
        let manifest_digest = digest.oci_digest();
        if let Ok(cid) = descriptor.annotation(KEY_CID).parse()
            && let api_type @ [_, ..] = descriptor.annotation(KEY_REFERRER_TYPE).as_bytes()
        {
            let api_type = String::from_utf8_lossy(api_type).into_owned();
            let created = Timestamp::parse_rfc3339(descriptor.annotation(KEY_CREATED));
            return Ok(Some(StoredReferrer { cid, api_type, manifest_digest, created }));
        }
        let Some((bytes, _)) = self.manifest(repository, &manifest_digest).await? else { return Ok(None) };
        let Ok(manifest) = Manifest::parse(&bytes, &manifest_digest) else { return Ok(None) };
        // The list of the tag schema is anybody's to write: what it names must refer to the subject.
        let refers = manifest.subject.as_ref().is_some_and(|s| s.digest == subject);
        let (Some(cid), true) = (manifest.content(), refers) else { return Ok(None) };
        let api_type = match manifest.annotation(KEY_REFERRER_TYPE) {
            "" => self.blob(repository, &cid).await?.and_then(|blob| blob_type(&blob)),
            named => Some(named.to_owned()),
        };
        let created = manifest.created();
        Ok(api_type.map(|api_type| StoredReferrer { cid, api_type, manifest_digest, created }))
    }

    /// Whether the registry keeps lists itself. `subject` is a manifest in `repository`.
    pub(super) async fn keeps_lists(&self, repository: &str, subject: &str) -> Result<bool, StoreError> {
        if let Some(known) = self.referrers_api.get() {
            return Ok(known);
        }
        // An answer of the API says most; without one the registry is asked for what is no digest.
        match self.listed_by_api(repository, subject).await? {
            Ok(_) => {
                self.referrers_api.set(true);
                Ok(true)
            }
            Err(_) => self.has_referrers_api(repository).await,
        }
    }

    /// Changes the list of `subject` that its tag holds, and makes sure that the change is there.
    ///
    /// The caller keeps other changes of this process away; those of other processes are noticed afterwards.
    pub(super) async fn change_list(
        &self,
        repository: &str,
        subject: &str,
        add: Option<&Descriptor>,
        remove: Option<&str>,
    ) -> Result<(), StoreError> {
        let is_done = |list: &[Descriptor]| {
            add.is_none_or(|a| list.iter().any(|d| d.digest == a.digest))
                && remove.is_none_or(|r| list.iter().all(|d| d.digest != r))
        };
        for _ in 0..ATTEMPTS {
            let mut list = self.listed_by_tag(repository, subject).await?;
            if is_done(&list) {
                return Ok(());
            }
            list.retain(|d| Some(d.digest.as_str()) != remove);
            list.extend(add.cloned());
            self.write_list(repository, subject, &list).await?;
        }
        let list = self.listed_by_tag(repository, subject).await?;
        if is_done(&list) {
            return Ok(());
        }
        let text = format!("the list of referrers was written by others {ATTEMPTS} times in between");
        Err(self.fault("keep the list of referrers", repository, RegistryFault::Protocol(text)))
    }

    async fn write_list(
        &self,
        repository: &str,
        subject: &str,
        list: &[Descriptor],
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep the list of referrers";
        if list.is_empty() {
            return self.drop_list(repository, subject).await;
        }
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list });
        let bytes = Bytes::from(index.to_string());
        self.limits.check_manifest("list of referrers", bytes.len())?;
        match self.put_manifest(repository, &list_tag(subject), &bytes, INDEX).await? {
            ManifestPut::Done { .. } => Ok(()),
            ManifestPut::UnknownBlob(fault) => Err(self.fault(DOING, repository, fault)),
        }
    }

    /// Removes the list that the tag of `subject` holds, if there is one.
    pub(super) async fn drop_list(&self, repository: &str, subject: &str) -> Result<(), StoreError> {
        let tag = list_tag(subject);
        if let Some((_, digest)) = self.manifest(repository, &tag).await? {
            self.delete_manifest(repository, &digest.oci_digest()).await?;
            self.drop_tag(repository, &tag, &digest).await?;
        }
        Ok(())
    }
}
