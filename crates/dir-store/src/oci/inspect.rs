//! The inspection: what a registry holds, and what of it is not as it should be.

use super::OciStore;
use super::behind::{Behind, behind, insist};
use super::place::repositories;
use super::stamp::{Placed, Placement, STAMP_TAG};
use super::walk::{CHUNK, Item, Visit, steady, until_failure, visit};
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
    let tags: Vec<String> = tags.into_iter().filter(|tag| tag.parse::<Cid>().is_ok()).collect();
    let mut out = Vec::new();
    for chunk in tags.chunks(CHUNK) {
        let looked = behind(store, repository, chunk.to_vec(), store.parallel()).await;
        let items = stream::iter(looked)
            .map(|(tag, item)| async move {
                Ok(match seen(repository, &tag, item?) {
                    Ok(None) => None,
                    Err(broken) => Some(Inspected::Finding(*broken)),
                    Ok(Some(seen)) if seen.manifest.is_record() => {
                        stray(store, repository, tag, &seen).await?.map(Inspected::Finding)
                    }
                    Ok(Some(seen)) => orphan(store, repository, tag, &seen).await?.map(Inspected::Finding),
                })
            })
            .buffered(store.parallel())
            .filter_map(|item: Item<Option<Inspected>>| async { item.transpose() });
        out.extend(items.collect::<Vec<_>>().await);
    }
    out
}

/// A manifest behind a tag.
pub(super) struct Seen {
    pub(super) digest: Cid,
    pub(super) manifest: Manifest,
}

/// The manifest behind a tag, `None` when the tag is gone by now, or what is wrong with it.
fn seen(repository: &str, tag: &str, behind: Behind) -> Result<Option<Seen>, Box<Finding>> {
    let cid = tag.parse::<Cid>().ok();
    let broken = |manifest, detail| {
        let (place, tag) = (repository.to_owned(), tag.to_owned());
        Box::new(Finding { trouble: Trouble::Broken, place, tag, manifest, cid, detail })
    };
    if let Some(why) = behind.trouble() {
        return Err(broken(String::new(), why));
    }
    let Behind::Manifest(bytes, digest) = behind else { return Ok(None) };
    match Manifest::parse(&bytes, tag) {
        Ok(manifest) => Ok(Some(Seen { digest, manifest })),
        Err(error) if cid.is_some() => Err(broken(digest.oci_digest(), error.to_string())),
        // Others may keep what they like under tags of their own.
        Err(_) => Ok(Some(Seen { digest, manifest: Manifest::default() })),
    }
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
    // What is damaged there is found there.
    let Ok(there) = insist(store, || store.find(&home, &cid)).await? else { return Ok(None) };
    let there = there.is_some();
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
    let there = insist(store, || store.registry().manifest(repository, &subject.digest)).await;
    match there {
        Ok(Ok(None)) => {}
        // One that is damaged is found by its own tag.
        Ok(Ok(Some(_)) | Err(_)) | Err(StoreError::BadManifest(_)) => return Ok(None),
        Err(error) => return Err(error),
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
        // The stamp and lists of the referrers tag schema are passed by.
        let tags = tags.into_iter().filter(|tag| tag != STAMP_TAG && !tag.starts_with("sha256-"));
        let looked = behind(self.store, repository, tags.collect(), parallel).await;
        stream::iter(looked)
            .map(|(tag, item)| self.tag(repository, tag, item))
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
    async fn tag(&self, repository: &str, tag: String, item: Item<Behind>) -> Item<Option<Inspected>> {
        let seen = match seen(repository, &tag, item?) {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(None),
            Err(broken) => return Ok(Some(Inspected::Finding(*broken))),
        };
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
