//! Errors of the backend, sorted: damage, which a rebuild cures, and everything else, which it does not.

use dir_core::index::IndexError;
use std::io;
use std::path::Path;

/// An error of sled while doing `context`.
pub(super) fn from_sled(context: &'static str, error: sled::Error) -> IndexError {
    match error {
        sled::Error::Io(error) => from_io(context, error),
        // Wrong checksums, a format of another version, a broken invariant: nothing in there can be trusted.
        other => IndexError::Damaged(format!("{context}: {other}")),
    }
}

/// An IO error while doing `context`. A file that ends too early is damage; a missing permission is not.
pub(super) fn from_io(context: &'static str, error: io::Error) -> IndexError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            IndexError::Damaged(format!("{context}: {error}"))
        }
        _ => IndexError::Backend { context, source: error.into() },
    }
}

/// The same, naming the file or directory that it was done to.
pub(super) fn from_io_at(context: &'static str, path: &Path, error: &io::Error) -> IndexError {
    from_io(context, io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
