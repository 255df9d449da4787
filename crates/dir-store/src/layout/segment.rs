//! Files of the layout directory: journal segments, blobs, and writing them so that they survive a power cut.

use super::frame::Digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is written to see whether anything can be.
const PROBE_BYTES: usize = 4096;

/// One file of the journal, open for reading. It stays readable here after it has been unlinked.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Segment {
    /// Reads `len` bytes at `at`.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut buf = vec![0; len];
        self.file.read_exact_at(&mut buf, at)?;
        Ok(buf.into())
    }
}

/// The directory, and where things are in it.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) root: PathBuf,
    /// Our own files: lock, tag log, journal, files being written.
    own: PathBuf,
    blobs: PathBuf,
    next_tmp: AtomicU64,
}

impl Dir {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            own: root.join(".directory"),
            blobs: root.join("blobs").join("sha256"),
            next_tmp: AtomicU64::new(0),
        }
    }

    /// Makes the directories, and removes what an earlier process was still writing.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.own)?;
        fs::create_dir_all(&self.blobs)?;
        sync_dir(&self.root)?;
        for entry in fs::read_dir(&self.own)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.own.join("lock")
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.own.join("tags.log")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// The file of a blob or manifest: made of the 64 hex digits of a digest and of nothing a caller wrote.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(HEXLOWER.encode(digest.digest()))
    }

    /// The digests of all files there are.
    pub(super) fn blobs(&self) -> io::Result<Vec<Digest>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            out.extend(name.to_str().and_then(|hex| Digest::from_oci_digest(&format!("sha256:{hex}"))));
        }
        Ok(out)
    }

    /// The journal segments there are, in order.
    pub(super) fn segments(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.own)? {
            let path = entry?.path();
            let id = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.strip_prefix("journal-")?.strip_suffix(".wal")?.parse().ok());
            if let Some(id) = id {
                out.push((id, path));
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// A new, empty segment.
    pub(super) fn new_segment(&self, id: u64) -> io::Result<Segment> {
        let path = self.own.join(format!("journal-{id:016}.wal"));
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        sync_dir(&self.own)?;
        Ok(Segment { id, path, file })
    }

    /// Writes a whole file under another name and renames it. Without `durable`, only [`Dir::sync_all`] makes it so.
    pub(super) fn write(
        &self,
        path: &Path,
        durable: bool,
        content: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let n = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.own.join(format!("{n}.tmp"));
        let written = File::create(&unfinished).and_then(|mut file| {
            content(&mut file)?;
            if durable { file.sync_all() } else { Ok(()) }
        });
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, path)) {
            // On a full disk what is left of it would take the room that is missing.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        if durable && let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok(())
    }

    /// Whether something can be written now: a full disk is found before a push finds it.
    pub(super) fn try_write(&self) -> io::Result<()> {
        let path = self.own.join("probe.tmp");
        let written = File::create(&path).and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
        match fs::remove_file(&path) {
            // Somebody else who tried at the same time was faster.
            Err(e) if e.kind() != io::ErrorKind::NotFound => written.and(Err(e)),
            _ => written,
        }
    }

    /// Writes a blob or manifest file.
    pub(super) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        self.write(&self.blob(digest), false, |file| file.write_all(bytes))
    }

    /// Removes a blob or manifest file, if it is there.
    pub(super) fn remove_blob(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.blob(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Makes everything that was written to the directory durable.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        sync_fs(&self.blobs)
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// One call for any number of files: a file system's own flush is far cheaper than one per blob.
#[cfg(target_os = "linux")]
fn sync_fs(blobs: &Path) -> io::Result<()> {
    nix::unistd::syncfs(File::open(blobs)?).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn sync_fs(blobs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(blobs)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_dir(blobs)
}

/// Reads a file of at most `limit` bytes; one that is longer is cut there, which no digest survives.
pub(super) fn read_file(path: &Path, limit: u64) -> io::Result<Bytes> {
    use std::io::Read as _;
    let file = File::open(path)?;
    let size = file.metadata()?.len().min(limit);
    let mut buf = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(limit).read_to_end(&mut buf)?;
    Ok(buf.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The names in the directory of our own files.
    fn own(dir: &Dir) -> Vec<String> {
        let names = fs::read_dir(dir.own()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::new(root.path());
        dir.create().unwrap();
        let target = root.path().join("index.json");
        fs::write(&target, "old").unwrap();
        let full = dir.write(&target, true, |file| {
            file.write_all(b"half of it")?;
            // What the kernel answers on a full disk.
            File::options().write(true).open("/dev/full")?.write_all(b"the rest")
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(own(&dir), [""; 0]);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let nowhere = dir.write(&root.path().join("no/such/place"), false, |file| file.write_all(b"x"));
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(own(&dir), [""; 0]);
    }

    #[test]
    fn a_full_disk_is_found_by_trying() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::new(root.path());
        dir.create().unwrap();
        dir.try_write().unwrap();
        symlink("/dev/full", dir.own().join("probe.tmp")).unwrap();
        assert_eq!(dir.try_write().unwrap_err().kind(), io::ErrorKind::StorageFull);
        dir.try_write().unwrap();
        assert_eq!(own(&dir), [""; 0]);
    }
}
