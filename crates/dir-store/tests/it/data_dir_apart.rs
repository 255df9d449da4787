//! The data directory of a stopped registry whose repositories are on different file systems, where nothing can be
//! linked.

use crate::data_dir::{RECORDS_MAX, check, content, convert, filled};
use dir_core::maintenance::Spread;
use dir_testkit::fill::Shape;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory on another file system than `dir`; `None` where this machine has none.
fn elsewhere(dir: &Path) -> Option<TempDir> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let places = ["/dev/shm", "/run", "/tmp", "/var/tmp"].map(PathBuf::from);
    let mut others = places.into_iter().filter(|place| device(place).is_some_and(|d| Some(d) != device(dir)));
    others.find_map(|place| TempDir::new_in(place).ok())
}

/// Moves a repository to another file system, where a volume of its own would be mounted.
fn move_away(repository: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(repository).arg(to).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(repository).unwrap();
    symlink(to.join(repository.file_name().unwrap()), repository).unwrap();
}

#[tokio::test]
async fn what_cannot_be_linked_is_copied_also_after_it_was_cut_off() {
    for steps in [1, 40, RECORDS_MAX, usize::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let Some(other) = elsewhere(dir.path()) else {
            eprintln!("skipped: everything here is one file system");
            return;
        };
        let filled = filled(dir.path(), Shape::Single);
        let before = content(dir.path());
        move_away(&dir.path().join("dir"), other.path());
        let (done, ..) = convert(dir.path(), Spread::Sharded, steps).await;
        assert_eq!(done, steps == usize::MAX, "{steps}");
        check(dir.path(), &filled).await;
        assert!(convert(dir.path(), Spread::Sharded, usize::MAX).await.0);
        check(dir.path(), &filled).await;
        let wanted = tempfile::tempdir().unwrap();
        self::filled(wanted.path(), Shape::Sharded);
        assert_eq!(content(dir.path()), content(wanted.path()), "{steps}");
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        let shard = dir.path().join(names.iter().find(|name| name.starts_with("dir-")).unwrap());
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(&shard), device(&dir.path().join("dir")), "on two file systems");

        assert!(convert(dir.path(), Spread::Single, usize::MAX).await.0);
        assert_eq!(content(dir.path())["dir"].0, before["dir"].0);
        check(dir.path(), &filled).await;
    }
}
