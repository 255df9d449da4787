//! One repository of a registry's directory: an OCI image layout (OCI image-spec 1.1, `image-layout.md`).

use super::failed;
use crate::artifact::{KEY_REF_NAME, Manifest};
use crate::limits::Limits;
use dir_core::Cid;
use dir_core::oci::MANIFEST;
use dir_core::store::StoreError;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of a file until it is whole.
const UNFINISHED: &str = ".directory-unfinished";

/// A descriptor in `index.json`, kept as it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) raw: Value,
    pub(super) digest: Cid,
    /// Empty without one.
    pub(super) tag: String,
}

impl Entry {
    fn new(raw: Value) -> Option<Self> {
        let digest = Cid::from_oci_digest(raw.get("digest")?.as_str()?)?;
        let tag = raw.get("annotations").and_then(|a| a.get(KEY_REF_NAME)).and_then(Value::as_str);
        let tag = tag.unwrap_or_default().to_owned();
        Some(Self { raw, digest, tag })
    }

    /// A manifest of ours.
    pub(super) fn of(manifest: &[u8], tag: &str) -> Self {
        let digest = Cid::of(manifest);
        let raw = json!({
            "mediaType": MANIFEST,
            "digest": digest.oci_digest(),
            "size": manifest.len(),
            "annotations": { KEY_REF_NAME: tag },
        });
        Self { raw, digest, tag: tag.to_owned() }
    }
}

/// A repository as it was read, with changes that are not written yet.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) name: String,
    path: PathBuf,
    /// Everything of `index.json` but its manifests.
    head: Map<String, Value>,
    pub(super) entries: Vec<Entry>,
    /// Descriptors that are not understood; they stay.
    odd: Vec<Value>,
    /// `index.json` as it was read; `None`: there is none yet.
    seen: Option<(u64, SystemTime)>,
}

/// Whose new files are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    dir_mode: u32,
    file_mode: u32,
}

impl Owner {
    fn own(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
        let meta = fs::metadata(path)?;
        if (meta.uid(), meta.gid()) != (self.uid, self.gid) {
            chown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

fn stamp(meta: &Metadata) -> io::Result<(u64, SystemTime)> {
    Ok((meta.len(), meta.modified()?))
}

impl Repo {
    /// Reads `index.json`; `None` when there is no such repository.
    pub(super) fn read(root: &Path, name: &str) -> Result<Option<Self>, StoreError> {
        let path = root.join(name);
        let index = path.join("index.json");
        let bytes = match fs::read(&index) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", &index, e)),
        };
        let seen =
            fs::metadata(&index).and_then(|meta| stamp(&meta)).map_err(|e| failed("read", &index, e))?;
        let no_index = |why: &str| StoreError::Layout(format!("{} is no OCI index: {why}", index.display()));
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| no_index(&e.to_string()))?;
        let Value::Object(mut head) = value else { return Err(no_index("no object")) };
        let manifests = match head.remove("manifests") {
            Some(Value::Array(manifests)) => manifests,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(no_index("manifests is no list")),
        };
        let (mut entries, mut odd) = (Vec::with_capacity(manifests.len()), Vec::new());
        for raw in manifests {
            match Entry::new(raw.clone()) {
                Some(entry) => entries.push(entry),
                None => odd.push(raw),
            }
        }
        Ok(Some(Self { name: name.to_owned(), path, head, entries, odd, seen: Some(seen) }))
    }

    /// A repository that is not there yet.
    pub(super) fn absent(root: &Path, name: &str) -> Self {
        let head = Map::from_iter([("schemaVersion".to_owned(), json!(2))]);
        let path = root.join(name);
        Self { name: name.to_owned(), path, head, entries: Vec::new(), odd: Vec::new(), seen: None }
    }

    /// Whose its files are: new ones are alike.
    pub(super) fn owner(&self) -> Result<Owner, StoreError> {
        let meta = |path: &Path| fs::metadata(path).map_err(|e| failed("look at", path, e));
        let (dir, file) = (meta(&self.path)?, meta(&self.path.join("index.json"))?);
        Ok(Owner { uid: dir.uid(), gid: dir.gid(), dir_mode: dir.mode(), file_mode: file.mode() })
    }

    fn blob(&self, digest: &Cid) -> PathBuf {
        let digest = digest.oci_digest();
        self.path.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    pub(super) fn has_blob(&self, digest: &Cid) -> bool {
        self.blob(digest).is_file()
    }

    /// A blob as it is; `None` when it is missing.
    pub(super) fn bytes(&self, digest: &Cid, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob(digest);
        let found = fs::metadata(&path).and_then(|meta| Ok((meta.len(), fs::read(&path)?)));
        match found {
            Ok((size, _)) if size > limit => {
                Err(StoreError::TooLarge { what: path.display().to_string(), size, limit })
            }
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    /// A manifest; `None` when it is missing. One that cannot be read is neither record nor referrer.
    pub(super) fn manifest(&self, digest: &Cid, limits: &Limits) -> Result<Option<Manifest>, StoreError> {
        let bytes = self.bytes(digest, limits.max_manifest_bytes)?;
        Ok(bytes.map(|bytes| Manifest::parse(&bytes, "it").unwrap_or_default()))
    }

    /// A manifest as `index.json` means it, or why there is none. Others may keep what they like under tags of their own:
    /// what is whole and no manifest under those is neither record nor referrer.
    pub(super) fn examine(
        &self,
        digest: &Cid,
        tag: &str,
        limits: &Limits,
    ) -> Result<Result<Manifest, String>, StoreError> {
        let Some(bytes) = self.bytes(digest, limits.max_manifest_bytes)? else {
            return Ok(Err("its manifest is missing".to_owned()));
        };
        if Cid::of(&bytes) != *digest {
            let why = "its manifest does not hash to its digest: the file is cut, empty or changed";
            return Ok(Err(why.to_owned()));
        }
        Ok(match Manifest::parse(&bytes, tag) {
            Err(error) if tag.parse::<Cid>().is_ok() => Err(error.to_string()),
            parsed => Ok(parsed.unwrap_or_default()),
        })
    }

    /// Nobody else has written to it since it was read.
    pub(super) fn check_unchanged(&self) -> Result<(), StoreError> {
        let index = self.path.join("index.json");
        let now = match fs::metadata(&index).and_then(|meta| stamp(&meta)) {
            Ok(now) => Some(now),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed("look at", &index, e)),
        };
        if now == self.seen {
            return Ok(());
        }
        Err(StoreError::Layout(format!("{} has changed meanwhile: stop the registry first", index.display())))
    }

    /// Makes the directories of a repository.
    pub(super) fn prepare(&self, owner: &Owner) -> Result<(), StoreError> {
        let make = || {
            for part in ["", "blobs", "blobs/sha256", ".uploads"] {
                let path = if part.is_empty() { self.path.clone() } else { self.path.join(part) };
                match fs::create_dir(&path) {
                    Ok(()) => owner.own(&path, owner.dir_mode)?,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
            let layout = self.path.join("oci-layout");
            if !layout.exists() {
                whole(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#, owner)?;
            }
            Ok(())
        };
        make().map_err(|e: io::Error| failed("make the repository", &self.path, e))
    }

    /// Makes a blob of `from` one of this repository too: the same file where the file system allows it.
    pub(super) fn link(&self, from: &Self, digest: &Cid, owner: &Owner) -> Result<(), StoreError> {
        let (old, new) = (from.blob(digest), self.blob(digest));
        match fs::hard_link(&old, &new) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(failed("link", &old, e)),
            // Another file system, too many links, or links are not allowed.
            Err(_) => {}
        }
        let copied = fs::read(&old).and_then(|bytes| whole(&new, &bytes, owner));
        copied.map_err(|e| failed("copy", &old, e))
    }

    /// Writes a blob of our own.
    pub(super) fn write_blob(&self, bytes: &[u8], owner: &Owner) -> Result<(), StoreError> {
        let path = self.blob(&Cid::of(bytes));
        whole(&path, bytes, owner).map_err(|e| failed("write", &path, e))
    }

    /// Writes `index.json`, after everything that it names.
    pub(super) fn write(&mut self, owner: &Owner) -> Result<(), StoreError> {
        self.check_unchanged()?;
        let index = self.path.join("index.json");
        let manifests = self.entries.iter().map(|e| &e.raw).chain(&self.odd);
        let mut value = self.head.clone();
        value.insert("manifests".to_owned(), manifests.cloned().collect());
        let written = || {
            sync_dir(&self.path.join("blobs/sha256"))?;
            whole(&index, Value::Object(value).to_string().as_bytes(), owner)?;
            sync_dir(&self.path)?;
            stamp(&fs::metadata(&index)?)
        };
        self.seen = Some(written().map_err(|e| failed("write", &index, e))?);
        Ok(())
    }

    /// Removes those of these blobs that nothing in the repository needs any more.
    pub(super) fn drop_blobs(&self, blobs: &HashSet<Cid>, limits: &Limits) -> Result<(), StoreError> {
        let mut kept: HashSet<Cid> = HashSet::new();
        for entry in &self.entries {
            kept.insert(entry.digest);
            if let Some(manifest) = self.manifest(&entry.digest, limits)? {
                kept.extend(content(&manifest));
            }
        }
        // What is not understood may need anything.
        if !self.odd.is_empty() {
            return Ok(());
        }
        for blob in blobs.difference(&kept) {
            let path = self.blob(blob);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the repository itself when nothing is left in it.
    pub(super) fn remove_if_empty(&self) {
        if !self.entries.is_empty() || !self.odd.is_empty() {
            return;
        }
        // Whatever else is in it stays, and it with it.
        let emptied = fs::remove_dir(self.path.join("blobs/sha256"))
            .and_then(|()| fs::remove_dir(self.path.join("blobs")))
            .and_then(|()| fs::remove_dir(self.path.join(".uploads")));
        if emptied.is_ok() {
            let _ = fs::remove_file(self.path.join("index.json"));
            let _ = fs::remove_file(self.path.join("oci-layout"));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// What a manifest needs beside itself.
pub(super) fn content(manifest: &Manifest) -> impl Iterator<Item = Cid> + '_ {
    let parts = manifest.config.iter().chain(manifest.layers.iter().flatten());
    parts.chain(manifest.manifests.iter().flatten()).filter_map(|part| Cid::from_oci_digest(&part.digest))
}

/// Writes a file that is there whole or not at all.
fn whole(path: &Path, bytes: &[u8], owner: &Owner) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    owner.own(&unfinished, owner.file_mode)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
