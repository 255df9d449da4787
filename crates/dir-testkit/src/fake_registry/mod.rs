//! An OCI registry in this process that behaves like any of the real ones, and fails on command.
//!
//! The switches are the differences that were measured between registries; see [`Switches::zot`],
//! [`Switches::distribution`] and [`Switches::go_containerregistry`]. Requests are counted by kind, so that a test can
//! say what an operation costs.

mod content;
mod serve;

use bytes::Bytes;
use content::Content;
use dir_core::Cid;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Who may use the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anonymous,
    /// User name and password on every request.
    Basic(String, String),
    /// A token from `/token`, which wants user name and password (or the password as a refresh token).
    Token(String, String),
    /// Everybody reads, also `/v2/`; writing wants user name and password.
    BasicToWrite(String, String),
}

/// How the registry behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is one observed difference; they are independent.
pub struct Switches {
    /// Offers `GET …/referrers/<digest>`.
    pub referrers: bool,
    /// Answers a manifest with a subject with `OCI-Subject`.
    pub subject_header: bool,
    /// Descriptors in a referrers listing carry the annotations of their manifests.
    pub listing_annotations: bool,
    /// Applies `?artifactType=`.
    pub artifact_type_filter: bool,
    /// Lists at most this many entries a page, with `Link`.
    pub page_size: Option<usize>,
    /// Sends `Location` where the specification asks for it.
    pub location: bool,
    /// Takes a blob in one `POST …?digest=` (201); otherwise asks for a `PUT` (202).
    pub single_upload: bool,
    /// Mounts blobs of other repositories (201); otherwise opens an upload (202).
    pub mount: bool,
    /// Deletes manifests; otherwise every `DELETE` is 405.
    pub delete: bool,
    /// A tag stays readable when its manifest is deleted by digest.
    pub tag_survives_delete: bool,
    /// Refuses manifests that name blobs which are not there.
    pub check_blobs: bool,
    /// Who may use it.
    pub access: Access,
}

impl Switches {
    /// Like Zot with `dedupe: false`.
    pub fn zot() -> Self {
        Self {
            referrers: true,
            subject_header: true,
            listing_annotations: true,
            artifact_type_filter: true,
            page_size: None,
            location: true,
            single_upload: true,
            mount: false,
            delete: true,
            tag_survives_delete: false,
            check_blobs: true,
            access: Access::Anonymous,
        }
    }

    /// Like CNCF distribution v3 with deletes switched on.
    pub fn distribution() -> Self {
        Self { referrers: false, subject_header: false, single_upload: false, mount: true, ..Self::zot() }
    }

    /// Like go-containerregistry's registry package.
    pub fn go_containerregistry() -> Self {
        Self {
            subject_header: false,
            listing_annotations: false,
            artifact_type_filter: false,
            location: false,
            tag_survives_delete: true,
            check_blobs: false,
            ..Self::zot()
        }
    }
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Method and resource: the names say it.
pub enum Kind {
    Ping,
    BlobHead,
    BlobGet,
    BlobDelete,
    /// `POST …/blobs/uploads/`, with or without the content.
    UploadPost,
    /// `PUT …/blobs/uploads/<session>`.
    UploadPut,
    ManifestHead,
    ManifestGet,
    ManifestPut,
    ManifestDelete,
    Tags,
    Referrers,
    Token,
    Other,
}

/// What happens to a request instead of what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// This status, nothing done.
    Status(u16),
    /// Done, and answered with this status all the same.
    DoneBut(u16),
    /// Answered after this long.
    Slow(Duration),
    /// Never answered.
    Hang,
    /// The body of the answer has a flipped bit.
    Corrupt,
    /// A listing of tags ends after this many, as if there were no more.
    Short(usize),
    /// The body of the answer ends in the middle.
    Cut,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    switches: Mutex<Switches>,
    content: Mutex<Content>,
    counts: Mutex<BTreeMap<Kind, usize>>,
    faults: Mutex<Vec<(Kind, Fault)>>,
    stopped: AtomicBool,
}

/// A running registry; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRegistry {
    /// Starts a registry on a free loopback port.
    pub async fn start(switches: Switches) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            switches: Mutex::new(switches),
            content: Mutex::default(),
            counts: Mutex::default(),
            faults: Mutex::default(),
            stopped: AtomicBool::default(),
        });
        let app = serve::router(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // Ends with the task only: accept errors are retried inside.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { shared, task })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.shared.address.to_string()
    }

    /// Changes its behaviour from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.shared.switches.lock());
    }

    /// The next `n` requests of this kind meet `fault`.
    pub fn fail_next(&self, kind: Kind, n: usize, fault: Fault) {
        self.shared.faults.lock().extend(std::iter::repeat_n((kind, fault), n));
    }

    /// One request of this kind meets `fault`, after `n` others that do not.
    pub fn fail_after(&self, kind: Kind, n: usize, fault: Fault) {
        let mut faults = self.shared.faults.lock();
        faults.extend(std::iter::repeat_n((kind, Fault::None), n));
        faults.push((kind, fault));
    }

    /// Stops listening: connections are refused from now on. One that is open answers 503 once more and is closed.
    pub async fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Everything is gone, as with an empty volume.
    pub fn wipe(&self) {
        self.shared.content.lock().repositories.clear();
    }

    /// A tag leads nowhere any more; its manifest stays.
    pub fn drop_tag(&self, repository: &str, tag: &str) -> bool {
        let mut content = self.shared.content.lock();
        content.repositories.get_mut(repository).is_some_and(|r| r.tags.remove(tag).is_some())
    }

    /// The file of the manifest behind a tag or digest is missing (404) or damaged (500). As with Zot, the tag stays
    /// listed, nothing in the repository has listable referrers any more, deletes find nothing, and a new manifest under
    /// the tag sets it right.
    pub fn damage_manifest(&self, repository: &str, reference: &str, status: u16) -> bool {
        let mut content = self.shared.content.lock();
        content.repositories.get_mut(repository).is_some_and(|r| r.damage(reference, status))
    }

    /// The files of a repository's manifests are whole again.
    pub fn mend_manifests(&self, repository: &str) {
        if let Some(repository) = self.shared.content.lock().repositories.get_mut(repository) {
            repository.mend();
        }
    }

    /// Takes back every fault that has not happened.
    pub fn heal(&self) {
        self.shared.faults.lock().clear();
    }

    /// Requests since the start or the last [`FakeRegistry::reset_counts`], by kind.
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        self.shared.counts.lock().clone()
    }

    /// Counts from nothing.
    pub fn reset_counts(&self) {
        self.shared.counts.lock().clear();
    }

    /// Repositories that hold anything.
    pub fn repositories(&self) -> Vec<String> {
        self.shared.content.lock().repositories.keys().cloned().collect()
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let content = self.shared.content.lock();
        content.repositories.get(repository).map(|r| r.tags.keys().cloned().collect()).unwrap_or_default()
    }

    /// How many manifests a repository has.
    pub fn manifests(&self, repository: &str) -> usize {
        self.shared.content.lock().repositories.get(repository).map_or(0, |r| r.manifests.len())
    }

    /// Whether a repository has a blob.
    pub fn has_blob(&self, repository: &str, blob: &Cid) -> bool {
        let content = self.shared.content.lock();
        content.repositories.get(repository).is_some_and(|r| r.blobs.contains_key(&blob.oci_digest()))
    }

    /// Takes a blob away, as garbage collection does.
    pub fn drop_blob(&self, repository: &str, blob: &Cid) -> bool {
        let mut content = self.shared.content.lock();
        content.repositories.get_mut(repository).is_some_and(|r| r.blobs.remove(&blob.oci_digest()).is_some())
    }

    /// Replaces the content of a blob without changing its name.
    pub fn corrupt_blob(&self, repository: &str, blob: &Cid, bytes: Bytes) -> bool {
        let mut content = self.shared.content.lock();
        let Some(repository) = content.repositories.get_mut(repository) else { return false };
        repository.blobs.get_mut(&blob.oci_digest()).map(|b| *b = bytes).is_some()
    }

    /// Stores a manifest and its blobs, as another client would. Without a tag it is stored by digest alone.
    pub fn plant(&self, repository: &str, manifest: Bytes, blobs: &[Bytes], tag: Option<&str>) {
        let mut content = self.shared.content.lock();
        let repository = content.repositories.entry(repository.to_owned()).or_default();
        for blob in blobs {
            repository.blobs.insert(Cid::of(blob).oci_digest(), blob.clone());
        }
        repository.put_manifest(tag, manifest, dir_core::oci::MANIFEST);
    }
}
