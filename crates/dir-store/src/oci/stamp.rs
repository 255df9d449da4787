//! Which layout a registry has: the stamp, and where records live.

use super::config::Layout;
use super::http::Registry;
use super::objects::ManifestPut;
use crate::artifact::Manifest;
use bytes::Bytes;
use dir_core::Cid;
use dir_core::oci::{EMPTY_CONFIG, EMPTY_CONFIG_BYTES, MANIFEST};
use dir_core::store::StoreError;
use std::collections::BTreeMap;

/// Tag of the stamp: no CID, so that readers of records pass it by.
pub(crate) const STAMP_TAG: &str = "directory.layout";
/// Artifact type of the stamp.
const STAMP_TYPE: &str = "application/vnd.directory.layout.v1+json";
/// Annotation that holds the layout.
const STAMP_KEY: &str = "directory.layout";
/// Annotation that holds the layout which an unfinished conversion leaves.
const LEAVING_KEY: &str = "directory.layout.leaving";
/// Shards of the sharded layout.
pub(crate) const SHARDS: u16 = 4096;

/// Where records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Sharded,
    Single,
}

/// The layout of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Where records are written.
    pub(crate) now: Placement,
    /// Where they may still be: a conversion is unfinished.
    pub(crate) leaving: Option<Placement>,
}

impl From<Placement> for Placed {
    fn from(now: Placement) -> Self {
        Self { now, leaving: None }
    }
}

impl Placement {
    fn parse(name: &str) -> Option<Self> {
        [Placement::Sharded, Placement::Single].into_iter().find(|p| p.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Placement::Sharded => "sharded",
            Placement::Single => "single",
        }
    }

    /// The repository of a record and of its referrers.
    pub(crate) fn repository(self, stem: &str, record: &Cid) -> String {
        match self {
            Placement::Sharded => shard_name(stem, record.shard()),
            Placement::Single => stem.to_owned(),
        }
    }
}

/// The repository of a shard.
pub(crate) fn shard_name(stem: &str, shard: u16) -> String {
    format!("{stem}-{shard:03x}")
}

/// Finds out which layout the registry has, and stamps it when nobody has.
pub(super) async fn settle(registry: &Registry, stem: &str, asked: Layout) -> Result<Placed, StoreError> {
    if let Some(stamped) = read(registry, stem).await? {
        if let Some(leaving) = stamped.leaving {
            let (to, from) = (stamped.now.name(), leaving.name());
            tracing::warn!(
                registry = %registry.name,
                repository = stem,
                "a conversion of the registry from layout {from} to {to} is unfinished: records are read from both"
            );
        }
        return check(registry, stem, asked, stamped);
    }
    let placement = match asked {
        Layout::Single => Placement::Single,
        Layout::Auto if registry.tags(stem).await?.is_empty() => Placement::Sharded,
        Layout::Auto => {
            tracing::warn!(
                registry = %registry.name,
                repository = stem,
                "the repository was filled without a layout stamp: serving it as it is, in layout single, \
                 which grows slow with the number of records; `dir-admin store reshard --to sharded` converts it while \
                 it is in use"
            );
            Placement::Single
        }
        // Records in the one repository would be lost to sight.
        Layout::Sharded if registry.tags(stem).await?.iter().any(|t| t.parse::<Cid>().is_ok()) => {
            return check(registry, stem, asked, Placement::Single.into());
        }
        Layout::Sharded => Placement::Sharded,
    };
    write(registry, stem, placement.into()).await?;
    // Somebody else may have started at the same time.
    match read(registry, stem).await? {
        Some(stamped) => check(registry, stem, asked, stamped),
        None => Ok(placement.into()),
    }
}

fn check(registry: &Registry, stem: &str, asked: Layout, found: Placed) -> Result<Placed, StoreError> {
    let asked = match asked {
        Layout::Auto => return Ok(found),
        Layout::Sharded => Placement::Sharded,
        Layout::Single => Placement::Single,
    };
    if asked == found.now {
        return Ok(found);
    }
    Err(StoreError::Layout(format!(
        "store.oci.layout is \"{asked}\", but repository {stem} of registry {} is in layout \"{found}\": set \
         store.oci.layout to \"{found}\" or \"auto\", or name another repository; served so, it is converted by \
         `dir-admin store reshard --to {asked}`",
        registry.name,
        asked = asked.name(),
        found = found.now.name(),
    )))
}

/// The stamp, if there is one.
pub(super) async fn read(registry: &Registry, stem: &str) -> Result<Option<Placed>, StoreError> {
    let Some((bytes, _)) = registry.manifest(stem, STAMP_TAG).await? else { return Ok(None) };
    let place = format!("repository {stem} of registry {}", registry.name);
    parse(&bytes, &place).map(Some)
}

/// What a stamp says; `place` names it in errors.
pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Placed, StoreError> {
    let manifest = Manifest::parse(bytes, STAMP_TAG)?;
    let known = |name: &str| {
        Placement::parse(name).ok_or_else(|| {
            StoreError::Layout(format!(
                "{place} is stamped with layout {name:?}, which this version does not know: a newer version wrote it"
            ))
        })
    };
    let leaving = Some(manifest.annotation(LEAVING_KEY)).filter(|name| !name.is_empty());
    Ok(Placed { now: known(manifest.annotation(STAMP_KEY))?, leaving: leaving.map(known).transpose()? })
}

/// The manifest of a stamp.
pub(crate) fn manifest(placed: Placed) -> Bytes {
    let blob = Cid::of(EMPTY_CONFIG_BYTES);
    let mut annotations = BTreeMap::from([(STAMP_KEY, placed.now.name())]);
    annotations.extend(placed.leaving.map(|leaving| (LEAVING_KEY, leaving.name())));
    let empty = serde_json::json!({ "mediaType": EMPTY_CONFIG, "digest": blob.oci_digest(), "size": 2 });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": STAMP_TYPE,
        "config": empty,
        "layers": [empty],
        "annotations": annotations,
    });
    Bytes::from(manifest.to_string())
}

/// Stamps the registry.
pub(super) async fn write(registry: &Registry, stem: &str, placed: Placed) -> Result<(), StoreError> {
    let (blob, bytes) = (Cid::of(EMPTY_CONFIG_BYTES), manifest(placed));
    let config = Bytes::from_static(EMPTY_CONFIG_BYTES);
    registry.upload(stem, &blob, &config).await?;
    if let ManifestPut::UnknownBlob(_) = registry.put_manifest(stem, STAMP_TAG, &bytes, MANIFEST).await? {
        registry.upload(stem, &blob, &config).await?;
        registry.put_manifest_again(stem, STAMP_TAG, &bytes, MANIFEST).await?;
    }
    Ok(())
}
