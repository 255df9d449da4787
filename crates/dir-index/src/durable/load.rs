//! Opening: sled recovers, every row is checked, the chunks are built in parallel.

use super::failure::{from_io, from_io_at, from_sled};
use super::rows::Rows;
use super::{MIN_CACHE_BYTES, SledConfig, keys, marker, saved};
use crate::chunk::Chunk;
use crate::codec::{Summary, decode_summary, decode_usage};
use crate::core::Core;
use dir_core::Cid;
use dir_core::index::IndexError;
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Threads that load at most.
const MAX_LOADERS: usize = 8;

/// How long an index that this process closed may take to let go of its file.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows that are worth a chunk of their own when a small index is loaded.
const MIN_SHARE: usize = 1_024;

/// An opened tree and everything in it.
pub(super) struct Loaded {
    pub(super) db: sled::Db,
    pub(super) core: Core,
    pub(super) summary: Summary,
    /// Sequence number of the oldest event kept; that of the next one when there is none.
    pub(super) oldest_seq: u64,
}

/// Opens the tree in `config.path` and loads it. Damage of any form is [`IndexError::Damaged`].
pub(super) fn load(config: &SledConfig) -> Result<Loaded, IndexError> {
    std::fs::create_dir_all(&config.path)
        .map_err(|e| from_io_at("creating the index directory", &config.path, &e))?;
    // sled answers some damage with a panic.
    catch_unwind(AssertUnwindSafe(|| load_unguarded(config))).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(IndexError::Damaged(format!("opening failed: {what}")))
    })
}

/// Waits until nobody holds sled's own lock on `file`. Our lock beside the directory keeps other processes out,
/// so a holder can only be a background write of an index that this process has just dropped: sled does not wait
/// for those, and its `open` would fail instead of waiting.
fn await_release(file: &Path) -> Result<(), IndexError> {
    const CONTEXT: &str = "waiting for the last writes of the index";
    let held = match File::open(file) {
        Ok(held) => held,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(from_io_at(CONTEXT, file, &error)),
    };
    let start = Instant::now();
    loop {
        match held.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.elapsed() < RELEASE_TIMEOUT => {
                thread::sleep(Duration::from_millis(5));
            }
            // Whoever holds it now is named by sled.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(from_io_at(CONTEXT, file, &error)),
        }
    }
}

/// The rows of the tree. sled holds on to the first sixteen thousand pages that were read, whatever its cache is set
/// to (it evicts a shard of 256 when 64 pages of it wait): what has read all rows is closed again.
fn from_tree(dir: &Path, config: &SledConfig) -> Result<(Core, Summary), IndexError> {
    // Whatever was saved is of another time.
    saved::remove(&config.path)?;
    let rows = Rows::scan(&open_tree(dir, config)?)?;
    build(&rows, config.chunk_records)
}

fn open_tree(dir: &Path, config: &SledConfig) -> Result<sled::Db, IndexError> {
    await_release(&dir.join("db"))?;
    sled::Config::new()
        .path(dir)
        .cache_capacity(config.cache_bytes.max(MIN_CACHE_BYTES))
        // Flushing is the writer's: a change is acknowledged when it is on disk, not some time later.
        .flush_every_ms(None)
        .open()
        .map_err(|e| from_sled("opening", e))
}

fn load_unguarded(config: &SledConfig) -> Result<Loaded, IndexError> {
    let dir = config.path.join("db");
    remove_partial_snapshots(&dir)?;
    let closed = marker::read(&config.path)?;
    let (core, mut summary) =
        match closed.and_then(|closed| saved::load(&config.path, closed, config.chunk_records)) {
            Some(loaded) => loaded,
            None => from_tree(&dir, config)?,
        };
    let db = open_tree(&dir, config)?;
    let stored = match db.get(keys::SUMMARY).map_err(|e| from_sled("reading the summary", e))? {
        Some(value) => decode_summary(keys::SUMMARY, &value)
            .map_err(|_malformed| IndexError::Damaged("the summary is unreadable".into()))?,
        None => Summary { next_seq: config.first_seq.max(1), ..Summary::default() },
    };
    summary.next_seq = stored.next_seq;
    if summary != stored {
        return Err(IndexError::Damaged(format!("{} rows expected, {} found", stored.rows, summary.rows)));
    }
    load_usage(&db, &core)?;
    let (oldest_seq, next_seq) = event_range(&db, stored.next_seq)?;
    if next_seq != stored.next_seq {
        return Err(IndexError::Damaged(format!(
            "the event log ends before {next_seq}, not before {}",
            stored.next_seq
        )));
    }
    if let Some(closed) = closed
        && closed != stored
    {
        return Err(IndexError::Damaged(format!(
            "closed with {} rows and event {}, opened with {} rows and event {}",
            closed.rows, closed.next_seq, stored.rows, stored.next_seq
        )));
    }
    Ok(Loaded { db, core, summary, oldest_seq })
}

/// A crash while sled writes a snapshot leaves `snap.<lsn>.generating`, which the next start mistakes for the
/// newest snapshot and refuses. The file is unfinished by its name, the log it sums up is still there, and what
/// opens afterwards is checked row by row: so it goes.
fn remove_partial_snapshots(dir: &Path) -> Result<(), IndexError> {
    let fail = |e| from_io("removing an unfinished snapshot", e);
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "generating") {
            tracing::warn!(path = %path.display(), "removing an unfinished snapshot of a stopped process");
            std::fs::remove_file(&path).map_err(fail)?;
        }
    }
    Ok(())
}

/// Decodes the rows into chunks, several at once.
fn build(rows: &Rows, chunk_records: usize) -> Result<(Core, Summary), IndexError> {
    let core = Core::new(chunk_records);
    // As many chunks as the threads take in whole turns, so that none waits for another's.
    let turn = loaders() * core.chunk_records();
    let parts = rows.len().div_ceil(turn) * loaders();
    let share = rows.len().div_ceil(parts.max(1)).max(MIN_SHARE);
    let built = in_parallel(rows.cut(core.chunk_records().min(share)), |range| {
        let mut chunk = Chunk::default();
        let mut members = Vec::with_capacity(range.len());
        for row in rows.range(range) {
            let (place, row) = row?;
            members.push((place.cid, chunk.insert(place, &row.facts)));
        }
        chunk.freeze();
        Ok((chunk, members))
    })?;
    let summary = summed(&core, built);
    Ok((core, summary))
}

/// Puts chunks into an index; what they amount to.
pub(super) fn summed(core: &Core, chunks: Vec<(Chunk, Vec<(Cid, u32)>)>) -> Summary {
    let mut summary = Summary::default();
    for (chunk, members) in chunks {
        for (cid, _) in &members {
            summary.add(cid);
        }
        core.adopt(chunk, &members);
    }
    summary
}

/// Counters; those of a record without a row are passed over.
fn load_usage(db: &sled::Db, core: &Core) -> Result<(), IndexError> {
    for item in db.scan_prefix(keys::USAGE) {
        let (key, value) = item.map_err(|e| from_sled("reading counters", e))?;
        let bad = || IndexError::Damaged("a counter is unreadable".into());
        let cid = keys::usage_cid(&key).ok_or_else(bad)?;
        core.add_usage(&cid, decode_usage(&key, &value).map_err(|_malformed| bad())?);
    }
    Ok(())
}

/// The sequence numbers of the oldest event and of the one after the newest.
fn event_range(db: &sled::Db, empty: u64) -> Result<(u64, u64), IndexError> {
    let mut events = db.scan_prefix(keys::EVENTS).keys();
    let seq = |key: Option<Result<sled::IVec, sled::Error>>| match key {
        None => Ok(None),
        Some(Err(e)) => Err(from_sled("reading the event log", e)),
        Some(Ok(key)) => keys::event_seq(&key)
            .map(Some)
            .ok_or_else(|| IndexError::Damaged("an event key is malformed".into())),
    };
    let Some(oldest) = seq(events.next())? else { return Ok((empty, empty)) };
    let newest = seq(events.next_back())?.unwrap_or(oldest);
    Ok((oldest, newest + 1))
}

fn loaders() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_LOADERS)
}

/// Runs `work` over the items on a few threads; results in the order of the items.
pub(super) fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, IndexError> + Sync,
) -> Result<Vec<R>, IndexError> {
    let queue = parking_lot::Mutex::new(items.into_iter().enumerate());
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            loop {
                let Some((n, item)) = queue.lock().next() else { return Ok::<_, IndexError>(mine) };
                mine.push((n, work(item)?));
            }
        };
        let workers: Vec<_> = (0..loaders()).map(|_| scope.spawn(worker)).collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, IndexError>(done)
    })?;
    done.sort_unstable_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
