//! Named limits of the store.

use dir_core::store::StoreError;

/// Default of [`Limits::max_blob_bytes`]: 32 MiB. A record of 4 MiB on the wire can grow sixfold by escapes.
pub const DEFAULT_MAX_BLOB_BYTES: u64 = 32 << 20;
/// Default of [`Limits::max_manifest_bytes`]: 4 MiB, what registries commonly accept.
pub const DEFAULT_MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// What an adapter stores or reads at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest blob (record or referrer) in bytes.
    pub max_blob_bytes: u64,
    /// Largest manifest or listing in bytes.
    pub max_manifest_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_blob_bytes: DEFAULT_MAX_BLOB_BYTES, max_manifest_bytes: DEFAULT_MAX_MANIFEST_BYTES }
    }
}

impl Limits {
    /// Refuses a blob that is larger than the limit.
    pub(crate) fn check_blob(&self, what: &str, size: usize) -> Result<(), StoreError> {
        check(what, size, self.max_blob_bytes)
    }

    /// Refuses a manifest that is larger than the limit.
    pub(crate) fn check_manifest(&self, what: &str, size: usize) -> Result<(), StoreError> {
        check(what, size, self.max_manifest_bytes)
    }
}

fn check(what: &str, size: usize, limit: u64) -> Result<(), StoreError> {
    let size = size as u64;
    if size > limit { Err(StoreError::TooLarge { what: what.to_owned(), size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_accepted() {
        let limits = Limits { max_blob_bytes: 10, max_manifest_bytes: 5 };
        assert!(limits.check_blob("record", 10).is_ok());
        let refused = limits.check_blob("record", 11).unwrap_err().to_string();
        assert_eq!(refused, "record of 11 bytes exceeds the limit of 10 bytes");
        assert!(limits.check_manifest("manifest", 5).is_ok());
        assert!(limits.check_manifest("manifest", 6).is_err());
    }
}
