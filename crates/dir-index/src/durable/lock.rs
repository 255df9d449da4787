//! One process at a time: an advisory lock on a file beside the index directory. The file stays; the lock goes
//! with the process, however it ends.

use super::failure::from_io_at;
use dir_core::index::IndexError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held while the index is open.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{index} is in use by another process ({holder}); stop that process or configure another index directory"
)]
struct InUse {
    index: String,
    holder: String,
}

impl Lock {
    /// Takes the lock of the index directory `index`, creating its parent directories.
    pub(super) fn take(index: &Path) -> Result<Self, IndexError> {
        const CONTEXT: &str = "locking the index directory";
        let path = lock_path(index);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| from_io_at(CONTEXT, parent, &e))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| from_io_at(CONTEXT, &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The text is a help for the reader of the message, nothing depends on it.
                let _ = file.read_to_string(&mut holder);
                let source = InUse { index: index.display().to_string(), holder: holder.trim().to_owned() };
                return Err(IndexError::Backend { context: CONTEXT, source: source.into() });
            }
            Err(TryLockError::Error(e)) => return Err(from_io_at(CONTEXT, &path, &e)),
        }
        let note = format!("pid {}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(|e| from_io_at(CONTEXT, &path, &e))?;
        Ok(Self { _file: file })
    }
}

fn lock_path(index: &Path) -> PathBuf {
    let mut path = index.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}
