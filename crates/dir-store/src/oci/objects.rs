//! Blobs, manifests and tags of one repository.

use super::error::RegistryFault;
use super::http::{Answer, Call, Registry};
use bytes::Bytes;
use dir_core::Cid;
use dir_core::store::StoreError;
use reqwest::{Method, Url};

/// What is asked for when a manifest is read.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
/// Media type of blobs in transit.
const OCTETS: &str = "application/octet-stream";
/// Pages of one listing, so that a registry that pages in circles is left.
pub(super) const MAX_PAGES: usize = 100_000;

/// What the registry does not offer, in the words that callers look for.
const NO_DELETE: &str =
    "registry does not support OCI delete API; use the registry's web UI or native API to delete packages";

/// A manifest that was put.
pub(super) enum ManifestPut {
    /// It is there; whether the registry keeps the list of referrers itself (`OCI-Subject`).
    Done { subject_kept: bool },
    /// It names a blob that the registry does not have (any more).
    UnknownBlob(RegistryFault),
}

impl Registry {
    fn call<'a>(&self, doing: &'static str, repository: &'a str, method: Method, path: &str) -> Call<'a> {
        Call {
            doing,
            repository,
            method,
            url: self.url(repository, path),
            content_type: None,
            accept: None,
            body: None,
            limit: self.limits.max_manifest_bytes,
        }
    }

    /// One question that needs no repository.
    pub(super) async fn ping(&self, repository: &str) -> Result<(), StoreError> {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        let call = Call { url, ..self.call("ask for the API version", repository, Method::GET, "") };
        let answer = self.send(call).await?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(self.fault("ask for the API version", repository, answer.fault()))
        }
    }

    /// Reads a blob; `None` when it is not there. The caller compares it with its digest.
    pub(super) async fn blob(&self, repository: &str, blob: &Cid) -> Result<Option<Bytes>, StoreError> {
        let path = format!("blobs/{}", blob.oci_digest());
        let call = self.call("read a blob", repository, Method::GET, &path);
        let answer = self.send(Call { limit: self.limits.max_blob_bytes, ..call }).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            _ => Err(self.fault("read a blob", repository, answer.fault())),
        }
    }

    /// Uploads a blob: one request where the registry can, two where it wants them.
    pub(super) async fn upload(&self, repository: &str, blob: &Cid, bytes: &Bytes) -> Result<(), StoreError> {
        const DOING: &str = "upload a blob";
        let call = self.call(DOING, repository, Method::POST, "blobs/uploads/");
        let mut call = Call { content_type: Some(OCTETS), ..call };
        if self.single_upload.get() != Some(false) {
            call.url.query_pairs_mut().append_pair("digest", &blob.oci_digest());
            call.body = Some(bytes.clone());
        }
        let answer = self.send(call).await?;
        match answer.status {
            201 => {
                self.single_upload.set(true);
                Ok(())
            }
            202 => {
                self.single_upload.set(false);
                self.finish_upload(repository, &answer, blob, bytes).await
            }
            _ => Err(self.fault(DOING, repository, answer.fault())),
        }
    }

    async fn finish_upload(
        &self,
        repository: &str,
        opened: &Answer,
        blob: &Cid,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        const DOING: &str = "finish the upload of a blob";
        let mut url = self.follow(opened.header("location")).ok_or_else(|| {
            let text = "the registry opened an upload without saying where (Location is missing)";
            self.fault(DOING, repository, RegistryFault::Protocol(text.to_owned()))
        })?;
        url.query_pairs_mut().append_pair("digest", &blob.oci_digest());
        let call = self.call(DOING, repository, Method::PUT, "");
        let call = Call { url, content_type: Some(OCTETS), body: Some(bytes.clone()), ..call };
        let answer = self.send(call).await?;
        if answer.status == 201 { Ok(()) } else { Err(self.fault(DOING, repository, answer.fault())) }
    }

    /// Brings a blob of another repository: mounted where the registry can, else copied. `None` when the other one has
    /// it not, `false` when it does not hash to its digest.
    pub(super) async fn bring(
        &self,
        repository: &str,
        from: &str,
        blob: &Cid,
    ) -> Result<Option<bool>, StoreError> {
        const DOING: &str = "mount a blob";
        let mut opened = None;
        if self.mounts.get() != Some(false) {
            let mut call = self.call(DOING, repository, Method::POST, "blobs/uploads/");
            call.url.query_pairs_mut().append_pair("mount", &blob.oci_digest()).append_pair("from", from);
            let answer = self.send(call).await?;
            match answer.status {
                201 => {
                    self.mounts.set(true);
                    return Ok(Some(true));
                }
                // Not mounted, and an upload was opened: it is used for the copy. A registry that has mounted before
                // does not have this blob.
                202 => {
                    if self.mounts.get().is_none() {
                        self.mounts.set(false);
                    }
                    opened = Some(answer);
                }
                _ => return Err(self.fault(DOING, repository, answer.fault())),
            }
        }
        let Some(bytes) = self.blob(from, blob).await? else { return Ok(None) };
        if Cid::of(&bytes) != *blob {
            return Ok(Some(false));
        }
        match opened {
            Some(answer) => self.finish_upload(repository, &answer, blob, &bytes).await?,
            None => self.upload(repository, blob, &bytes).await?,
        }
        Ok(Some(true))
    }

    /// A `Location` or `Link`, relative or not.
    pub(super) fn follow(&self, location: &str) -> Option<Url> {
        if location.is_empty() { None } else { self.base.join(location).ok() }
    }

    /// Stores a manifest under a tag or its own digest.
    pub(super) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Bytes,
        media_type: &'static str,
    ) -> Result<ManifestPut, StoreError> {
        const DOING: &str = "store a manifest";
        let call = self.call(DOING, repository, Method::PUT, &format!("manifests/{reference}"));
        let call = Call { content_type: Some(media_type), body: Some(manifest.clone()), ..call };
        let answer = self.send(call).await?;
        if (200..=202).contains(&answer.status) {
            let subject_kept = !answer.header("oci-subject").is_empty();
            if subject_kept {
                self.referrers_api.set(true);
            }
            return Ok(ManifestPut::Done { subject_kept });
        }
        let fault = answer.fault();
        if fault.is_unknown_blob() {
            return Ok(ManifestPut::UnknownBlob(fault));
        }
        Err(self.fault(DOING, repository, fault))
    }

    /// Stores a manifest whose blobs have just been uploaded: an unknown blob is a failure.
    pub(super) async fn put_manifest_again(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Bytes,
        media_type: &'static str,
    ) -> Result<bool, StoreError> {
        match self.put_manifest(repository, reference, manifest, media_type).await? {
            ManifestPut::Done { subject_kept } => Ok(subject_kept),
            ManifestPut::UnknownBlob(fault) => Err(self.fault("store a manifest", repository, fault)),
        }
    }

    /// Reads a manifest or index by tag or digest, with its own digest; `None` when it is not there.
    pub(super) async fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<(Bytes, Cid)>, StoreError> {
        const DOING: &str = "read a manifest";
        let call = self.call(DOING, repository, Method::GET, &format!("manifests/{reference}"));
        let answer = self.send(Call { accept: Some(ACCEPT), ..call }).await?;
        match answer.status {
            200 => {
                let digest = Cid::of(&answer.body);
                if Cid::from_oci_digest(reference).is_some_and(|asked| asked != digest) {
                    let text = format!(
                        "manifest {reference} of registry {} hashes to {}",
                        self.name,
                        digest.oci_digest()
                    );
                    return Err(StoreError::BadManifest(text));
                }
                Ok(Some((answer.body, digest)))
            }
            404 => Ok(None),
            _ => Err(self.fault(DOING, repository, answer.fault())),
        }
    }

    /// Deletes a manifest by digest, or a tag; answers whether it was there.
    pub(super) async fn delete_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "delete a manifest";
        let call = self.call(DOING, repository, Method::DELETE, &format!("manifests/{reference}"));
        let answer = self.send(call).await?;
        let fault = match answer.status {
            200 | 202 | 204 => return Ok(true),
            404 => return Ok(false),
            _ => answer.fault(),
        };
        if fault.is_unsupported() {
            return Err(StoreError::Unsupported(NO_DELETE.to_owned()));
        }
        Err(self.fault(DOING, repository, fault))
    }

    /// Makes sure that a tag is gone after its manifest was deleted: some registries go on serving it. A tag that
    /// means something else by now is left alone.
    pub(super) async fn drop_tag(
        &self,
        repository: &str,
        tag: &str,
        deleted: &Cid,
    ) -> Result<(), StoreError> {
        let lingers = async || {
            let found = self.manifest(repository, tag).await?;
            Ok::<_, StoreError>(found.is_some_and(|(_, digest)| digest == *deleted))
        };
        if !lingers().await? {
            return Ok(());
        }
        self.delete_manifest(repository, tag).await?;
        if lingers().await? {
            let text = "the registry goes on serving a tag after it was deleted";
            return Err(self.fault("delete a tag", repository, RegistryFault::Protocol(text.to_owned())));
        }
        Ok(())
    }

    /// One page of a listing: the body, and where the next page is. `None` when there is no such thing.
    pub(super) async fn page(
        &self,
        doing: &'static str,
        repository: &str,
        url: Url,
        accept: Option<&'static str>,
    ) -> Result<Result<(Bytes, Option<Url>), Answer>, StoreError> {
        let call = self.call(doing, repository, Method::GET, "");
        let answer = self.send(Call { url, accept, ..call }).await?;
        if answer.status != 200 {
            return Ok(Err(answer));
        }
        let next = next_page(&answer).and_then(|link| self.follow(&link));
        Ok(Ok((answer.body, next)))
    }

    /// All tags of a repository, sorted; none when it does not exist.
    pub(super) async fn tags(&self, repository: &str) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        const DOING: &str = "list tags";
        let mut out = Vec::new();
        let mut url = Some(self.url(repository, "tags/list"));
        for _ in 0..MAX_PAGES {
            let Some(here) = url else { break };
            let (body, next) = match self.page(DOING, repository, here, None).await? {
                Ok(page) => page,
                Err(answer) if answer.status == 404 => break,
                Err(answer) => return Err(self.fault(DOING, repository, answer.fault())),
            };
            let page: Tags = serde_json::from_slice(&body).map_err(|e| {
                self.fault(
                    DOING,
                    repository,
                    RegistryFault::Protocol(format!("the answer is no list of tags: {e}")),
                )
            })?;
            out.extend(page.tags.unwrap_or_default());
            url = next;
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next_page(answer: &Answer) -> Option<String> {
    answer.headers.get_all(reqwest::header::LINK).iter().filter_map(|v| v.to_str().ok()).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then(|| target.to_owned())
    })
}
