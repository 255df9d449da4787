//! The data directory of a stopped registry: Zot keeps each repository as an OCI image layout, so that everything can
//! be read, and laid out anew, without a request.
//!
//! Records are read as through the registry; nothing but the conversion of the layout writes.

mod guard;
mod maintain;
mod repo;
mod reshard;

use crate::limits::Limits;
use crate::oci::place::repositories;
use crate::oci::stamp::{self, Placed, Placement, STAMP_TAG};
use async_trait::async_trait;
use dir_core::store::{
    BoxStream, Known, Presence, Put, RecordStore, Referrer, StoreError, Stored, StoredReferrer, WalkMark,
    Walked,
};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use repo::Repo;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Entries that are looked at between two chances for others to run.
const CHUNK: usize = 64;

/// Which directory.
#[derive(Debug, Clone)]
pub struct DataDirConfig {
    /// The registry's root directory.
    pub root: PathBuf,
    /// Repository, and stem of the shards' names.
    pub repository: String,
    /// What is read at most.
    pub limits: Limits,
}

/// The data directory of a stopped registry.
#[derive(Debug)]
pub struct DataDirStore {
    config: DataDirConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    placed: Placed,
    repos: BTreeMap<String, Repo>,
    /// Where each record is: repository and manifest.
    records: HashMap<Cid, Vec<(String, Cid)>>,
    /// Everything that a repository lists.
    listed: HashSet<(String, Cid)>,
}

fn failed(doing: &str, path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { context: format!("{doing} {}", path.display()), source: source.into() }
}

fn read_only<T>() -> Result<T, StoreError> {
    Err(StoreError::Unsupported("a registry's directory is only read here".to_owned()))
}

impl DataDirStore {
    /// Reads what the directory lists. Refused when it is not what it should be, or a registry runs over it.
    pub fn open(config: DataDirConfig) -> Result<Self, StoreError> {
        let root = std::fs::canonicalize(&config.root).map_err(|e| failed("find", &config.root, e))?;
        let config = DataDirConfig { root, ..config };
        guard::check(&config.root, &config.repository)?;
        guard::refuse_running(&config.root)?;
        let state = Mutex::new(State::read(&config)?);
        Ok(Self { config, state })
    }

    /// The layout in the words of configuration, and whether a conversion is unfinished.
    pub fn layout(&self) -> (&'static str, bool) {
        let placed = self.state.lock().placed;
        (placed.now.name(), placed.leaving.is_some())
    }

    fn stem(&self) -> &str {
        &self.config.repository
    }

    /// The record's manifest, where the layout looks for it.
    fn find(&self, state: &State, cid: &Cid) -> Result<Option<(String, Stored)>, StoreError> {
        for home in state.placed.homes(self.stem(), cid) {
            let held = state.records.get(cid).into_iter().flatten().find(|(repo, _)| *repo == home);
            let Some((repo, digest)) = held.and_then(|(name, digest)| Some((state.repos.get(name)?, digest)))
            else {
                continue;
            };
            let Some(manifest) = repo.manifest(digest, &self.config.limits)? else { continue };
            if manifest.is_record() {
                manifest.check_record_layer(cid)?;
                return Ok(Some((home, manifest.into_stored(*cid, digest.oci_digest()))));
            }
        }
        Ok(None)
    }

    fn walk_part(&self, repo: &str, tags: &[Cid]) -> Vec<Result<Walked, StoreError>> {
        let state = self.state.lock();
        let look = |cid: &Cid| {
            // What is in both places is one record: it is shown where it is found.
            let why = match self.find(&state, cid) {
                Ok(Some((home, stored))) if home == repo => return Ok(Some(Walked::Record(stored))),
                Ok(Some(_)) => return Ok(None),
                Ok(None) => self.damage(&state, repo, cid)?,
                Err(error @ (StoreError::BadManifest(_) | StoreError::Corrupt(_))) => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            Ok(Some(match why {
                Some(why) => Walked::Unreadable { cid: *cid, why: format!("repository {repo}: {why}") },
                None => Walked::Other { tag: cid.to_string() },
            }))
        };
        tags.iter().filter_map(|cid| look(cid).transpose()).collect()
    }

    /// Why there is no manifest behind a tag of a repository.
    fn damage(&self, state: &State, repo: &str, cid: &Cid) -> Result<Option<String>, StoreError> {
        let held = state.records.get(cid).into_iter().flatten().find(|(name, _)| name == repo);
        let (Some(repo), Some((_, digest))) = (state.repos.get(repo), held) else { return Ok(None) };
        Ok(repo.examine(digest, &cid.to_string(), &self.config.limits)?.err())
    }

    /// The tags that are CIDs, by repository, behind a mark.
    fn plan(&self, from: Option<&WalkMark>) -> Vec<(String, Vec<Cid>)> {
        let state = self.state.lock();
        let behind = from.and_then(|mark| mark.0.strip_prefix(MARK)).unwrap_or_default().to_owned();
        let repos = state.repos.values().filter(|repo| repo.name > behind);
        let tags = |repo: &Repo| repo.entries.iter().filter_map(|e| e.tag.parse().ok()).collect::<Vec<_>>();
        repos.map(|repo| (repo.name.clone(), tags(repo))).filter(|(_, tags)| !tags.is_empty()).collect()
    }
}

/// How marks begin; the rest is the repository that is done.
const MARK: &str = "data-dir:";

/// What the stamp says; without one, what a server would serve it as.
fn placed(config: &DataDirConfig, repos: &BTreeMap<String, Repo>) -> Result<Placed, StoreError> {
    let Some(stem) = repos.get(&config.repository) else { return Ok(Placement::Sharded.into()) };
    if let Some(entry) = stem.entries.iter().find(|entry| entry.tag == STAMP_TAG) {
        let Some(bytes) = stem.bytes(&entry.digest, config.limits.max_manifest_bytes)? else {
            return Err(StoreError::Layout(format!(
                "the layout stamp of repository {} is missing",
                stem.name
            )));
        };
        return stamp::parse(&bytes, &format!("repository {}", stem.name));
    }
    let single = stem.entries.iter().any(|entry| !entry.tag.is_empty());
    Ok(if single { Placement::Single } else { Placement::Sharded }.into())
}

impl State {
    /// What is on disk.
    fn read(config: &DataDirConfig) -> Result<Self, StoreError> {
        let mut repos = BTreeMap::new();
        for placement in [Placement::Single, Placement::Sharded] {
            for name in repositories(placement, &config.repository) {
                if let Some(repo) = Repo::read(&config.root, &name)? {
                    repos.insert(name, repo);
                }
            }
        }
        let mut state =
            Self { placed: placed(config, &repos)?, repos, records: HashMap::new(), listed: HashSet::new() };
        state.note_records();
        Ok(state)
    }

    fn note_records(&mut self) {
        self.records.clear();
        self.listed.clear();
        for repo in self.repos.values() {
            for entry in &repo.entries {
                self.listed.insert((repo.name.clone(), entry.digest));
                if let Ok(cid) = entry.tag.parse::<Cid>() {
                    self.records.entry(cid).or_default().push((repo.name.clone(), entry.digest));
                }
            }
        }
    }
}

/// Chunks of work as a stream that lets others run in between.
fn chunks<'a, T: Send + 'a, R: Send + 'a>(
    plan: Vec<(String, Vec<T>)>,
    mut work: impl FnMut(&str, &[T]) -> Vec<R> + Send + 'a,
    mark: impl Fn(WalkMark) -> R + Send + 'a,
) -> BoxStream<'a, R> {
    let parts = plan.into_iter().flat_map(|(repo, mut items)| {
        let mut parts = Vec::new();
        while items.len() > CHUNK {
            let rest = items.split_off(CHUNK);
            parts.push((repo.clone(), std::mem::replace(&mut items, rest), false));
        }
        parts.push((repo, items, true));
        parts
    });
    let parts: Vec<_> = parts.collect();
    let done = stream::iter(parts).then(move |(repo, items, last)| {
        let mut out = work(&repo, &items);
        out.extend(last.then(|| mark(WalkMark(format!("{MARK}{repo}")))));
        async move {
            tokio::task::yield_now().await;
            out
        }
    });
    Box::pin(done.flat_map(stream::iter))
}

#[async_trait]
impl RecordStore for DataDirStore {
    async fn put(&self, _: &Record, _: &RecordFacts, _: Timestamp, _: Presence) -> Result<Put, StoreError> {
        read_only()
    }

    async fn get(&self, cid: &Cid, _known: Known) -> Result<Record, StoreError> {
        let state = self.state.lock();
        let Some((home, _)) = self.find(&state, cid)? else { return Err(StoreError::NotFound(*cid)) };
        let repo = state.repos.get(&home).ok_or(StoreError::NotFound(*cid))?;
        let bytes = repo.bytes(cid, self.config.limits.max_blob_bytes)?;
        Ok(Record::verify(*cid, bytes.ok_or(StoreError::BlobMissing(*cid))?.into())?)
    }

    async fn resolve(&self, cid: &Cid) -> Result<Option<Stored>, StoreError> {
        Ok(self.find(&self.state.lock(), cid)?.map(|(_, stored)| stored))
    }

    async fn delete(&self, _cid: &Cid) -> Result<bool, StoreError> {
        read_only()
    }

    async fn put_referrer(&self, _: &Cid, _: &Referrer, _: Timestamp) -> Result<Put, StoreError> {
        read_only()
    }

    async fn referrers(&self, _subject: &Cid) -> Result<Vec<StoredReferrer>, StoreError> {
        read_only()
    }

    async fn referrer_bytes(&self, _: &Cid, _: &StoredReferrer) -> Result<bytes::Bytes, StoreError> {
        read_only()
    }

    async fn delete_referrer(&self, _: &Cid, _: &StoredReferrer) -> Result<bool, StoreError> {
        read_only()
    }

    fn walk(&self, from: Option<WalkMark>) -> BoxStream<'_, Result<Walked, StoreError>> {
        let work = |repo: &str, tags: &[Cid]| self.walk_part(repo, tags);
        chunks(self.plan(from.as_ref()), work, |mark| Ok(Walked::Mark(mark)))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
