//! One process at a time: an advisory lock on a file beside the index directory. The file stays; the lock goes
//! with the process, however it ends.

use super::failure::from_io_at;
use dir_core::index::IndexError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a lock that is held is tried again.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries.
const LOCK_LOOK: Duration = Duration::from_millis(10);

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
        match lock_soon(&file) {
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

/// Takes the lock, with a little patience: a process that this one has just forked holds our former lock too, until
/// it runs its own program.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_LOOK),
            other => return other,
        }
    }
}

fn lock_path(index: &Path) -> PathBuf {
    let mut path = index.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}
