//! The conversion of a directory's layout.
//!
//! As online, the stamp says first that a conversion is under way: a server that is started before its end reads from
//! both places. Then every repository of the new layout gets its records, with what refers to them, as hard links,
//! and an `index.json` that names them. Only when all of them are durable do the old places forget what has moved.
//! Every file appears whole or not at all, and whatever is there already is as it should be: a conversion that was cut
//! off at any moment is run again.

use super::guard::{self, Lock};
use super::repo::{Entry, Owner, Repo, content};
use super::{DataDirStore, State};
use crate::oci::stamp::{self, Placed, Placement, STAMP_TAG};
use dir_core::Cid;
use dir_core::maintenance::{Finding, Reshard, Spread, Trouble};
use dir_core::oci::EMPTY_CONFIG_BYTES;
use dir_core::store::{BoxStream, StoreError};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};

type Step = Result<Reshard, StoreError>;

/// Records that are moved between two chances for others to run.
const BATCH: usize = 256;

/// One record with everything that refers to it.
struct Unit {
    cid: Cid,
    manifest: Cid,
    /// The repository that it leaves.
    from: String,
    entries: Vec<Entry>,
    blobs: HashSet<Cid>,
}

/// Records for one repository.
struct Batch {
    home: String,
    units: Vec<Unit>,
    /// Nothing more comes for it.
    last: bool,
}

/// How far a conversion is.
enum Stage {
    Begin,
    Move(std::vec::IntoIter<Batch>),
    Over,
}

/// State between two items.
struct Work<'a> {
    store: &'a DataDirStore,
    to: Placement,
    dry_run: bool,
    stage: Stage,
    lock: Option<Lock>,
    /// What has moved: entries and blobs, by the repository that they leave.
    moved: BTreeMap<String, (Vec<Entry>, HashSet<Cid>)>,
}

pub(super) fn reshard(store: &DataDirStore, to: Spread, dry_run: bool) -> BoxStream<'_, Step> {
    let to = match to {
        Spread::Sharded => Placement::Sharded,
        Spread::Single => Placement::Single,
        Spread::Whole => {
            let refused = StoreError::Unsupported("a registry is laid out sharded or single".to_owned());
            return Box::pin(stream::iter([Err(refused)]));
        }
    };
    let work = Work { store, to, dry_run, stage: Stage::Begin, lock: None, moved: BTreeMap::new() };
    let steps = stream::unfold(work, |mut work| async move {
        tokio::task::yield_now().await;
        let items = match work.next() {
            Ok(None) => return None,
            Ok(Some(items)) => items,
            Err(e) => vec![Err(e)],
        };
        Some((items, work))
    });
    Box::pin(steps.flat_map(stream::iter))
}

impl Work<'_> {
    /// The next steps; an error is the last.
    fn next(&mut self) -> Result<Option<Vec<Step>>, StoreError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Ok(None),
            Stage::Begin => self.begin().map(Some),
            Stage::Move(mut batches) => {
                let Some(batch) = batches.next() else {
                    if !self.dry_run {
                        self.settle()?;
                    }
                    return Ok(Some(vec![Ok(Reshard::Done)]));
                };
                let steps = self.batch(batch)?;
                self.stage = Stage::Move(batches);
                Ok(Some(steps))
            }
        }
    }

    fn begin(&mut self) -> Result<Vec<Step>, StoreError> {
        let mut state = self.store.state.lock();
        // An attempt that failed has left something half done in memory.
        *state = State::read(&self.store.config)?;
        if state.placed == Placed::from(self.to) {
            return Ok(vec![Ok(Reshard::Total(0)), Ok(Reshard::Done)]);
        }
        // The other way round while one is unfinished: what has moved moves back.
        let leaving = if state.placed.now == self.to { state.placed.leaving } else { Some(state.placed.now) };
        let (batches, broken) = self.store.batches(&state, leaving.unwrap_or(self.to), self.to)?;
        let total = batches.iter().map(|batch| batch.units.len() as u64).sum::<u64>() + broken.len() as u64;
        if !self.dry_run {
            guard::refuse_running(&self.store.config.root)?;
            self.lock = Some(Lock::take(&self.store.config.root)?);
            self.store.arrange(&mut state, Placed { now: self.to, leaving })?;
        }
        self.stage = Stage::Move(batches.into_iter());
        let broken = broken.into_iter().map(Reshard::Left);
        Ok(std::iter::once(Reshard::Total(total)).chain(broken).map(Ok).collect())
    }

    fn batch(&mut self, batch: Batch) -> Result<Vec<Step>, StoreError> {
        let mut state = self.store.state.lock();
        let owner = self.store.owner(&state)?;
        let root = &self.store.config.root;
        let mut home = state.repos.remove(&batch.home).unwrap_or_else(|| Repo::absent(root, &batch.home));
        if !self.dry_run {
            home.prepare(&owner)?;
        }
        let mut tags: HashMap<String, Cid> =
            home.entries.iter().filter(|e| !e.tag.is_empty()).map(|e| (e.tag.clone(), e.digest)).collect();
        let mut there: HashSet<(Cid, String)> =
            home.entries.iter().map(|e| (e.digest, e.tag.clone())).collect();
        let mut steps = Vec::with_capacity(batch.units.len());
        for unit in batch.units {
            let other = tags.get(&unit.cid.to_string()).is_some_and(|digest| *digest != unit.manifest);
            if let Some(finding) = obstacle(&state, &home, &unit, other) {
                steps.push(Ok(Reshard::Left(finding)));
                continue;
            }
            let referrers = unit.entries.len() as u64 - 1;
            // Another manifest of the same record is as good as this one.
            if !other && !self.dry_run {
                let from = state.repos.get(&unit.from).ok_or(StoreError::NotFound(unit.cid))?;
                unit.blobs.iter().try_for_each(|blob| home.link(from, blob, &owner))?;
                for entry in &unit.entries {
                    if there.insert((entry.digest, entry.tag.clone())) {
                        tags.insert(entry.tag.clone(), entry.digest);
                        home.entries.push(entry.clone());
                    }
                }
            }
            let (entries, blobs) = self.moved.entry(unit.from).or_default();
            entries.extend(unit.entries);
            blobs.extend(unit.blobs);
            steps.push(Ok(Reshard::Moved(unit.cid, referrers)));
        }
        if batch.last && !self.dry_run {
            home.write(&owner)?;
        }
        state.repos.insert(batch.home, home);
        Ok(steps)
    }

    /// Everything is in its new place: the old ones forget it, then the stamp says so.
    fn settle(&mut self) -> Result<(), StoreError> {
        let mut state = self.store.state.lock();
        let owner = self.store.owner(&state)?;
        for (name, (entries, blobs)) in &self.moved {
            let Some(repo) = state.repos.get_mut(name) else { continue };
            let gone: HashSet<(Cid, &str)> = entries.iter().map(|e| (e.digest, e.tag.as_str())).collect();
            repo.entries.retain(|entry| !gone.contains(&(entry.digest, entry.tag.as_str())));
            repo.write(&owner)?;
            repo.drop_blobs(blobs, &self.store.config.limits)?;
        }
        self.store.arrange(&mut state, self.to.into())?;
        let stem = self.store.stem();
        let left: Vec<String> = self.moved.keys().filter(|name| *name != stem).cloned().collect();
        for name in left {
            if let Some(repo) = state.repos.get(&name) {
                repo.remove_if_empty();
                if repo.entries.is_empty() {
                    state.repos.remove(&name);
                }
            }
        }
        state.note_records();
        Ok(())
    }
}

/// Why a record stays where it is.
fn obstacle(state: &State, home: &Repo, unit: &Unit, other: bool) -> Option<Finding> {
    let from = state.repos.get(&unit.from)?;
    let (trouble, detail) = if other && unit.entries.len() > 1 {
        let why = "has another manifest of this record, and this one has referrers of its own";
        (Trouble::Duplicate, format!("{} {why}", home.name))
    } else {
        let missing = unit.blobs.iter().find(|blob| !from.has_blob(blob) && !home.has_blob(blob))?;
        (Trouble::Broken, format!("blob {} is missing", missing.oci_digest()))
    };
    Some(Finding {
        trouble,
        place: unit.from.clone(),
        tag: unit.cid.to_string(),
        manifest: unit.manifest.oci_digest(),
        cid: Some(unit.cid),
        detail,
    })
}

impl DataDirStore {
    /// New files belong to whom the old ones belong.
    fn owner(&self, state: &State) -> Result<Owner, StoreError> {
        let known = state.repos.get(self.stem()).or_else(|| state.repos.values().next());
        known.ok_or_else(|| StoreError::Layout("the directory holds no repository".to_owned()))?.owner()
    }

    /// Writes the stamp.
    fn arrange(&self, state: &mut State, placed: Placed) -> Result<(), StoreError> {
        let owner = self.owner(state)?;
        let stem = self.stem().to_owned();
        let repo = state.repos.entry(stem).or_insert_with(|| Repo::absent(&self.config.root, self.stem()));
        let manifest = stamp::manifest(placed);
        repo.prepare(&owner)?;
        repo.write_blob(EMPTY_CONFIG_BYTES, &owner)?;
        repo.write_blob(&manifest, &owner)?;
        repo.entries.retain(|entry| entry.tag != STAMP_TAG);
        repo.entries.push(Entry::of(&manifest, STAMP_TAG));
        repo.write(&owner)?;
        state.placed = placed;
        Ok(())
    }

    /// Every record of the repositories that are left, by the repository it goes to, and what cannot be read.
    fn batches(
        &self,
        state: &State,
        from: Placement,
        to: Placement,
    ) -> Result<(Vec<Batch>, Vec<Finding>), StoreError> {
        let mut homes: BTreeMap<String, Vec<Unit>> = BTreeMap::new();
        let mut broken = Vec::new();
        for name in crate::oci::place::repositories(from, self.stem()) {
            let Some(repo) = state.repos.get(&name) else { continue };
            for unit in self.units(repo, &mut broken)? {
                homes.entry(to.repository(self.stem(), &unit.cid)).or_default().push(unit);
            }
        }
        let mut batches = Vec::new();
        for (home, mut units) in homes {
            while units.len() > BATCH {
                let rest = units.split_off(BATCH);
                let part = std::mem::replace(&mut units, rest);
                batches.push(Batch { home: home.clone(), units: part, last: false });
            }
            batches.push(Batch { home, units, last: true });
        }
        Ok((batches, broken))
    }

    /// The records of a repository, each with its referrers, tagged or not.
    fn units(&self, repo: &Repo, broken: &mut Vec<Finding>) -> Result<Vec<Unit>, StoreError> {
        let mut units = Vec::new();
        let mut by_manifest: HashMap<Cid, usize> = HashMap::new();
        let mut referrers = Vec::new();
        for entry in &repo.entries {
            let manifest = match repo.examine(&entry.digest, &entry.tag, &self.config.limits)? {
                Ok(manifest) => manifest,
                Err(detail) => {
                    broken.push(Finding {
                        trouble: Trouble::Broken,
                        place: repo.name.clone(),
                        tag: entry.tag.clone(),
                        manifest: entry.digest.oci_digest(),
                        cid: entry.tag.parse().ok(),
                        detail,
                    });
                    continue;
                }
            };
            let blobs: HashSet<Cid> = content(&manifest).chain([entry.digest]).collect();
            if let Some(subject) = &manifest.subject {
                referrers.push((Cid::from_oci_digest(&subject.digest), entry, blobs));
                continue;
            }
            let Some(cid) = entry.tag.parse::<Cid>().ok().filter(|_| manifest.is_record()) else { continue };
            by_manifest.insert(entry.digest, units.len());
            let (manifest, from) = (entry.digest, repo.name.clone());
            units.push(Unit { cid, manifest, from, entries: vec![entry.clone()], blobs });
        }
        // What refers to a referrer goes with it. Those of something that is no record stay.
        loop {
            let waiting = referrers.len();
            for (subject, entry, blobs) in std::mem::take(&mut referrers) {
                let Some(at) = subject.and_then(|subject| by_manifest.get(&subject).copied()) else {
                    referrers.push((subject, entry, blobs));
                    continue;
                };
                by_manifest.insert(entry.digest, at);
                units[at].entries.push(entry.clone());
                units[at].blobs.extend(blobs);
            }
            if referrers.len() == waiting {
                return Ok(units);
            }
        }
    }
}
