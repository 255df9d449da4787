//! Opening whatever state the directory is in: a damaged index is set aside, for inspection, and an empty one
//! takes its place, to be rebuilt from the record store.

use super::failure::from_io;
use super::lock::Lock;
use super::{SledConfig, SledIndex, owners};
use crate::log::first_seq;
use dir_core::Clock;
use dir_core::index::IndexError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An index that is open, perhaps instead of another.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: SledIndex,
    /// What it replaces: then it is empty, and must be rebuilt.
    pub set_aside: Option<SetAside>,
}

/// A damaged index that was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now: `<path>.damaged-<time>`.
    pub path: PathBuf,
    /// What was found.
    pub reason: String,
}

/// Opens the index; a damaged one is moved to `<path>.damaged-<time>` first and an empty one opened. Errors that
/// are no damage (in use, no permission) are answered as they are: nothing is moved.
///
/// The event log of a new index begins above those that were here before, as long as the clock does not run backwards.
pub fn open_or_set_aside(mut config: SledConfig, clock: &dyn Clock) -> Result<Opened, IndexError> {
    config.first_seq = config.first_seq.max(first_seq(clock.now()));
    let lock = Arc::new(Lock::take(&config.path)?);
    match SledIndex::open_locked(config.clone(), lock.clone()) {
        Ok(index) => Ok(Opened { index, set_aside: None }),
        Err(IndexError::Damaged(reason)) => {
            let path = vacant(&config.path, &clock.now().rfc3339().replace(['-', ':'], ""));
            std::fs::rename(&config.path, &path).map_err(|e| from_io("setting a damaged index aside", e))?;
            tracing::error!(reason, moved_to = %path.display(), "the index is damaged and starts empty");
            let index = SledIndex::open_locked(config, lock)?;
            if let Some(db) = &*index.db.read() {
                match owners::hand_on(&path, db) {
                    Ok(count) => {
                        tracing::info!(count, "who owns which record was taken out of the damaged index");
                    }
                    Err(reason) => {
                        tracing::error!(reason, "who owned which record is lost with the damaged index");
                    }
                }
            }
            Ok(Opened { index, set_aside: Some(SetAside { path, reason }) })
        }
        Err(other) => Err(other),
    }
}

/// A path that nothing has yet.
fn vacant(index: &Path, time: &str) -> PathBuf {
    let named = |suffix: &str| {
        let mut path = index.as_os_str().to_owned();
        path.push(format!(".damaged-{time}{suffix}"));
        PathBuf::from(path)
    };
    let mut path = named("");
    let mut n = 1;
    while path.exists() {
        n += 1;
        path = named(&format!("-{n}"));
    }
    path
}
