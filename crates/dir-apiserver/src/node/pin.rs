//! The trust domain is chosen once: the first start writes it down, every later start is held to it.

use crate::exit::{Failure, Status};
use dir_core::TrustDomain;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Name of the file in `state_dir`.
pub(super) const FILE: &str = "trust-domain";

/// Compares `now` with the trust domain of the first start; writes it down when this is the first.
pub(super) fn check(state_dir: &Path, now: &TrustDomain) -> Result<(), Failure> {
    let path = state_dir.join(FILE);
    let failed = |what: &str, error: &io::Error| {
        Failure::new(Status::Config, format!("cannot {what} {} (state_dir): {error}", path.display()))
    };
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == now.as_str() => Ok(()),
        Ok(text) => Err(Failure::new(
            Status::Config,
            format!(
                "this node belongs to trust domain {pinned} (written to {path} at its first start), and its SVID is \
                 of {now}. A trust domain cannot be changed by a restart: give the node an SVID of {pinned}, start \
                 with an empty state_dir, or run `dir-admin trust-domain migrate --i-understand`",
                pinned = text.trim(),
                path = path.display(),
            ),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(state_dir, &path, now).map_err(|e| failed("write", &e))?;
            tracing::info!(trust_domain = %now, path = %path.display(), "trust domain pinned");
            Ok(())
        }
        Err(error) => Err(failed("read", &error)),
    }
}

/// Whole or not at all: a crash in between must not leave half a name.
fn write(state_dir: &Path, path: &Path, domain: &TrustDomain) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{domain}")?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_decides() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("new/state");
        let (a, b): (TrustDomain, TrustDomain) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        check(&state, &a).unwrap();
        check(&state, &a).unwrap();
        let refused = check(&state, &b).unwrap_err();
        assert_eq!(refused.status, Status::Config);
        assert!(refused.text.contains("belongs to trust domain a.example"), "{}", refused.text);
        assert!(refused.text.contains("migrate --i-understand"), "{}", refused.text);
        check(&state, &a).unwrap();
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let refused = check(Path::new("/proc/nowhere"), &"a.example".parse().unwrap()).unwrap_err();
        assert!(refused.text.contains("/proc/nowhere/trust-domain (state_dir)"), "{}", refused.text);
    }
}
