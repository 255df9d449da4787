//! Whether a directory is a stopped registry's, as far as that can be seen from here.

use super::failed;
use dir_core::store::StoreError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Held while the directory is changed; the file stays.
const LOCK: &str = ".directory-reshard.lock";
/// A file that names directories of a registry is no larger.
const CONFIG_MAX: u64 = 1 << 20;

/// Refuses what is no data directory of Zot with this repository in it.
pub(super) fn check(root: &Path, stem: &str) -> Result<(), StoreError> {
    let refused = |why: String| Err(StoreError::Layout(format!("{}: {why}", root.display())));
    if !root.is_dir() {
        return refused("is no directory".to_owned());
    }
    if root.join("oci-layout").exists() {
        return refused(
            "is itself one image layout: give the registry's root directory, which has one for each repository"
                .to_owned(),
        );
    }
    if root.join("docker/registry/v2").exists() {
        return refused("belongs to a registry that is not Zot: convert it online".to_owned());
    }
    let shard = |name: &str| {
        name.strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|hex| hex.len() == 3 && u16::from_str_radix(hex, 16).is_ok())
    };
    let entries = fs::read_dir(root).map_err(|e| failed("read the directory", root, e))?;
    let mut names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    if names.any(|name| (name == stem || shard(&name)) && root.join(&name).join("index.json").is_file()) {
        return Ok(());
    }
    refused(format!("holds no repository {stem} and none of its shards: see --repository"))
}

/// Refuses when a registry can be seen to run over the directory: it keeps a database of it locked, or has it in its
/// configuration. A registry on another machine or in another container cannot be seen.
pub(super) fn refuse_running(root: &Path) -> Result<(), StoreError> {
    let stop =
        |why: String| Err(StoreError::Layout(format!("{}: {why}: stop the registry first", root.display())));
    for name in ["cache.db", "meta.db"] {
        let Ok(file) = File::open(root.join(name)) else { continue };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return stop(format!("{name} is in use"));
        }
    }
    match serving(root) {
        Some(pid) => stop(format!("process {pid} serves it")),
        None => Ok(()),
    }
}

/// The registry process of this machine that has the directory in its configuration.
fn serving(root: &Path) -> Option<u32> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own).find(|pid| serves(*pid, root))
}

fn serves(pid: u32, root: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut args = line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
    if !name.is_some_and(|name| name.starts_with("zot") || name.contains("registry")) {
        return false;
    }
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let text = root.display().to_string();
    args.filter(|arg| !arg.is_empty()).any(|arg| arg.contains(&text) || names(&cwd.join(&arg), &text))
}

fn names(config: &PathBuf, text: &str) -> bool {
    let small = fs::metadata(config).is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_MAX);
    small && fs::read_to_string(config).is_ok_and(|config| config.contains(text))
}

/// The right to be the only one of us who changes the directory.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] File);

impl Lock {
    pub(super) fn take(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|e| failed("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Layout(format!("{}: another conversion is at work", root.display())))
            }
            Err(TryLockError::Error(e)) => Err(failed("lock", &path, e)),
        }
    }
}
