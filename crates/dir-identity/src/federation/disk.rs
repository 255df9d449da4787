//! The last good bundle of each partner, and the state of what we publish, on disk.

use super::document::{BundleDocument, DocumentError, fingerprint};
use dir_core::{Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest trust domain that names its file itself.
const PLAIN_NAME_MAX: usize = 200;
/// Largest file that is read: a document as a JSON text takes up to six times its length.
const FILE_MAX: u64 = 8 * 1024 * 1024;

/// What is remembered of a partner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) trust_domain: String,
    /// Milliseconds since 1970, UTC.
    pub(super) fetched_at: i64,
    /// For people who look into the file; the document's own counts.
    pub(super) sequence: Option<u64>,
    /// Fingerprint of the bootstrap file at that time.
    pub(super) bootstrap: Option<String>,
    /// The document as it was sent.
    pub(super) document: String,
}

impl Saved {
    pub(super) fn fetched_at(&self) -> Timestamp {
        Timestamp(self.fetched_at)
    }
}

fn path_of(dir: &Path, domain: &TrustDomain) -> PathBuf {
    let name = domain.as_str();
    let stem = if name.len() <= PLAIN_NAME_MAX { name.to_owned() } else { fingerprint(name.as_bytes()) };
    dir.join(format!("{stem}.json"))
}

/// Makes the directory, for us alone.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

pub(super) fn save(dir: &Path, domain: &TrustDomain, saved: &Saved) -> io::Result<()> {
    replace(&path_of(dir, domain), &serde_json::to_vec(saved)?)
}

/// Forgets what was saved, if anything was.
pub(super) fn remove(dir: &Path, domain: &TrustDomain) -> io::Result<()> {
    match fs::remove_file(path_of(dir, domain)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What was saved, if it is there and is this domain's.
pub(super) fn load(dir: &Path, domain: &TrustDomain) -> io::Result<Option<Saved>> {
    let path = path_of(dir, domain);
    let Some(bytes) = read_bounded(&path, FILE_MAX)? else { return Ok(None) };
    let saved: Saved = serde_json::from_slice(&bytes)?;
    if saved.trust_domain == domain.as_str() {
        Ok(Some(saved))
    } else {
        let text = format!("{} holds the bundle of {}", path.display(), saved.trust_domain);
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// Replaces a file as a whole, readable by us alone: after a crash there is the old content or the new.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // A leftover of a crash may have other permissions.
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// A file of at most `max` bytes; `None` when there is none.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let text = format!("{} is longer than {max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(bytes))
}

/// Reads a bootstrap file: a SPIFFE bundle document, or roots in PEM. The answer has its fingerprint.
pub(super) fn bootstrap(path: &Path) -> Result<(BundleDocument, String), String> {
    let max = super::document::DOCUMENT_MAX as u64;
    let bytes = read_bounded(path, max).map_err(|e| format!("bootstrap_file {}: {e}", path.display()))?;
    let bytes = bytes.ok_or_else(|| format!("bootstrap_file {} is not there", path.display()))?;
    let document = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        pem(&bytes)
    } else {
        BundleDocument::parse(&bytes)
    };
    let document = document.map_err(|e| format!("bootstrap_file {}: {e}", path.display()))?;
    Ok((document, fingerprint(&bytes)))
}

fn pem(bytes: &[u8]) -> Result<BundleDocument, DocumentError> {
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let roots = roots.map_err(|e| DocumentError::Json(e.to_string()))?;
    Ok(BundleDocument { x509_roots: roots.iter().map(|r| r.to_vec()).collect(), ..BundleDocument::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_is_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("federation");
        prepare(&home).unwrap();
        let long: TrustDomain = "d".repeat(255).parse().unwrap();
        for domain in ["a.example".parse().unwrap(), long] {
            assert!(load(&home, &domain).unwrap().is_none());
            let saved = Saved {
                trust_domain: domain.to_string(),
                fetched_at: 7,
                sequence: Some(3),
                bootstrap: None,
                document: "{}".to_owned(),
            };
            save(&home, &domain, &saved).unwrap();
            save(&home, &domain, &Saved { sequence: Some(4), ..saved }).unwrap();
            assert_eq!(load(&home, &domain).unwrap().unwrap().sequence, Some(4));
            let mode = fs::metadata(path_of(&home, &domain)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "no leftovers");
        assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_of_another_domain_or_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b): (TrustDomain, TrustDomain) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        let saved = Saved {
            trust_domain: a.to_string(),
            fetched_at: 0,
            sequence: None,
            bootstrap: None,
            document: String::new(),
        };
        save(dir.path(), &a, &saved).unwrap();
        fs::copy(path_of(dir.path(), &a), path_of(dir.path(), &b)).unwrap();
        assert!(load(dir.path(), &b).unwrap_err().to_string().contains("the bundle of a.example"));
        fs::write(path_of(dir.path(), &b), b"{").unwrap();
        assert!(load(dir.path(), &b).is_err());
        let big = dir.path().join("big");
        fs::write(&big, vec![b' '; 11]).unwrap();
        assert!(read_bounded(&big, 10).is_err());
        assert_eq!(read_bounded(&big, 11).unwrap().unwrap().len(), 11);
    }
}
