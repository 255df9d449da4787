//! Where a rebuild got to, across restarts.

use dir_core::store::WalkMark;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;

/// What a journal knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Journaled {
    /// No rebuild is unfinished.
    #[default]
    Finished,
    /// One was begun, and has to begin anew.
    Begun,
    /// One was begun, and can go on from here.
    At(WalkMark),
}

/// Remembers an unfinished rebuild. Calls are rare: once per walk mark.
pub trait RebuildJournal: Send + Sync {
    /// Whether a rebuild was begun and not finished, and where it can go on.
    fn load(&self) -> io::Result<Journaled>;

    /// A rebuild has come to here (`None`: it begins).
    fn note(&self, mark: Option<&WalkMark>) -> io::Result<()>;

    /// The rebuild is finished.
    fn done(&self) -> io::Result<()>;
}

/// A journal that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Journaled>);

impl RebuildJournal for MemoryJournal {
    fn load(&self) -> io::Result<Journaled> {
        Ok(self.0.lock().clone())
    }

    fn note(&self, mark: Option<&WalkMark>) -> io::Result<()> {
        *self.0.lock() = mark.map_or(Journaled::Begun, |mark| Journaled::At(mark.clone()));
        Ok(())
    }

    fn done(&self) -> io::Result<()> {
        *self.0.lock() = Journaled::Finished;
        Ok(())
    }
}

/// A journal in a file, which is there exactly while a rebuild is unfinished.
#[derive(Debug, Clone)]
pub struct FileJournal(PathBuf);

impl FileJournal {
    /// A journal in the file `path`; its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl RebuildJournal for FileJournal {
    fn load(&self) -> io::Result<Journaled> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) if text.is_empty() => Ok(Journaled::Begun),
            Ok(text) => Ok(Journaled::At(WalkMark(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Journaled::Finished),
            Err(error) => Err(error),
        }
    }

    fn note(&self, mark: Option<&WalkMark>) -> io::Result<()> {
        // A mark that is cut off could skip records: the new file replaces the old one whole.
        let fresh = self.0.with_extension("new");
        let file = std::fs::File::create(&fresh)?;
        io::Write::write_all(&mut &file, mark.map_or("", |m| m.0.as_str()).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(fresh, &self.0)
    }

    fn done(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_journal_is_there_while_a_rebuild_is_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let journal = FileJournal::new(dir.path().join("rebuild"));
        assert_eq!(journal.load().unwrap(), Journaled::Finished);
        journal.note(None).unwrap();
        assert_eq!(journal.load().unwrap(), Journaled::Begun);
        journal.note(Some(&WalkMark("0a3/17".into()))).unwrap();
        let other = FileJournal::new(dir.path().join("rebuild"));
        assert_eq!(other.load().unwrap(), Journaled::At(WalkMark("0a3/17".into())));
        other.done().unwrap();
        other.done().unwrap();
        assert_eq!(journal.load().unwrap(), Journaled::Finished);
    }
}
