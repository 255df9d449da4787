//! All chunks together: what answers, whatever the backend that survives.

use crate::chunk::Chunk;
use crate::cursor::Position;
use crate::members::{Location, Members};
use crate::plan::Plan;
use crate::rank::{Place, Rank};
use dir_core::index::{IndexError, Page, Row, Usage, Work};
use dir_core::query::{Query, Sort};
use dir_core::{Cid, RecordFacts, Timestamp};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records of one chunk: small enough that no lock is held for long, large enough that a million records are
/// some sixty chunks.
pub(crate) const CHUNK_RECORDS: usize = 16_384;

/// CIDs are looked up by the first byte of their digest first: small tables under short locks.
const SHARDS: usize = 256;

/// Chunks whose records are put into others when an index is closed: about a second.
const MOVED_CHUNKS: usize = 4;

/// Chunks that a read by known values goes through before it lets other tasks run; one that reads whole
/// dictionaries does so after each chunk.
const CHUNKS_PER_TURN: usize = 32;

/// What a read costs before it lets others run, in bytes times patterns: some milliseconds.
const TURN_COST: u64 = 8 << 20;

pub(crate) type SharedChunk = Arc<RwLock<Chunk>>;

/// The records in memory. Any number of readers; writers take turns (the adapters see to that).
pub(crate) struct Core {
    chunk_records: usize,
    pub(crate) chunks: RwLock<Arc<[SharedChunk]>>,
    shards: Vec<RwLock<Members>>,
    live: AtomicU64,
    /// Rises with every removal: a read that saw it rise may have met a record twice.
    removals: AtomicU64,
    /// What queries have cost in chunks that are gone.
    past_work: Mutex<Work>,
}

impl Core {
    pub(crate) fn new(chunk_records: usize) -> Self {
        Self {
            chunk_records: chunk_records.max(1),
            chunks: RwLock::new(Arc::from([])),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            live: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            past_work: Mutex::default(),
        }
    }

    /// Records of a full chunk.
    pub(crate) fn chunk_records(&self) -> usize {
        self.chunk_records
    }

    fn shard(&self, cid: &Cid) -> &RwLock<Members> {
        &self.shards[usize::from(cid.digest()[0])]
    }

    pub(crate) fn len(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    pub(crate) fn contains(&self, cid: &Cid) -> bool {
        self.shard(cid).read().get(cid).is_some()
    }

    /// Adds a record; answers whether it is new. An existing row stays as it is.
    pub(crate) fn put(&self, cid: Cid, facts: &RecordFacts, at: Timestamp) -> bool {
        if self.contains(&cid) {
            return false;
        }
        let chunk = self.open_chunk();
        let slot = chunk.write().insert(Place { at: Reverse(at), cid }, facts);
        self.shard(&cid).write().insert(&cid, Location { chunk, slot });
        self.live.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// The chunk that takes new records.
    fn open_chunk(&self) -> SharedChunk {
        let chunks = self.chunks.read().clone();
        if let Some(last) = chunks.last() {
            if !last.read().is_full(self.chunk_records) {
                return last.clone();
            }
            last.write().freeze();
        }
        let fresh = SharedChunk::default();
        *self.chunks.write() = chunks.iter().cloned().chain([fresh.clone()]).collect();
        fresh
    }

    /// Adds a chunk that was built aside (loading). Its records must be in no other chunk.
    pub(crate) fn adopt(&self, chunk: Chunk, members: &[(Cid, u32)]) {
        let chunk = Arc::new(RwLock::new(chunk));
        for (cid, slot) in members {
            self.shard(cid).write().insert(cid, Location { chunk: chunk.clone(), slot: *slot });
        }
        self.live.fetch_add(members.len() as u64, Ordering::AcqRel);
        let mut chunks = self.chunks.write();
        *chunks = chunks.iter().cloned().chain([chunk]).collect();
    }

    /// Removes a record; answers whether it was there.
    pub(crate) fn delete(&self, cid: &Cid) -> bool {
        let Some(Location { chunk, slot }) = self.shard(cid).write().remove(cid) else { return false };
        self.live.fetch_sub(1, Ordering::AcqRel);
        self.removals.fetch_add(1, Ordering::AcqRel);
        let dead = {
            let mut records = chunk.write();
            records.remove(slot);
            records.is_empty() && records.is_full(self.chunk_records)
        };
        if dead {
            let mut past = self.past_work.lock();
            *past = past.plus(chunk.read().work());
            let mut chunks = self.chunks.write();
            *chunks = chunks.iter().filter(|c| !Arc::ptr_eq(c, &chunk)).cloned().collect();
        }
        true
    }

    /// Hands over every chunk, frozen, until one is refused. Chunks that are small, or that many records have left,
    /// are put together first; so many of their records that this takes little time.
    pub(crate) fn each_chunk<E>(&self, mut take: impl FnMut(&Chunk) -> Result<(), E>) -> Result<(), E> {
        let chunks = self.chunks.read().clone();
        let (mut rest, mut moved) = (Chunk::default(), 0);
        for chunk in chunks.iter() {
            let whole = {
                let chunk = chunk.read();
                chunk.is_whole(self.chunk_records) || moved >= MOVED_CHUNKS * self.chunk_records
            };
            if whole {
                chunk.write().freeze();
                take(&chunk.read())?;
                continue;
            }
            chunk.read().each_row(&mut |place, facts| {
                moved += 1;
                rest.insert(place, facts);
                if !rest.is_full(self.chunk_records) {
                    return Ok(());
                }
                rest.freeze();
                take(&std::mem::take(&mut rest))
            })?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        rest.freeze();
        take(&rest)
    }

    pub(crate) fn row(&self, cid: &Cid) -> Option<Row> {
        let Location { chunk, slot } = self.shard(cid).read().get(cid)?;
        let (indexed_at, facts, usage) = chunk.read().row(slot, cid)?;
        Some(Row { cid: *cid, indexed_at, facts: Arc::new(facts), usage })
    }

    /// When a record came; `None` without a row.
    pub(crate) fn came_at(&self, cid: &Cid) -> Option<Timestamp> {
        let Location { chunk, slot } = self.shard(cid).read().get(cid)?;
        chunk.read().came_at(slot, cid)
    }

    /// The counters of a record; `None` without a row.
    pub(crate) fn usage(&self, cid: &Cid) -> Option<Usage> {
        let Location { chunk, slot } = self.shard(cid).read().get(cid)?;
        chunk.read().usage(slot, cid)
    }

    /// Adds to the counters of a record, if it has a row.
    pub(crate) fn add_usage(&self, cid: &Cid, more: Usage) {
        let location = self.shard(cid).read().get(cid);
        if let Some(Location { chunk, slot }) = location {
            chunk.write().add_usage(slot, cid, more);
        }
    }

    /// What queries have cost.
    pub(crate) fn work(&self) -> Work {
        let chunks = self.chunks.read().clone();
        let past = *self.past_work.lock();
        chunks.iter().fold(past, |sum, chunk| sum.plus(chunk.read().work()))
    }

    pub(crate) fn cids(&self, after: Option<&Cid>, max: usize) -> Vec<Cid> {
        let from = after.map_or(0, |cid| usize::from(cid.digest()[0]));
        let mut found = Vec::new();
        for shard in &self.shards[from..] {
            if found.len() >= max {
                break;
            }
            let mut cids = shard.read().cids(after);
            cids.sort_unstable();
            found.extend(cids.into_iter().take(max - found.len()));
        }
        found
    }

    pub(crate) async fn count(&self, query: &Query) -> Result<u64, IndexError> {
        let plan = Plan::compile(query)?;
        if plan.nothing {
            return Ok(0);
        }
        if plan.is_everything() {
            return Ok(self.len());
        }
        let chunks = self.chunks.read().clone();
        let mut sum = 0;
        for (turn, chunk) in chunks.iter().enumerate() {
            breathe(&plan, turn).await;
            let asked = ask_in_turns(&plan, chunk).await;
            let chunk = chunk.read();
            sum += chunk.count(&chunk.matches(&plan, asked));
        }
        Ok(sum)
    }

    /// A page. The order of providers is that of RECENCY as long as nothing counts them: then its first key is equal
    /// for all records.
    pub(crate) async fn search(
        &self,
        query: &Query,
        after: Option<Position>,
        max: usize,
    ) -> Result<Page, IndexError> {
        let plan = Plan::compile(query)?;
        let emitted = after.map_or(0, |position| position.emitted);
        let left = query.limit.map_or(u64::MAX, |limit| limit.saturating_sub(emitted));
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        let skip = if after.is_some() { 0 } else { usize::try_from(query.offset).unwrap_or(usize::MAX) };
        if plan.nothing || max == 0 || skip as u64 >= self.len().max(1) {
            return Ok(Page::default());
        }
        // One more than the page tells whether there is another.
        let need = skip.saturating_add(max).saturating_add(1);
        let (mut ranks, full) = self.top(&plan, query.sort, after.map(|position| position.rank), need).await;
        let more = full && (max as u64) < left;
        ranks.drain(..skip.min(ranks.len()));
        ranks.truncate(max);
        let emitted = emitted + ranks.len() as u64;
        let next = ranks.last().filter(|_| more).map(|&rank| Position { rank, emitted }.into());
        Ok(Page { cids: ranks.iter().map(|rank| rank.place.cid).collect(), next })
    }

    /// The first `need` matching records after a rank, over all chunks: the newest chunk first, and none whose
    /// first record comes after the last that is needed. Any chunk may have the most used record. Answers also
    /// whether there were as many.
    async fn top(&self, plan: &Plan, sort: Sort, after: Option<Rank>, need: usize) -> (Vec<Rank>, bool) {
        let removals = self.removals.load(Ordering::Acquire);
        let chunks = self.chunks.read().clone();
        let mut heads: Vec<(Place, &SharedChunk)> =
            chunks.iter().filter_map(|chunk| Some((chunk.read().first()?, chunk))).collect();
        heads.sort_by_key(|(head, _)| *head);
        let mut found: Vec<Rank> = Vec::new();
        for (turn, (head, chunk)) in heads.into_iter().enumerate() {
            let enough = found.len() >= need && found.last().is_some_and(|last| last.place < head);
            if enough && sort != Sort::Popularity {
                break;
            }
            breathe(plan, turn).await;
            let asked = ask_in_turns(plan, chunk).await;
            let more = {
                let chunk = chunk.read();
                chunk.top(&chunk.matches(plan, asked), sort, after, need)
            };
            if more.is_empty() {
                continue;
            }
            found.extend(more);
            // Two sorted runs: the stable sort merges them.
            found.sort();
            found.truncate(need);
        }
        let full = found.len() >= need;
        if self.removals.load(Ordering::Acquire) != removals {
            // A record deleted and put again meanwhile may stand in two chunks: the newer place counts.
            let mut seen = HashSet::with_capacity(found.len());
            found.retain(|rank| seen.insert(rank.place.cid));
        }
        (found, full)
    }
}

/// The matches of a chunk in which a plan costs much: it is asked of some records at a time, so that neither the other
/// tasks nor a change to the chunk wait for all of it. `None` when it costs little.
async fn ask_in_turns(plan: &Plan, chunk: &SharedChunk) -> Option<RoaringBitmap> {
    let (slots, turns) = {
        let chunk = chunk.read();
        (chunk.slots(), chunk.cost(plan) / TURN_COST)
    };
    if turns == 0 || plan.nothing {
        return None;
    }
    let step = u32::try_from(u64::from(slots) / (turns + 1)).unwrap_or(slots).max(1);
    let mut found = RoaringBitmap::new();
    let mut from = 0;
    while from < slots {
        let to = slots.min(from.saturating_add(step));
        found |= chunk.read().matches_of(plan, from..to);
        from = to;
        tokio::task::yield_now().await;
    }
    Some(found)
}

/// Lets other tasks run now and then, which is also where a caller that went away stops the work.
async fn breathe(plan: &Plan, turn: usize) {
    let chunks = if plan.reads_dictionaries() { 1 } else { CHUNKS_PER_TURN };
    if turn > 0 && turn.is_multiple_of(chunks) {
        tokio::task::yield_now().await;
    }
}
