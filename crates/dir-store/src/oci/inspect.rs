//! The inspection: what a registry holds, and what of it is not as it should be.

use super::OciStore;
use super::place::repositories;
use super::stamp::{Placed, Placement, STAMP_TAG};
use super::walk::{Item, Visit, steady, until_failure, visit};
use crate::artifact::Manifest;
use dir_core::Cid;
use dir_core::maintenance::{Depth, Finding, Inspected, Trouble};
use dir_core::oci::KEY_REFERRER_TYPE;
use dir_core::store::{BoxStream, StoreError, WalkMark};
use futures::{StreamExt, stream};

/// Looks at everything: first where records belong, then where they do not.
pub(super) fn inspect(
    store: &OciStore,
    depth: Depth,
    from: Option<WalkMark>,
) -> BoxStream<'_, Item<Inspected>> {
    let home = visit(store, from, Inspector { store, depth });
    let elsewhere = stream::once(store.placed()).flat_map(move |placed| match placed {
        Err(e) => stream::iter([Err(e)]).boxed(),
        Ok(placed) => steady(store, placed, strays(store, placed)).boxed(),
    });
    Box::pin(until_failure(home.chain(elsewhere)))
}

/// Records of a settled registry that are in repositories of the other layout.
fn strays(store: &OciStore, placed: Placed) -> BoxStream<'_, Item<Inspected>> {
    let other = match (placed.leaving, placed.now) {
        // A conversion will see them.
        (Some(_), _) => return stream::empty().boxed(),
        (None, Placement::Sharded) => Placement::Single,
        (None, Placement::Single) => Placement::Sharded,
    };
    stream::iter(repositories(other, store.stem()))
        .map(move |repository| async move {
            match store.registry().tags(&repository).await {
                Ok(tags) => misplaced(store, &repository, tags).await,
                Err(e) => vec![Err(e)],
            }
        })
        .buffered(store.parallel())
        .flat_map(stream::iter)
        .boxed()
}

async fn misplaced(store: &OciStore, repository: &str, tags: Vec<String>) -> Vec<Item<Inspected>> {
    let tags = tags.into_iter().filter(|tag| tag.parse::<Cid>().is_ok());
    stream::iter(tags)
        .map(|tag| async move {
            let Some(seen) = see(store, repository, &tag).await? else { return Ok(None) };
            if !seen.manifest.is_record() {
                return orphan(store, repository, tag, &seen).await.map(|o| o.map(Inspected::Finding));
            }
            stray(store, repository, tag, &seen).await.map(|finding| finding.map(Inspected::Finding))
        })
        .buffered(store.parallel())
        .filter_map(|item: Item<Option<Inspected>>| async { item.transpose() })
        .collect()
        .await
}

/// A manifest behind a tag.
pub(super) struct Seen {
    pub(super) digest: Cid,
    pub(super) manifest: Manifest,
}

async fn see(store: &OciStore, repository: &str, tag: &str) -> Result<Option<Seen>, StoreError> {
    let Some((bytes, digest)) = store.registry().manifest(repository, tag).await? else { return Ok(None) };
    // What cannot be read is neither a record nor a referrer.
    let manifest = Manifest::parse(&bytes, tag).unwrap_or_default();
    Ok(Some(Seen { digest, manifest }))
}

/// A record where it does not belong: `None` when it belongs there.
pub(super) async fn stray(
    store: &OciStore,
    repository: &str,
    tag: String,
    seen: &Seen,
) -> Result<Option<Finding>, StoreError> {
    let Ok(cid) = tag.parse::<Cid>() else { return Ok(None) };
    let home = store.home(&cid).await?;
    if home == repository {
        return Ok(None);
    }
    let there = store.find(&home, &cid).await?.is_some();
    let (trouble, detail) = if there {
        (Trouble::Duplicate, format!("the record is in {home} too, where it belongs"))
    } else {
        (Trouble::Stray, format!("the record belongs in {home}, where nobody finds it"))
    };
    Ok(Some(finding(trouble, repository, tag, seen, Some(cid), detail)))
}

/// A referrer by tag whose record is gone.
async fn orphan(
    store: &OciStore,
    repository: &str,
    tag: String,
    seen: &Seen,
) -> Result<Option<Finding>, StoreError> {
    let Some(subject) = &seen.manifest.subject else { return Ok(None) };
    // Referrers of others may point at anything: what is not ours is not judged.
    if seen.manifest.annotation(KEY_REFERRER_TYPE).is_empty()
        || Cid::from_oci_digest(&subject.digest).is_none()
    {
        return Ok(None);
    }
    if store.registry().manifest(repository, &subject.digest).await?.is_some() {
        return Ok(None);
    }
    let detail = format!("it refers to {}, which is gone", subject.digest);
    Ok(Some(finding(Trouble::Orphan, repository, tag, seen, None, detail)))
}

fn finding(
    trouble: Trouble,
    place: &str,
    tag: String,
    seen: &Seen,
    cid: Option<Cid>,
    detail: String,
) -> Finding {
    Finding { trouble, place: place.to_owned(), tag, manifest: seen.digest.oci_digest(), cid, detail }
}

#[derive(Clone)]
struct Inspector<'a> {
    store: &'a OciStore,
    depth: Depth,
}

impl Visit for Inspector<'_> {
    type Item = Inspected;

    async fn tags(&self, repository: &str, tags: Vec<String>, parallel: usize) -> Vec<Item<Inspected>> {
        // In sharded layout the one repository holds the stamp, and what is misplaced there is found by `strays`.
        stream::iter(tags)
            .map(|tag| self.tag(repository, tag))
            .buffered(parallel)
            .filter_map(|item| async { item.transpose() })
            .collect()
            .await
    }

    fn mark(mark: WalkMark) -> Inspected {
        Inspected::Mark(mark)
    }
}

impl Inspector<'_> {
    async fn tag(&self, repository: &str, tag: String) -> Result<Option<Inspected>, StoreError> {
        // The stamp, and lists of the referrers tag schema.
        if tag == STAMP_TAG || tag.starts_with("sha256-") {
            return Ok(None);
        }
        let Some(seen) = see(self.store, repository, &tag).await? else { return Ok(None) };
        let Ok(cid) = tag.parse::<Cid>() else {
            let detail = "the tag is no CID".to_owned();
            return Ok(Some(Inspected::Finding(finding(
                Trouble::Foreign,
                repository,
                tag,
                &seen,
                None,
                detail,
            ))));
        };
        if seen.manifest.subject.is_some() {
            let found = orphan(self.store, repository, tag, &seen).await?;
            return Ok(Some(found.map_or(Inspected::Referrer, Inspected::Finding)));
        }
        if !seen.manifest.is_record() {
            let detail = "neither a record nor a referrer".to_owned();
            return Ok(Some(Inspected::Finding(finding(
                Trouble::Foreign,
                repository,
                tag,
                &seen,
                None,
                detail,
            ))));
        }
        if self.store.placed().await?.leaving.is_none()
            && let Some(found) = stray(self.store, repository, tag.clone(), &seen).await?
        {
            return Ok(Some(Inspected::Finding(found)));
        }
        Ok(Some(match self.content(repository, &cid, &seen).await? {
            None => Inspected::Record(cid),
            Some(why) => Inspected::Finding(finding(Trouble::Broken, repository, tag, &seen, Some(cid), why)),
        }))
    }

    /// Why the content of a record is not what its tag says.
    async fn content(&self, repository: &str, cid: &Cid, seen: &Seen) -> Result<Option<String>, StoreError> {
        if let Err(error) = seen.manifest.check_record_layer(cid) {
            return Ok(Some(error.to_string()));
        }
        if self.depth == Depth::Manifests {
            return Ok(None);
        }
        Ok(match self.store.registry().blob(repository, cid).await? {
            Some(bytes) if Cid::of(&bytes) == *cid => None,
            Some(_) => Some("its content does not hash to its CID".to_owned()),
            None => Some("its content is missing".to_owned()),
        })
    }
}
