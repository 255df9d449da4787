//! The walk over a registry: shard by shard, several at once, in a fixed order.

use super::OciStore;
use super::stamp::{Placement, shard_name};
use crate::artifact::Manifest;
use dir_core::Cid;
use dir_core::store::{BoxStream, StoreError, WalkMark, Walked};
use futures::{StreamExt, stream};

/// Shards of the sharded layout.
const SHARDS: u16 = 4096;
/// Tags between two marks of the single layout.
const CHUNK: usize = 64;

type Items = Vec<Result<Walked, StoreError>>;

/// Where a walk goes on.
enum Start {
    Shard(u16),
    /// Behind this tag.
    Tag(String),
}

/// Marks look like `shard:0a3` (the last one done) and `tag:<tag>`.
fn start(placement: Placement, from: Option<WalkMark>) -> Result<Start, StoreError> {
    let Some(WalkMark(text)) = from else {
        return Ok(match placement {
            Placement::Sharded => Start::Shard(0),
            Placement::Single => Start::Tag(String::new()),
        });
    };
    let found = match placement {
        Placement::Sharded => text
            .strip_prefix("shard:")
            .and_then(|hex| u16::from_str_radix(hex, 16).ok())
            .filter(|n| *n < SHARDS)
            .map(|n| Start::Shard(n + 1)),
        Placement::Single => text.strip_prefix("tag:").map(|tag| Start::Tag(tag.to_owned())),
    };
    found.ok_or_else(|| {
        StoreError::Layout(format!(
            "walk mark {text:?} is not of this layout of the registry: walk from the start"
        ))
    })
}

/// The walk.
pub(super) fn walk(store: &OciStore, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
    let begin = async move {
        let placement = store.placement().await?;
        start(placement, from)
    };
    let walk = stream::once(begin).flat_map(move |start| match start {
        Err(e) => stream::iter([Err(e)]).boxed(),
        Ok(Start::Shard(first)) => shards(store, first),
        Ok(Start::Tag(after)) => single(store, after),
    });
    Box::pin(until_failure(walk.boxed()))
}

/// A walk that failed has no next mark: whoever wants to go on does so from the last one.
fn until_failure(
    walk: BoxStream<'_, Result<Walked, StoreError>>,
) -> impl futures::Stream<Item = Result<Walked, StoreError>> + Send + '_ {
    walk.scan(false, |failed, item| {
        let stop = *failed;
        *failed = item.is_err();
        futures::future::ready((!stop).then_some(item))
    })
}

fn shards(store: &OciStore, first: u16) -> BoxStream<'_, Result<Walked, StoreError>> {
    stream::iter(first..SHARDS)
        .map(move |shard| async move {
            let repository = shard_name(store.stem(), shard);
            let mut items = match store.registry().tags(&repository).await {
                Ok(tags) => entries(store, &repository, tags, 1).await,
                Err(e) => vec![Err(e)],
            };
            items.push(Ok(Walked::Mark(WalkMark(format!("shard:{shard:03x}")))));
            items
        })
        .buffered(store.parallel())
        .flat_map(stream::iter)
        .boxed()
}

fn single(store: &OciStore, after: String) -> BoxStream<'_, Result<Walked, StoreError>> {
    let tags = async move {
        let mut tags = store.registry().tags(store.stem()).await?;
        tags.retain(|t| *t > after);
        Ok::<_, StoreError>(tags)
    };
    stream::once(tags)
        .flat_map(move |tags| match tags {
            Err(e) => stream::iter([Err(e)]).boxed(),
            Ok(tags) => chunks(store, &tags),
        })
        .boxed()
}

fn chunks<'a>(store: &'a OciStore, tags: &[String]) -> BoxStream<'a, Result<Walked, StoreError>> {
    let chunks: Vec<Vec<String>> = tags.chunks(CHUNK).map(<[String]>::to_vec).collect();
    stream::iter(chunks)
        .then(move |chunk| async move {
            let mark = chunk.last().map(|tag| Ok(Walked::Mark(WalkMark(format!("tag:{tag}")))));
            let mut items = entries(store, store.stem(), chunk, store.parallel()).await;
            items.extend(mark);
            items
        })
        .flat_map(stream::iter)
        .boxed()
}

/// What is behind tags of one repository, in their order.
async fn entries(store: &OciStore, repository: &str, tags: Vec<String>, parallel: usize) -> Items {
    stream::iter(tags)
        .map(|tag| entry(store, repository, tag))
        .buffered(parallel)
        .filter_map(|item| async { item.transpose() })
        .collect()
        .await
}

async fn entry(store: &OciStore, repository: &str, tag: String) -> Result<Option<Walked>, StoreError> {
    let Ok(cid) = tag.parse::<Cid>() else { return Ok(Some(Walked::Other { tag })) };
    // It may have been deleted since the tags were listed.
    let Some((bytes, digest)) = store.registry().manifest(repository, &tag).await? else { return Ok(None) };
    match Manifest::parse(&bytes, &tag) {
        Ok(manifest) if manifest.is_record() => {
            Ok(Some(Walked::Record(manifest.into_stored(cid, digest.oci_digest()))))
        }
        _ => Ok(Some(Walked::Other { tag })),
    }
}
