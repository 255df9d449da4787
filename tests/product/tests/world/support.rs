//! What every test here needs.

/// A short path: a unix socket's path has at most about 100 bytes.
pub(crate) fn short_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("dw").tempdir_in("/tmp").unwrap()
}

/// Waits until something is so, or fails the test.
pub(crate) fn until(what: &str, so: impl FnMut() -> bool) {
    product_tests::wait_until(what, so).unwrap();
}
