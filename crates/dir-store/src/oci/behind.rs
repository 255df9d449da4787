//! What is behind tags that a registry lists, when it cannot give all of it.
//!
//! A manifest that is missing or damaged must neither end a job nor be passed by, and an outage or a deletion must not
//! look like one: what fails is asked for again, and counts as damaged only while the registry gives out something
//! else; what is not there counts as missing only when its tag is listed after that was said.

use super::OciStore;
use super::error::RegistryFault;
use super::stamp;
use super::walk::Item;
use bytes::Bytes;
use dir_core::Cid;
use dir_core::store::StoreError;
use futures::{StreamExt, stream};
use std::collections::HashSet;
use std::time::Duration;

/// Waits before the second and third time that something is asked for.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// What is behind a tag that was listed.
pub(super) enum Behind {
    /// A manifest, with its digest.
    Manifest(Bytes, Cid),
    /// Nothing, and the tag is not listed any more.
    Gone,
    /// Nothing, and the tag is listed.
    Missing,
    /// Something that the registry fails to read.
    Unreadable(String),
}

impl Behind {
    /// Why there is no manifest behind a tag that is there.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Behind::Manifest(..) | Behind::Gone => None,
            Behind::Missing => Some("its manifest is missing".to_owned()),
            Behind::Unreadable(why) => Some(format!("its manifest cannot be read: {why}")),
        }
    }
}

/// Looks behind tags of one repository, in their order.
pub(super) async fn behind(
    store: &OciStore,
    repository: &str,
    tags: Vec<String>,
    parallel: usize,
) -> Vec<(String, Item<Behind>)> {
    let mut looked = look(store, repository, tags, parallel).await;
    let missing = |(_, item): &(String, Item<Behind>)| matches!(item, Ok(Behind::Missing));
    if !looked.iter().any(missing) {
        return looked;
    }
    // They may have been deleted since the tags were listed.
    let listed: HashSet<String> = match store.registry().tags(repository).await {
        Ok(tags) => tags.into_iter().collect(),
        Err(error) => {
            if let Some(first) = looked.iter_mut().find(|one| missing(one)) {
                first.1 = Err(error);
            }
            return looked;
        }
    };
    let again = looked.iter().filter(|one| missing(one) && listed.contains(&one.0));
    let again = again.map(|(tag, _)| tag.clone()).collect();
    // Or deleted and pushed anew.
    let mut again = look(store, repository, again, parallel).await.into_iter();
    for one in looked.iter_mut().filter(|one| missing(one)) {
        one.1 = if listed.contains(&one.0) {
            again.next().map_or(Ok(Behind::Gone), |(_, item)| item)
        } else {
            Ok(Behind::Gone)
        };
    }
    looked
}

async fn look(
    store: &OciStore,
    repository: &str,
    tags: Vec<String>,
    parallel: usize,
) -> Vec<(String, Item<Behind>)> {
    stream::iter(tags)
        .map(|tag| async move {
            let found = insist(store, || store.registry().manifest(repository, &tag)).await;
            let item = found.map(|found| match found {
                Ok(Some((bytes, digest))) => Behind::Manifest(bytes, digest),
                Ok(None) => Behind::Missing,
                Err(why) => Behind::Unreadable(why),
            });
            (tag, item)
        })
        .buffered(parallel.max(1))
        .collect()
        .await
}

/// Asks again when the registry fails. The inner error is of a registry that goes on failing at this one thing, while
/// it gives out its stamp: what was asked for is damaged.
pub(super) async fn insist<T, F>(
    store: &OciStore,
    ask: impl Fn() -> F,
) -> Result<Result<T, String>, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let failed = |error: &StoreError| RegistryFault::of(error).is_some_and(RegistryFault::is_its_own);
    for pause in PAUSES {
        match ask().await {
            Err(error) if failed(&error) => {
                tracing::debug!(%error, "asking again");
                tokio::time::sleep(pause).await;
            }
            done => return done.map(Ok),
        }
    }
    let error = match ask().await {
        Err(error) if failed(&error) => error,
        done => return done.map(Ok),
    };
    if !matches!(stamp::read(store.registry(), store.stem()).await, Ok(Some(_))) {
        return Err(error);
    }
    // Whatever kept it from answering may have ended just now.
    match ask().await {
        Err(error) if failed(&error) => {
            Ok(Err(RegistryFault::of(&error).map_or_else(|| error.to_string(), ToString::to_string)))
        }
        done => done.map(Ok),
    }
}

/// The error of somebody who waits, or [`StoreError::BadManifest`] when the registry goes on failing at this while it
/// gives out its stamp: asking again does not help then.
pub(super) async fn judged<T, F>(store: &OciStore, error: StoreError, ask: impl Fn() -> F) -> StoreError
where
    F: Future<Output = Result<T, StoreError>>,
{
    let failed = |error: &StoreError| RegistryFault::of(error).is_some_and(RegistryFault::is_its_own);
    // An outage costs one more question.
    if !failed(&error) || !matches!(stamp::read(store.registry(), store.stem()).await, Ok(Some(_))) {
        return error;
    }
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        if !ask().await.is_err_and(|again| failed(&again)) {
            return error;
        }
    }
    StoreError::BadManifest(format!(
        "{error}; the registry answers otherwise, so that this manifest is damaged"
    ))
}
