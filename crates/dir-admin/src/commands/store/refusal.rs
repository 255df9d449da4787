//! Why an offline job failed, and what helps.

use crate::report::Failure;
use dir_client::exit;
use dir_core::index::IndexError;
use dir_core::{Class, Classified};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What helps when nothing better is known.
pub(super) const AGAIN: &str = "run it again: it goes on with what is left";

pub(super) fn failure(code: u8, message: String, next: &str) -> Failure {
    let kind = if code == exit::CONFIG { "config" } else { "internal" };
    Failure::new(kind, message, next.to_owned(), code)
}

/// A path that cannot be looked at.
pub(super) fn refused_path(flag: &str, path: &Path, error: &io::Error) -> Failure {
    let text = format!("cannot use {} ({flag}): {error}", path.display());
    failure(exit::CONFIG, text, io_advice(error.kind()).unwrap_or(CHECK))
}

pub(super) fn refused<E: Classified + Error + 'static>(error: &E) -> Failure {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        if !text.ends_with(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
    }
    match (advice(error), error.class()) {
        (Some(next), _) => failure(exit::CONFIG, text, next),
        (None, Class::FailedPrecondition | Class::Invalid) => failure(exit::CONFIG, text, ""),
        (None, _) => failure(exit::GENERIC, text, AGAIN),
    }
}

/// Whether another process holds the index.
pub(super) fn is_in_use(error: &(dyn Error + 'static)) -> bool {
    let locking = |cause: &(dyn Error + 'static)| {
        matches!(
            cause.downcast_ref(),
            Some(IndexError::Backend { context: "locking the index directory", source }) if !source.is::<io::Error>()
        )
    };
    causes(error).any(locking)
}

/// An error and what is behind it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

const CHECK: &str = "check the path";

/// What helps against a failure that the next run would meet as well.
fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if is_in_use(error) {
        return Some("stop the server that uses the index, and run it again");
    }
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(|e| io_advice(e.kind()))
}

const fn io_advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on the disk, and run it again",
        ErrorKind::ReadOnlyFilesystem => "have the file system mounted for writing, and run it again",
        ErrorKind::PermissionDenied => "run it as the user that the files belong to, or as root",
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => CHECK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_core::store::StoreError;

    #[test]
    fn what_cannot_be_used_is_no_internal_error() {
        let store = |kind: ErrorKind| StoreError::Unavailable {
            context: "write /srv/zot/x".to_owned(),
            source: io::Error::from(kind).into(),
        };
        for (kind, next) in [
            (ErrorKind::StorageFull, "make room"),
            (ErrorKind::ReadOnlyFilesystem, "mounted for writing"),
            (ErrorKind::PermissionDenied, "as the user"),
            (ErrorKind::NotFound, "check the path"),
        ] {
            let failure = refused(&store(kind));
            assert!(failure.code == exit::CONFIG && failure.next.contains(next), "{failure:?}");
        }
        let failure = refused(&store(ErrorKind::Other));
        assert_eq!((failure.code, failure.next.as_str()), (exit::GENERIC, AGAIN));
    }
}
