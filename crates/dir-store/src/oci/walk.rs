//! The walk over a registry: shard by shard, several at once, in a fixed order.
//!
//! While a conversion is unfinished, the layout that is left comes first: what is moved behind the walk's back is
//! seen before, and what is moved ahead of it is seen where it has gone.

use super::OciStore;
use super::behind::{Behind, behind};
use super::place::repositories;
use super::stamp::{Placed, Placement, SHARDS, shard_name};
use crate::artifact::Manifest;
use dir_core::Cid;
use dir_core::store::{BoxStream, StoreError, WalkMark, Walked};
use futures::{Stream, StreamExt, stream};

/// Tags between two marks of one repository.
pub(super) const CHUNK: usize = 64;

/// One item of a walk.
pub(super) type Item<T> = Result<T, StoreError>;

/// What is done with the tags of one repository.
pub(super) trait Visit: Clone + Send + Sync {
    type Item: Send;

    /// Looks behind tags, at several at once if it likes, in their order.
    fn tags(
        &self,
        repository: &str,
        tags: Vec<String>,
        parallel: usize,
    ) -> impl Future<Output = Vec<Item<Self::Item>>> + Send;

    /// The mark as an item.
    fn mark(mark: WalkMark) -> Self::Item;
}

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Beginning,
    /// With this shard.
    Shard(u16),
    /// Behind this tag of the one repository.
    Tag(String),
}

/// Marks look like `shard:0a3` (the last one done) and `tag:<tag>`.
fn start(from: Option<WalkMark>) -> Result<Start, StoreError> {
    let Some(WalkMark(text)) = from else { return Ok(Start::Beginning) };
    let shard = text.strip_prefix("shard:").and_then(|hex| u16::from_str_radix(hex, 16).ok());
    match (shard.filter(|n| *n < SHARDS), text.strip_prefix("tag:")) {
        (Some(done), _) => Ok(Start::Shard(done + 1)),
        (None, Some(tag)) => Ok(Start::Tag(tag.to_owned())),
        (None, None) => {
            Err(StoreError::Layout(format!("walk mark {text:?} is not of a registry: walk from the start")))
        }
    }
}

/// The layouts to walk, each with where to begin. A mark says where to go on in its own layout; any other is walked
/// whole, because records may have moved there since.
fn parts(placed: Placed, start: &Start) -> Vec<(Placement, Start)> {
    let marked = match start {
        Start::Beginning => None,
        Start::Shard(_) => Some(Placement::Sharded),
        Start::Tag(_) => Some(Placement::Single),
    };
    let order = placed.leaving.into_iter().chain([placed.now]);
    order.map(|part| (part, if marked == Some(part) { start.clone() } else { Start::Beginning })).collect()
}

/// Visits every repository of the layout. Fails when the layout changes meanwhile, and ends with its first error: it
/// has no next mark.
pub(super) fn visit<'a, V: Visit + 'a>(
    store: &'a OciStore,
    from: Option<WalkMark>,
    visitor: V,
) -> BoxStream<'a, Item<V::Item>> {
    let begin = async move { Ok::<_, StoreError>((store.placed().await?, start(from)?)) };
    let walk = stream::once(begin).flat_map(move |begun| match begun {
        Err(e) => stream::iter([Err(e)]).boxed(),
        Ok((placed, start)) => {
            let visitor = visitor.clone();
            let parts = stream::iter(parts(placed, &start)).flat_map(move |(part, start)| {
                let visitor = visitor.clone();
                match (part, start) {
                    (Placement::Sharded, Start::Shard(first)) => shards(store, first, visitor),
                    (Placement::Sharded, _) => shards(store, 0, visitor),
                    (Placement::Single, Start::Tag(after)) => single(store, after, visitor),
                    (Placement::Single, _) => single(store, String::new(), visitor),
                }
            });
            steady(store, placed, parts).boxed()
        }
    });
    Box::pin(until_failure(walk))
}

/// Items of a walk as long as the layout is the one that it began in.
pub(super) fn steady<'a, T: Send + 'a>(
    store: &'a OciStore,
    begun: Placed,
    items: impl Stream<Item = Item<T>> + Send + 'a,
) -> impl Stream<Item = Item<T>> + Send + 'a {
    let end = stream::once(async move { store.unchanged(begun) });
    let items = items.map(move |item| item.and_then(|item| store.unchanged(begun).map(|()| item)));
    items
        .map(|item| item.map(Some))
        .chain(end.map(|end| end.map(|()| None)))
        .filter_map(|item| async { item.transpose() })
}

/// A walk that failed has no next mark: whoever wants to go on does so from the last one.
pub(super) fn until_failure<'a, T: Send + 'a>(
    walk: impl Stream<Item = Item<T>> + Send + 'a,
) -> impl Stream<Item = Item<T>> + Send + 'a {
    walk.scan(false, |failed, item| {
        let stop = *failed;
        *failed = item.is_err();
        futures::future::ready((!stop).then_some(item))
    })
}

fn shards<'a, V: Visit + 'a>(store: &'a OciStore, first: u16, visitor: V) -> BoxStream<'a, Item<V::Item>> {
    stream::iter(first..SHARDS)
        .map(move |shard| {
            let visitor = visitor.clone();
            async move {
                let repository = shard_name(store.stem(), shard);
                let mut items = Vec::new();
                match store.registry().tags(&repository).await {
                    Ok(tags) => {
                        for chunk in tags.chunks(CHUNK) {
                            items.extend(visitor.tags(&repository, chunk.to_vec(), 1).await);
                        }
                    }
                    Err(e) => items.push(Err(e)),
                }
                items.push(Ok(V::mark(WalkMark(format!("shard:{shard:03x}")))));
                items
            }
        })
        .buffered(store.parallel())
        .flat_map(stream::iter)
        .boxed()
}

fn single<'a, V: Visit + 'a>(store: &'a OciStore, after: String, visitor: V) -> BoxStream<'a, Item<V::Item>> {
    let tags = async move {
        let mut tags = store.registry().tags(store.stem()).await?;
        tags.retain(|t| *t > after);
        Ok::<_, StoreError>(tags)
    };
    stream::once(tags)
        .flat_map(move |tags| match tags {
            Err(e) => stream::iter([Err(e)]).boxed(),
            Ok(tags) => chunks(store, &tags, visitor.clone()),
        })
        .boxed()
}

fn chunks<'a, V: Visit + 'a>(
    store: &'a OciStore,
    tags: &[String],
    visitor: V,
) -> BoxStream<'a, Item<V::Item>> {
    let chunks: Vec<Vec<String>> = tags.chunks(CHUNK).map(<[String]>::to_vec).collect();
    stream::iter(chunks)
        .then(move |chunk| {
            let visitor = visitor.clone();
            async move {
                let mark = chunk.last().map(|tag| Ok(V::mark(WalkMark(format!("tag:{tag}")))));
                let mut items = visitor.tags(store.stem(), chunk, store.parallel()).await;
                items.extend(mark);
                items
            }
        })
        .flat_map(stream::iter)
        .boxed()
}

/// The walk of a rebuild.
pub(super) fn walk(store: &OciStore, from: Option<WalkMark>) -> BoxStream<'_, Item<Walked>> {
    visit(store, from, Records(store))
}

#[derive(Clone)]
struct Records<'a>(&'a OciStore);

impl Visit for Records<'_> {
    type Item = Walked;

    async fn tags(&self, repository: &str, tags: Vec<String>, parallel: usize) -> Vec<Item<Walked>> {
        let (names, others): (Vec<_>, Vec<_>) = tags.into_iter().partition(|tag| tag.parse::<Cid>().is_ok());
        let looked = behind(self.0, repository, names, parallel).await;
        let others = others.into_iter().map(|tag| Ok(Walked::Other { tag }));
        others
            .chain(looked.into_iter().filter_map(|(tag, item)| entry(repository, tag, item).transpose()))
            .collect()
    }

    fn mark(mark: WalkMark) -> Walked {
        Walked::Mark(mark)
    }
}

/// What a walk says of one tag; `None` when it was deleted since the tags were listed.
fn entry(repository: &str, tag: String, item: Item<Behind>) -> Item<Option<Walked>> {
    let behind = item?;
    let Ok(cid) = tag.parse::<Cid>() else { return Ok(Some(Walked::Other { tag })) };
    let unreadable = |why: &str| Walked::Unreadable { cid, why: format!("repository {repository}: {why}") };
    if let Some(why) = behind.trouble() {
        return Ok(Some(unreadable(&why)));
    }
    let Behind::Manifest(bytes, digest) = behind else { return Ok(None) };
    Ok(Some(match Manifest::parse(&bytes, &tag) {
        Ok(manifest) if manifest.is_record() => {
            Walked::Record(manifest.into_stored(cid, digest.oci_digest()))
        }
        Ok(_) => Walked::Other { tag },
        Err(error) => unreadable(&error.to_string()),
    }))
}

/// Every CID that is a tag, repository by repository, from listings alone. A tag whose manifest is missing is a name
/// like any other: damage is no deletion, and must not take a row out of the index; the inspection finds it.
pub(super) fn names(store: &OciStore) -> BoxStream<'_, Item<Vec<Cid>>> {
    let begin = stream::once(store.placed()).flat_map(move |placed| match placed {
        Err(e) => stream::iter([Err(e)]).boxed(),
        Ok(placed) => {
            let order = placed.leaving.into_iter().chain([placed.now]);
            let all: Vec<String> = order.flat_map(|part| repositories(part, store.stem())).collect();
            let lists = stream::iter(all)
                .map(move |repository| async move {
                    let tags = store.registry().tags(&repository).await?;
                    Ok(tags.iter().filter_map(|tag| tag.parse().ok()).collect())
                })
                .buffered(store.parallel());
            steady(store, placed, lists).boxed()
        }
    });
    Box::pin(until_failure(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_on_wherever_the_layout_has_gone() {
        let (sharded, single) = (Placement::Sharded, Placement::Single);
        let placed = |now, leaving| Placed { now, leaving };
        let (shard, tag) = (Start::Shard(7), Start::Tag("t".into()));
        let cases = [
            (placed(sharded, None), Start::Beginning, vec![(sharded, Start::Beginning)]),
            (placed(sharded, None), shard.clone(), vec![(sharded, shard.clone())]),
            // Everything behind the mark has moved: all shards.
            (placed(sharded, None), tag.clone(), vec![(sharded, Start::Beginning)]),
            (placed(single, None), shard.clone(), vec![(single, Start::Beginning)]),
            (placed(sharded, Some(single)), tag.clone(), vec![(single, tag), (sharded, Start::Beginning)]),
            (
                placed(sharded, Some(single)),
                shard.clone(),
                vec![(single, Start::Beginning), (sharded, shard.clone())],
            ),
            (
                placed(single, Some(sharded)),
                shard.clone(),
                vec![(sharded, shard), (single, Start::Beginning)],
            ),
        ];
        for (placed, from, expected) in cases {
            assert_eq!(parts(placed, &from), expected, "{placed:?} from {from:?}");
        }
    }
}
