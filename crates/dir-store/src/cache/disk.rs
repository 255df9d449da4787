//! The level of the cache in a directory: survives restarts, trusts nothing it reads.

use super::lru::Lru;
use crate::decorate::StoreMetrics;
use data_encoding::HEXLOWER;
use dir_core::{Cid, Record};
use parking_lot::Mutex;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Records in files named by their digest: `<first two hex digits>/<the other 62>`.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// What is there, by size.
    files: Mutex<Lru<()>>,
    next: AtomicU64,
    metrics: Arc<StoreMetrics>,
}

impl Disk {
    /// Opens the directory, makes it if need be, and looks at what is in it.
    pub(super) fn open(root: &Path, capacity: u64, metrics: Arc<StoreMetrics>) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let mut found = Vec::new();
        for shard in fs::read_dir(root)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(shard.path())? {
                let file = file?;
                let meta = file.metadata()?;
                match cid_of(&shard.path(), &file.path()) {
                    Some(cid) => {
                        found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), cid, meta.len()));
                    }
                    // What an earlier process was writing.
                    None if file.path().extension().is_some_and(|e| e == "tmp") => {
                        fs::remove_file(file.path())?;
                    }
                    None => {}
                }
            }
        }
        found.sort_unstable();
        let disk = Self {
            root: root.to_owned(),
            files: Mutex::new(Lru::new(capacity)),
            next: AtomicU64::new(0),
            metrics,
        };
        for (_, cid, size) in found {
            disk.remember(cid, size);
        }
        Ok(disk)
    }

    fn path(&self, cid: &Cid) -> PathBuf {
        let hex = HEXLOWER.encode(cid.digest());
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    fn remember(&self, cid: Cid, size: u64) {
        let (gone, weight) = {
            let mut files = self.files.lock();
            let gone = files.insert(cid, (), size);
            (gone, files.weight())
        };
        self.metrics.disk.bytes.set(i64::try_from(weight).unwrap_or(i64::MAX));
        for old in gone {
            self.metrics.disk.evictions.inc();
            self.unlink(&old);
        }
    }

    /// Reads a record; damaged ones are removed. Blocks.
    pub(super) fn read(&self, cid: &Cid) -> Option<Record> {
        let known = self.files.lock().get(cid).is_some();
        let bytes = if known { fs::read(self.path(cid)).ok() } else { None };
        let Some(bytes) = bytes else {
            self.metrics.disk.misses.inc();
            if known {
                self.remove(cid);
            }
            return None;
        };
        match Record::verify(*cid, bytes.into()) {
            Ok(record) => {
                self.metrics.disk.hits.inc();
                Some(record)
            }
            Err(mismatch) => {
                self.metrics.disk.misses.inc();
                self.metrics.corrupt("cache");
                tracing::error!(%mismatch, "a cached record is damaged; removing it");
                self.remove(cid);
                None
            }
        }
    }

    /// Writes a record. Blocks.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.cid());
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        let tmp = parent.join(format!("{}.tmp", self.next.fetch_add(1, Ordering::Relaxed)));
        let mut file = fs::File::create(&tmp)?;
        file.write_all(record.bytes())?;
        drop(file);
        fs::rename(&tmp, &path)?;
        self.remember(record.cid(), record.bytes().len() as u64);
        Ok(())
    }

    /// Removes a record. Blocks for a moment.
    pub(super) fn remove(&self, cid: &Cid) {
        let (had, weight) = {
            let mut files = self.files.lock();
            (files.remove(cid).is_some(), files.weight())
        };
        if had {
            self.metrics.disk.bytes.set(i64::try_from(weight).unwrap_or(i64::MAX));
            self.unlink(cid);
        }
    }

    fn unlink(&self, cid: &Cid) {
        let path = self.path(cid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "cannot remove a cached record");
            }
            _ => {}
        }
    }
}

/// The CID that a file of the cache is named by.
fn cid_of(shard: &Path, file: &Path) -> Option<Cid> {
    let hex = format!("{}{}", shard.file_name()?.to_str()?, file.file_name()?.to_str()?);
    Cid::from_oci_digest(&format!("sha256:{hex}"))
}
