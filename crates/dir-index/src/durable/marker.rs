//! The mark of a clean close: what the index amounted to. It shows a loss that leaves the rest consistent, such
//! as a tail that recovery had to drop. While the index is open there is no mark: after a crash the tail is
//! whatever was flushed, and every acknowledged change was.

use super::failure::from_io;
use crate::codec::{Summary, decode_summary, encode_summary};
use dir_core::index::IndexError;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

const NAME: &str = "clean";

/// Writes the mark, durably.
pub(super) fn write(dir: &Path, summary: Summary) -> Result<(), IndexError> {
    let fail = |e| from_io("marking the clean close", e);
    let partial = dir.join("clean.partial");
    let mut file = File::create(&partial).map_err(fail)?;
    file.write_all(&encode_summary(NAME.as_bytes(), summary)).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&partial, dir.join(NAME)).and_then(|()| sync(dir)).map_err(fail)
}

/// Reads the mark, if there is one.
pub(super) fn read(dir: &Path) -> Result<Option<Summary>, IndexError> {
    match std::fs::read(dir.join(NAME)) {
        Ok(bytes) => decode_summary(NAME.as_bytes(), &bytes)
            .map(Some)
            .map_err(|_malformed| IndexError::Damaged("the mark of the clean close is unreadable".into())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(from_io("reading the mark of the clean close", e)),
    }
}

/// Removes the mark, durably: from now on the index changes.
pub(super) fn remove(dir: &Path) -> Result<(), IndexError> {
    match std::fs::remove_file(dir.join(NAME)) {
        Ok(()) => sync(dir).map_err(|e| from_io("removing the mark of the clean close", e)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(from_io("removing the mark of the clean close", e)),
    }
}

fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
