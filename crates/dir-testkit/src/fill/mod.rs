//! Fills a store directory, or the data directory of a stopped Zot, with generated records: as many as a test or a
//! benchmark wants, without a request for each. The same seed gives the same bytes.
//!
//! Files and `index.json` are those that Zot 2.1.20 writes: one OCI image layout a repository, every manifest with
//! its tag (records, and referrers as other writers tag them) or without one.

mod artifacts;
mod layout;

use crate::generate::Generator;
use artifacts::Entry;
use dir_core::{Cid, RecordFacts, Timestamp};
use layout::Repository;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// Records that wait for a writer.
const QUEUE: usize = 1024;
/// What a Zot without deduplication leaves behind after its first start: without it, it looks through its whole store
/// once for each digest, which makes every request dear meanwhile, and takes hours at tens of thousands of records.
const SCANNED: (&str, &str) = ("_restore_complete", "1");
/// Schema versions that every node decodes.
const DECODED: [&str; 3] = ["0.7.", "0.8.", "1."];

/// What is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The directory is one image layout: the embedded store.
    Layout,
    /// The directory is a registry's, one repository for each of 4,096 parts of the digest space.
    Sharded,
    /// The directory is a registry's, with everything in one repository.
    Single,
}

/// How referrers are tagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// Not at all.
    Untagged,
    /// Each with its own CID, in the same repository as records.
    OwnCid,
}

/// What to fill with.
#[derive(Debug, Clone)]
pub struct Fill {
    /// How many records.
    pub records: u64,
    /// Where the generator starts.
    pub seed: u64,
    /// What is filled.
    pub shape: Shape,
    /// Repository, and stem of the shards' names.
    pub repository: String,
    /// Every so many records, one has a public key and a signature attached. 0: none has.
    pub referrers_every: u64,
    /// How these are tagged.
    pub tagging: Tagging,
    /// Creation time of the first record; the others follow, a second each.
    pub first: Timestamp,
    /// Threads that write.
    pub writers: usize,
}

impl Fill {
    /// So many records from seed 1, without referrers.
    pub fn new(shape: Shape, records: u64) -> Self {
        Self {
            records,
            seed: 1,
            shape,
            repository: "dir".to_owned(),
            referrers_every: 0,
            tagging: Tagging::OwnCid,
            first: Timestamp::from_secs(1_735_689_600),
            writers: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The records, in the order of their creation times.
    pub cids: Vec<Cid>,
    /// Referrers attached to them.
    pub referrers: u64,
    /// Repositories made.
    pub repositories: usize,
    /// Bytes of blobs and manifests.
    pub bytes: u64,
}

/// Fills `dir`, which must be empty or absent. `seen` is called with the number of records now and then.
///
/// # Errors
/// When the directory holds something already, or cannot be written.
pub fn fill(dir: &Path, fill: &Fill, mut seen: impl FnMut(u64)) -> io::Result<Filled> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not empty", dir.display())));
    }
    if fill.shape != Shape::Layout {
        std::fs::write(dir.join(SCANNED.0), SCANNED.1)?;
    }
    let repositories = repositories(dir, fill)?;
    let (work, queue) = sync_channel::<(u64, RecordFacts)>(QUEUE);
    let (queue, written) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..fill.writers.max(1))
            .map(|_| scope.spawn(|| write_all(&queue, fill, &repositories, &written, &bytes)))
            .collect();
        let mut generator = Generator::new(fill.seed);
        for n in 0..fill.records {
            // A writer that failed says so below.
            if work.send((n, decodable(&mut generator))).is_err() {
                break;
            }
            if n % 10_000 == 9_999 {
                seen(n + 1);
            }
        }
        drop(work);
        writers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| Err(io::Error::other("a writer panicked"))))
    })?;
    let mut written = written.into_inner().unwrap_or_default();
    written.sort_unstable_by_key(|(n, _)| *n);
    finish(&repositories, fill, &written, bytes.into_inner())
}

/// Facts of the next record that every node takes in.
fn decodable(generator: &mut Generator) -> RecordFacts {
    loop {
        let facts = generator.facts();
        if DECODED.iter().any(|start| facts.schema_version.starts_with(start)) {
            return facts;
        }
    }
}

fn repositories(dir: &Path, fill: &Fill) -> io::Result<Vec<Repository>> {
    let shard = |n: u16| dir.join(format!("{}-{n:03x}", fill.repository));
    if fill.shape == Shape::Sharded {
        return Ok((0..4096).map(|n| Repository::new(shard(n), true)).collect());
    }
    let only = match fill.shape {
        Shape::Layout => Repository::new(dir.to_owned(), false),
        _ => Repository::new(dir.join(&fill.repository), true),
    };
    only.create()?;
    Ok(vec![only])
}

/// The repository of a record: the only one, or that of its shard.
fn home<'a>(repositories: &'a [Repository], cid: &Cid) -> &'a Repository {
    repositories.get(usize::from(cid.shard())).unwrap_or(&repositories[0])
}

type Written = Mutex<Vec<(u64, Vec<Entry>)>>;

fn write_all(
    queue: &Mutex<Receiver<(u64, RecordFacts)>>,
    fill: &Fill,
    repositories: &[Repository],
    written: &Written,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        let next = queue.lock().map(|queue| queue.recv());
        let Ok(Ok((n, facts))) = next else { return Ok(()) };
        let artifacts = artifacts::of(n, &facts, fill).map_err(io::Error::other)?;
        let repository = home(repositories, &artifacts[0].record);
        let mut entries = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            repository.write(&artifact.entry.content, &artifact.blob)?;
            repository.write(&artifact.entry.manifest, &artifact.manifest)?;
            bytes.fetch_add((artifact.blob.len() + artifact.manifest.len()) as u64, Ordering::Relaxed);
            entries.push(artifact.entry);
        }
        if let Ok(mut all) = written.lock() {
            all.push((n, entries));
        }
    }
}

fn finish(
    repositories: &[Repository],
    fill: &Fill,
    written: &[(u64, Vec<Entry>)],
    bytes: u64,
) -> io::Result<Filled> {
    let mut seen = HashSet::with_capacity(written.len());
    let mut cids = Vec::with_capacity(written.len());
    let mut by_repository: BTreeMap<usize, Vec<&Entry>> = BTreeMap::new();
    let mut referrers = 0;
    for (_, entries) in written {
        let Some(record) = entries.first() else { continue };
        // Equal records are one: the last manifest that was written for it is as good as the first.
        if !seen.insert(record.content) {
            continue;
        }
        cids.push(record.content);
        referrers += entries.len() as u64 - 1;
        let at = if repositories.len() == 1 { 0 } else { usize::from(record.content.shard()) };
        by_repository.entry(at).or_default().extend(entries);
    }
    let mut made = 0;
    for (at, repository) in repositories.iter().enumerate() {
        let entries = by_repository.remove(&at).unwrap_or_default();
        if entries.is_empty() && repositories.len() > 1 {
            continue;
        }
        repository.write_index(&entries, fill.shape == Shape::Layout)?;
        made += 1;
    }
    Ok(Filled { cids, referrers, repositories: made, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let made = |seed, writers| {
            let dir = tempfile::tempdir().unwrap();
            let order = Fill { seed, writers, referrers_every: 3, ..Fill::new(Shape::Layout, 40) };
            let filled = fill(dir.path(), &order, |_| ()).unwrap();
            (filled, std::fs::read_to_string(dir.path().join("index.json")).unwrap())
        };
        let first = made(7, 1);
        assert_eq!(first, made(7, 4));
        assert_ne!(first.1, made(8, 1).1);
        assert_eq!((first.0.cids.len(), first.0.referrers), (40, 28));
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.json"), "mine").unwrap();
        let refused = fill(dir.path(), &Fill::new(Shape::Layout, 1), |_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(dir.path().join("index.json")).unwrap(), "mine");
    }
}
