//! One OCI image layout on disk.

use super::artifacts::Entry;
use dir_core::Cid;
use dir_core::oci::{EMPTY_CONFIG_BYTES, INDEX, MANIFEST};
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// A repository of a registry, or the embedded store. It comes to exist with the first thing in it.
pub(super) struct Repository {
    root: PathBuf,
    blobs: PathBuf,
    /// With a directory for uploads, as Zot has it.
    uploads: bool,
    exists: Mutex<bool>,
}

impl Repository {
    pub(super) fn new(root: PathBuf, uploads: bool) -> Self {
        Self { blobs: root.join("blobs/sha256"), root, uploads, exists: Mutex::default() }
    }

    /// Makes the directories and what every layout has.
    pub(super) fn create(&self) -> io::Result<()> {
        let mut exists = self.exists.lock();
        if *exists {
            return Ok(());
        }
        fs::create_dir_all(&self.blobs)?;
        if self.uploads {
            fs::create_dir_all(self.root.join(".uploads"))?;
        }
        fs::write(self.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.put(&Cid::of(EMPTY_CONFIG_BYTES), EMPTY_CONFIG_BYTES)?;
        *exists = true;
        Ok(())
    }

    /// Writes a blob or a manifest.
    pub(super) fn write(&self, digest: &Cid, bytes: &[u8]) -> io::Result<()> {
        self.create()?;
        self.put(digest, bytes)
    }

    fn put(&self, digest: &Cid, bytes: &[u8]) -> io::Result<()> {
        let name = digest.oci_digest();
        fs::write(self.blobs.join(name.trim_start_matches("sha256:")), bytes)
    }

    /// Writes `index.json`; Zot's has no media type.
    pub(super) fn write_index(&self, entries: &[&Entry], typed: bool) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(self.root.join("index.json"))?);
        let media_type = if typed { format!(r#""mediaType":"{INDEX}","#) } else { String::new() };
        write!(out, r#"{{"schemaVersion":2,{media_type}"manifests":["#)?;
        for (at, entry) in entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (digest, size) = (entry.manifest.oci_digest(), entry.size);
            write!(out, r#"{comma}{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}"#)?;
            if entry.tagged {
                let tag = entry.content;
                write!(out, r#","annotations":{{"org.opencontainers.image.ref.name":"{tag}"}}"#)?;
            }
            out.write_all(b"}")?;
        }
        out.write_all(b"]}")?;
        out.flush()
    }
}
