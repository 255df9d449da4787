//! Name, version and origin of this program.

/// Name of the program.
pub const NAME: &str = env!("CARGO_PKG_NAME");
/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Target triple it was built for.
pub const TARGET: &str = env!("DIRECTORY_TARGET");

/// Commit it was built from, when known.
pub const fn git_sha() -> Option<&'static str> {
    let sha = env!("DIRECTORY_GIT_SHA");
    if sha.is_empty() { None } else { Some(sha) }
}

/// `--version`: version, commit and target, so that a wrong architecture or build is seen at once.
pub const LONG_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("DIRECTORY_GIT_SHA"), ", ", env!("DIRECTORY_TARGET"), ")");
