//! The directories of an offline job, looked at before anything is written: a wrong word on the command line must not
//! put files where they do not belong.

use super::refusal::{failure, refused_path};
use crate::report::Failure;
use dir_client::exit;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is where an index is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Nothing, or a directory with nothing in it.
    Nothing,
    /// An index.
    Index,
}

/// Refuses what is no directory.
pub(super) fn data_dir(dir: &Path) -> Result<(), Failure> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(wrong(format!("{} (--data-dir) is no directory", dir.display()))),
        Err(e) => Err(refused_path("--data-dir", dir, &e)),
    }
}

/// What is at the place of an index. Refused when it is something else, or belongs to the registry.
pub(super) fn index(dir: &Path, path: &Path) -> Result<At, Failure> {
    let name = path.display();
    if resolved(path).starts_with(resolved(dir)) {
        let text =
            format!("{name} (--index) is in the registry's data directory: an index has a place of its own");
        return Err(wrong(text));
    }
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => {
            return Err(wrong(format!("{name} (--index) is a file: an index is a directory")));
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(At::Nothing),
        Err(e) => return Err(refused_path("--index", path, &e)),
    }
    if path.join("db").is_dir() {
        return Ok(At::Index);
    }
    let mut entries = fs::read_dir(path).map_err(|e| refused_path("--index", path, &e))?;
    if entries.next().is_none() {
        return Ok(At::Nothing);
    }
    Err(wrong(format!("{name} (--index) holds something that is no index: nothing was written to it")))
}

fn wrong(text: String) -> Failure {
    let next =
        "check the path: --index is the server's database.embedded.path, --data-dir the registry's root";
    failure(exit::CONFIG, text, next)
}

/// Where a path leads, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (mut at, mut rest) = (path.as_path(), Vec::new());
    loop {
        if let Ok(found) = at.canonicalize() {
            return rest.into_iter().rev().fold(found, |whole, name| whole.join(name));
        }
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return path.clone() };
        rest.push(name);
        at = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_at_a_place_of_its_own_or_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let dir = at("zot");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        fs::create_dir_all(at("index/db")).unwrap();
        fs::create_dir_all(at("notes")).unwrap();
        fs::write(at("notes/records.ndjson"), "{}").unwrap();
        std::os::unix::fs::symlink(&dir, at("link")).unwrap();
        for (name, found) in [("absent/deep", At::Nothing), ("empty", At::Nothing), ("index", At::Index)] {
            assert_eq!(index(&dir, &at(name)).unwrap(), found, "{name}");
        }
        for (name, text) in [
            ("notes", "holds something that is no index"),
            ("notes/records.ndjson", "is a file"),
            ("zot", "in the registry's data directory"),
            ("zot/dir", "in the registry's data directory"),
            ("zot/not/../there", "in the registry's data directory"),
            ("link/new", "in the registry's data directory"),
        ] {
            let failure = index(&dir, &at(name)).unwrap_err();
            assert!(failure.message.contains(text), "{name}: {failure:?}");
            assert_eq!((failure.code, failure.next.is_empty()), (exit::CONFIG, false), "{name}");
        }
        assert_eq!(data_dir(&at("nonexist")).unwrap_err().code, exit::CONFIG);
        assert_eq!(data_dir(&at("notes/records.ndjson")).unwrap_err().code, exit::CONFIG);
    }
}
