//! The conversion from one layout to the other, while reads and writes go on.
//!
//! The stamp says first that a conversion is under way: from then on new records are written where they will belong,
//! and reads look in both places. Then every record is copied, with what refers to it, byte for byte, and removed
//! from its old place; what is left there is what is left to do, so that a conversion that was cut off at any moment
//! goes on where it was. The stamp is cleared last, and not while a record is in its old place alone.
//!
//! What a large repository is asked for costs the registry a walk over all that is in it, so each thing is asked once:
//! the manifest, what refers to it, the content, and the removal. Several records are copied at once, because reads
//! share the registry's lock; then they are removed one after the other, because each removal has it alone.

use super::behind::{Behind, behind, insist};
use super::error::RegistryFault;
use super::place::repositories;
use super::stamp::{Placed, Placement};
use super::transfer::{Copied, Old};
use super::walk::until_failure;
use super::{Found, OciStore};
use crate::artifact::Manifest;
use dir_core::Cid;
use dir_core::maintenance::{Finding, Reshard, Spread, Trouble};
use dir_core::store::{BoxStream, StoreError};
use futures::{StreamExt, stream};
use std::collections::{HashMap, VecDeque};

/// Records of the one repository that are copied at once. Each costs the registry a core while it is read: the others
/// are for those who are being served.
const READS_OF_ONE: usize = 2;

type Step = Result<Reshard, StoreError>;

/// Tags to look at, by repository.
type Plan = Vec<(String, Vec<String>)>;

/// How far a conversion is.
enum Stage {
    Begin,
    /// Passes go on until one moves nothing: what was being written when the conversion began shows up late.
    Pass(Plan, usize),
    /// Removes what was copied, one record at a time.
    Clear(Plan, usize, VecDeque<Old>),
    End,
    Over,
}

/// State between two items.
struct Work<'a> {
    store: &'a OciStore,
    to: Placement,
    dry_run: bool,
    /// Where a record comes in the order of ages, as far as that is known.
    ages: HashMap<Cid, usize>,
    stage: Stage,
    moved: u64,
    /// Records that this pass could not move and that only their old place has: it is not left before they have.
    held: u64,
}

pub(super) fn reshard<'a>(
    store: &'a OciStore,
    to: Spread,
    dry_run: bool,
    ages: &[Cid],
) -> BoxStream<'a, Step> {
    let to = match to {
        Spread::Sharded => Placement::Sharded,
        Spread::Single => Placement::Single,
        Spread::Whole => {
            let refused = StoreError::Unsupported("a registry is laid out sharded or single".to_owned());
            return Box::pin(stream::iter([Err(refused)]));
        }
    };
    let ages = ages.iter().enumerate().map(|(age, cid)| (*cid, age)).collect();
    let work = Work { store, to, dry_run, ages, stage: Stage::Begin, moved: 0, held: 0 };
    let steps = stream::unfold(work, |mut work| async move {
        let items = match work.next().await {
            Ok(None) => return None,
            Ok(Some(items)) => items,
            Err(e) => {
                work.stage = Stage::Over;
                vec![Err(e)]
            }
        };
        Some((items, work))
    });
    Box::pin(until_failure(steps.flat_map(stream::iter)))
}

impl Work<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Step>>, StoreError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Ok(None),
            Stage::End => {
                if !self.dry_run {
                    self.store.arrange(Placed::from(self.to)).await?;
                }
                Ok(Some(vec![Ok(Reshard::Done)]))
            }
            Stage::Begin => {
                let placed = self.store.placed().await?;
                if placed == Placed::from(self.to) {
                    return Ok(Some(vec![Ok(Reshard::Total(0)), Ok(Reshard::Done)]));
                }
                // The other way round while one is unfinished: what has moved moves back.
                let leaving = if placed.now == self.to { placed.leaving } else { Some(placed.now) };
                let placed = Placed { now: self.to, leaving };
                if !self.dry_run {
                    self.store.arrange(placed).await?;
                }
                self.plan(leaving.unwrap_or(self.to)).await.map(Some)
            }
            Stage::Pass(plan, at) => self.pass(plan, at).await.map(Some),
            Stage::Clear(plan, at, old) => self.clear(plan, at, old).await.map(Some),
        }
    }

    /// Lists what is to be looked at.
    async fn plan(&mut self, from: Placement) -> Result<Vec<Step>, StoreError> {
        let store = self.store;
        let lists = stream::iter(repositories(from, store.stem()))
            .map(|repository| async move {
                let mut tags = store.registry().tags(&repository).await?;
                tags.retain(|tag| tag.parse::<Cid>().is_ok());
                Ok::<_, StoreError>((repository, tags))
            })
            .buffered(store.parallel());
        let mut lists = std::pin::pin!(lists);
        let mut plan = Plan::new();
        while let Some(list) = lists.next().await {
            let (repository, mut tags) = list?;
            // Registries keep what they hold in the order in which it came, and look through it from the start.
            let age = |tag: &String| tag.parse().ok().and_then(|cid: Cid| self.ages.get(&cid).copied());
            tags.sort_by_cached_key(|tag| age(tag).unwrap_or(usize::MAX));
            if !tags.is_empty() {
                plan.push((repository, tags));
            }
        }
        let total = plan.iter().map(|(_, tags)| tags.len() as u64).sum();
        (self.moved, self.held) = (0, 0);
        self.stage = Stage::Pass(plan, 0);
        Ok(vec![Ok(Reshard::Total(total))])
    }

    /// Copies one batch of one repository.
    async fn pass(&mut self, mut plan: Plan, at: usize) -> Result<Vec<Step>, StoreError> {
        let store = self.store;
        let Some((repository, tags)) = plan.get_mut(at) else {
            // Nothing has moved in this pass: nothing is left. A dry run sees the same things again.
            let again = self.moved > 0 && !self.dry_run;
            let leaving = store.placed().await?.leaving;
            if let Some(leaving) = leaving.filter(|_| again) {
                return self.plan(leaving).await;
            }
            // What stays is found as long as the conversion is unfinished.
            self.stage = if self.held > 0 { Stage::Over } else { Stage::End };
            return Ok(Vec::new());
        };
        let rest = tags.split_off(tags.len().min(store.parallel()));
        let batch = std::mem::replace(tags, rest);
        let (dry_run, to, place) = (self.dry_run, self.to, repository.clone());
        let reads = if place == store.stem() { READS_OF_ONE.min(store.parallel()) } else { store.parallel() };
        let looked = stream::iter(batch).map(|tag| one(store, &place, tag, to, dry_run)).buffered(reads);
        let looked: Vec<_> = looked.collect().await;
        let (mut steps, mut old) = (Vec::with_capacity(looked.len()), VecDeque::new());
        for looked in looked {
            match looked {
                Ok(Looked::Said(step)) => {
                    self.moved += u64::from(matches!(step, Reshard::Moved(..)));
                    self.held += u64::from(holds(&step));
                    steps.push(Ok(step));
                }
                Ok(Looked::Dropped) => {
                    self.moved += 1;
                    steps.push(Ok(Reshard::Passed));
                }
                Ok(Looked::Copied(copied)) => old.push_back(copied),
                Err(error) => steps.push(Err(error)),
            }
        }
        self.stage = Stage::Clear(plan, at, old);
        // An error is the last item: what was copied before it is copied, and removed the next time.
        Ok(steps)
    }

    /// Removes one record from its old place.
    async fn clear(
        &mut self,
        plan: Plan,
        at: usize,
        mut old: VecDeque<Old>,
    ) -> Result<Vec<Step>, StoreError> {
        let (Some(one), Some((place, _))) = (old.pop_front(), plan.get(at)) else {
            let done = plan.get(at).is_none_or(|(_, tags)| tags.is_empty());
            self.stage = Stage::Pass(plan, if done { at + 1 } else { at });
            return Ok(Vec::new());
        };
        let _alone = self.store.exclusive(&one.cid).await;
        self.store.clear(place, &one).await?;
        self.moved += 1;
        let step = Reshard::Moved(one.cid, one.attached.len() as u64);
        self.stage = Stage::Clear(plan, at, old);
        Ok(vec![Ok(step)])
    }
}

/// What came of looking at one tag.
enum Looked {
    Said(Reshard),
    Copied(Old),
    /// A tag without a manifest is gone, and what it kept from moving moves in the next pass.
    Dropped,
}

/// One tag of a repository that is left.
async fn one(
    store: &OciStore,
    place: &str,
    tag: String,
    to: Placement,
    dry_run: bool,
) -> Result<Looked, StoreError> {
    let Ok(cid) = tag.parse::<Cid>() else { return Ok(Looked::Said(Reshard::Passed)) };
    let _alone = store.exclusive(&cid).await;
    let home = to.repository(store.stem(), &cid);
    let left = |trouble, manifest, detail| {
        let (place, tag) = (place.to_owned(), tag.clone());
        Ok(Looked::Said(Reshard::Left(Finding { trouble, place, tag, manifest, cid: Some(cid), detail })))
    };
    let Some((_, behind)) = behind(store, place, vec![tag.clone()], 1).await.pop() else {
        return Ok(Looked::Said(Reshard::Passed));
    };
    let behind = behind?;
    if let Some(why) = behind.trouble() {
        if matches!(behind, Behind::Missing) && !dry_run && store.drop_lost_tag(place, &home, &cid).await? {
            return Ok(Looked::Dropped);
        }
        return left(Trouble::Broken, String::new(), why);
    }
    let Behind::Manifest(bytes, digest) = behind else { return Ok(Looked::Said(Reshard::Passed)) };
    let manifest = match Manifest::parse(&bytes, &tag) {
        Ok(manifest) if manifest.is_record() => manifest,
        Ok(_) => return Ok(Looked::Said(Reshard::Passed)),
        Err(error) => return left(Trouble::Broken, digest.oci_digest(), error.to_string()),
    };
    if dry_run {
        return Ok(Looked::Said(Reshard::Moved(cid, 0)));
    }
    let found = Found { bytes, digest, manifest };
    match store.copy(place, &home, &cid, &found).await {
        Ok(Copied::Both(old)) => Ok(Looked::Copied(old)),
        Ok(Copied::Left(trouble, detail)) => left(trouble, digest.oci_digest(), detail),
        Err(error) => {
            left(Trouble::Broken, digest.oci_digest(), immovable(store, place, &digest, error).await?)
        }
    }
}

/// Why a record cannot be moved although the registry answers; any other error is given back.
async fn immovable(
    store: &OciStore,
    place: &str,
    digest: &Cid,
    error: StoreError,
) -> Result<String, StoreError> {
    match (&error, RegistryFault::of(&error)) {
        // Moved without what refers to it, it would lose that. Or that is damaged itself.
        (_, Some(RegistryFault::Unlisted(_))) | (StoreError::BadManifest(_), _) => Ok(error.to_string()),
        (_, Some(fault)) if fault.is_its_own() => {
            let subject = digest.oci_digest();
            let listed = insist(store, || store.registry().descriptors(place, &subject)).await?;
            let lists = |why| format!("what refers to it cannot be listed: {why}");
            listed.err().map(lists).ok_or(error)
        }
        _ => Err(error),
    }
}

/// Whether a step leaves a record in its old place alone.
fn holds(step: &Reshard) -> bool {
    // A duplicate is in its new place too.
    matches!(step, Reshard::Left(finding) if finding.trouble == Trouble::Broken)
}
