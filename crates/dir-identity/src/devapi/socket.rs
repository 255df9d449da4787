//! The socket file: who may open it, and what an earlier process left behind.

use super::DevError;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Longest path that every platform takes, in bytes.
pub(crate) const PATH_MAX: usize = 100;

/// A bound socket. Its file is removed when this is dropped, unless another process has replaced it.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|m| m.ino())
}

/// Binds with mode 0600. A socket that nobody listens on is replaced; anything else in the way is left alone.
pub(crate) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), DevError> {
    let fault = |reason: String| DevError::Socket { path: path.to_owned(), reason };
    if path.as_os_str().len() > PATH_MAX {
        return Err(fault(format!("the path is longer than {PATH_MAX} bytes; choose a shorter one")));
    }
    if !path.is_absolute() {
        return Err(fault("the path must be absolute".to_owned()));
    }
    if let Some(folder) = path.parent().filter(|f| !f.exists()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| fault(format!("its folder cannot be made: {e}")))?;
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(fault("a file that is no socket is in the way; remove it".to_owned()));
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(fault("another process serves it; stop that one or choose another path".to_owned()));
        }
        fs::remove_file(path).map_err(|e| fault(format!("the stale socket cannot be removed: {e}")))?;
    }
    let listener = UnixListener::bind(path).map_err(|e| fault(e.to_string()))?;
    let file = SocketFile { path: path.to_owned(), inode: inode(path) };
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|e| fault(e.to_string()))?;
    Ok((listener, file))
}
