//! The file behind the audit log: whole lines only, found again after a crash, opened anew after a rotation.

use dir_api::AuditSink;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A renamed file is noticed at the first line after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// No line of ours is longer.
const LINE_MAX: u64 = 256 * 1024;
/// How each line of ours begins.
const BEGINNING: &[u8] = b"{\"ts\":\"";

/// The file, open for appending.
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl AuditFile {
    /// Opens or makes the file (mode 0640). A line that a crash has left half is taken away: it was never whole, and
    /// what follows must not be glued to it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let torn = tail(path)?.1;
        if torn.starts_with(BEGINNING) {
            tracing::warn!(path = %path.display(), bytes = torn.len(), "the audit log ends within a line, which is taken away");
            cut(&file, torn.len())?;
        } else if !torn.is_empty() {
            // Not ours to take away.
            file.write_all(b"\n")?;
        }
        Ok(Self { path: path.to_owned(), file, looked: Instant::now() })
    }
}

/// The last whole line, and what follows it. Both are empty for what is no regular file.
fn tail(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let meta = std::fs::metadata(path)?;
    let mut end = Vec::new();
    if meta.is_file() && meta.len() > 0 {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(meta.len().saturating_sub(LINE_MAX)))?;
        file.take(LINE_MAX).read_to_end(&mut end)?;
    }
    let after_last = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = end.split_off(after_last(&end));
    end.pop();
    let last = end.split_off(after_last(&end));
    Ok((last, torn))
}

fn cut(file: &File, bytes: usize) -> io::Result<()> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    file.set_len(file.metadata()?.len().saturating_sub(bytes))
}

impl Write for AuditFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AuditSink for AuditFile {
    fn moved(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return false;
        }
        self.looked = Instant::now();
        let place = |meta: Metadata| (meta.dev(), meta.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(open)) => place(there) != place(open),
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }

    fn last_line(&mut self) -> Option<Vec<u8>> {
        tail(&self.path).ok().map(|(last, _)| last).filter(|last| !last.is_empty())
    }

    fn take_back(&mut self, bytes: usize) -> bool {
        // Only what this process has put at the very end.
        let at_end = self.file.stream_position().ok() == self.file.metadata().ok().map(|meta| meta.len());
        at_end && cut(&self.file, bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_taken_away_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let text = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(AuditFile::open(&path).unwrap().last_line(), None);
        for (before, after, last) in [
            (
                "{\"ts\":\"1\"}\n{\"ts\":\"2\"}\n{\"ts\":\"3",
                "{\"ts\":\"1\"}\n{\"ts\":\"2\"}\n",
                "{\"ts\":\"2\"}",
            ),
            ("{\"ts\":\"only", "", ""),
            ("somebody else's", "somebody else's\n", "somebody else's"),
            ("one\n", "one\n", "one"),
        ] {
            std::fs::write(&path, before).unwrap();
            let last_line = AuditFile::open(&path).unwrap().last_line().unwrap_or_default();
            assert_eq!((text().as_str(), last_line.as_slice()), (after, last.as_bytes()));
        }
    }

    #[test]
    fn what_was_begun_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut file = AuditFile::open(&path).unwrap();
        file.write_all(b"whole\nhal").unwrap();
        assert!(file.take_back(3));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\n");
        file.write_all(b"b").unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"another's").unwrap();
        assert!(!file.take_back(1));
    }

    #[test]
    fn a_renamed_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut file = AuditFile::open(&path).unwrap();
        let long_ago = || Instant::now().checked_sub(LOOK_INTERVAL).unwrap();
        file.looked = long_ago();
        assert!(!file.moved());
        std::fs::rename(&path, dir.path().join("audit.1")).unwrap();
        assert!(!file.moved(), "not asked again at once");
        file.looked = long_ago();
        assert!(file.moved());
        std::fs::write(&path, "new").unwrap();
        file.looked = long_ago();
        assert!(file.moved());
    }
}
