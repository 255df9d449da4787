//! Which layout a registry has: the stamp, and where records live.

use super::config::Layout;
use super::http::Registry;
use super::objects::ManifestPut;
use crate::artifact::Manifest;
use bytes::Bytes;
use dir_core::Cid;
use dir_core::oci::{EMPTY_CONFIG, EMPTY_CONFIG_BYTES, MANIFEST};
use dir_core::store::StoreError;

/// Tag of the stamp: no CID, so that readers of records pass it by.
pub(super) const STAMP_TAG: &str = "directory.layout";
/// Artifact type of the stamp.
const STAMP_TYPE: &str = "application/vnd.directory.layout.v1+json";
/// Annotation that holds the layout.
const STAMP_KEY: &str = "directory.layout";

/// Where records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    Sharded,
    Single,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Placement::Sharded => "sharded",
            Placement::Single => "single",
        }
    }

    /// The repository of a record and of its referrers.
    pub(super) fn repository(self, stem: &str, record: &Cid) -> String {
        match self {
            Placement::Sharded => shard_name(stem, record.shard()),
            Placement::Single => stem.to_owned(),
        }
    }
}

/// The repository of a shard.
pub(super) fn shard_name(stem: &str, shard: u16) -> String {
    format!("{stem}-{shard:03x}")
}

/// Finds out which layout the registry has, and stamps it when nobody has.
pub(super) async fn settle(registry: &Registry, stem: &str, asked: Layout) -> Result<Placement, StoreError> {
    if let Some(stamped) = read(registry, stem).await? {
        return check(registry, stem, asked, stamped);
    }
    let placement = match asked {
        Layout::Single => Placement::Single,
        Layout::Auto if registry.tags(stem).await?.is_empty() => Placement::Sharded,
        Layout::Auto => {
            tracing::warn!(
                registry = %registry.name,
                repository = stem,
                "the repository was filled without a layout stamp: serving it as it is, in layout single; \
                 `dir-admin store reshard --to sharded` makes it fast"
            );
            Placement::Single
        }
        // Records in the one repository would be lost to sight.
        Layout::Sharded if registry.tags(stem).await?.iter().any(|t| t.parse::<Cid>().is_ok()) => {
            return check(registry, stem, asked, Placement::Single);
        }
        Layout::Sharded => Placement::Sharded,
    };
    write(registry, stem, placement).await?;
    // Somebody else may have started at the same time.
    match read(registry, stem).await? {
        Some(stamped) => check(registry, stem, asked, stamped),
        None => Ok(placement),
    }
}

fn check(registry: &Registry, stem: &str, asked: Layout, found: Placement) -> Result<Placement, StoreError> {
    let asked = match asked {
        Layout::Auto => return Ok(found),
        Layout::Sharded => Placement::Sharded,
        Layout::Single => Placement::Single,
    };
    if asked == found {
        return Ok(found);
    }
    Err(StoreError::Layout(format!(
        "store.oci.layout is \"{asked}\", but repository {stem} of registry {} is in layout \"{found}\": set \
         store.oci.layout to \"{found}\" or \"auto\", or convert with `dir-admin store reshard --to {asked}`",
        registry.name,
        asked = asked.name(),
        found = found.name(),
    )))
}

async fn read(registry: &Registry, stem: &str) -> Result<Option<Placement>, StoreError> {
    let Some((bytes, _)) = registry.manifest(stem, STAMP_TAG).await? else { return Ok(None) };
    match Manifest::parse(&bytes, STAMP_TAG)?.annotation(STAMP_KEY) {
        "sharded" => Ok(Some(Placement::Sharded)),
        "single" => Ok(Some(Placement::Single)),
        other => Err(StoreError::Layout(format!(
            "repository {stem} of registry {} is stamped with layout {other:?}, which this version does not know: a \
             newer version wrote it",
            registry.name
        ))),
    }
}

async fn write(registry: &Registry, stem: &str, placement: Placement) -> Result<(), StoreError> {
    let blob = Cid::of(EMPTY_CONFIG_BYTES);
    let empty = serde_json::json!({ "mediaType": EMPTY_CONFIG, "digest": blob.oci_digest(), "size": 2 });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": STAMP_TYPE,
        "config": empty,
        "layers": [empty],
        "annotations": { STAMP_KEY: placement.name() },
    });
    let bytes = Bytes::from(manifest.to_string());
    let config = Bytes::from_static(EMPTY_CONFIG_BYTES);
    registry.upload(stem, &blob, &config).await?;
    if let ManifestPut::UnknownBlob(_) = registry.put_manifest(stem, STAMP_TAG, &bytes, MANIFEST).await? {
        registry.upload(stem, &blob, &config).await?;
        registry.put_manifest_again(stem, STAMP_TAG, &bytes).await?;
    }
    Ok(())
}
