//! The rows as they lie on disk, in memory while an index is loaded.

use super::failure::from_sled;
use super::keys::{self, Kept};
use super::load::in_parallel;
use crate::chunk::MAX_TEXT_BYTES;
use crate::codec::{StoredRow, decode_row, peek_row_time};
use crate::rank::Place;
use dir_core::Cid;
use dir_core::index::IndexError;
use std::cmp::Reverse;
use std::ops::Range;

/// Bytes of a block of values. An allocation of this size is a mapping of its own wherever memory comes from: it
/// goes back to the system when the index is loaded, and what is not used of it is never there.
const BLOCK_BYTES: usize = 33 << 20;

/// All rows, oldest first. Their values are in few large allocations.
#[derive(Default)]
pub(super) struct Rows {
    blocks: Vec<Vec<u8>>,
    rows: Vec<Row>,
}

struct Row {
    place: Place,
    block: u32,
    from: u32,
    len: u32,
    /// An earlier version wrote it.
    old: bool,
}

impl Rows {
    /// Reads all rows, several stripes at once: those that are kept by time, and those that an earlier version left.
    pub(super) fn scan(db: &sled::Db) -> Result<Self, IndexError> {
        let stripes = usize::from(keys::STRIPES);
        let old = in_parallel((0..stripes).collect(), |n| {
            // The first byte of the digest says which stripe.
            let edge = |n: usize| u8::try_from(n * 256 / stripes).ok();
            let mut part = Self::default();
            for item in range(db, keys::OLD_ROWS[0], edge(n), edge(n + 1)) {
                let (key, value) = item.map_err(|e| from_sled("reading rows", e))?;
                let cid = keys::old_row_cid(&key).ok_or_else(bad_key)?;
                let at = peek_row_time(&value).map_err(|_malformed| bad_row(&cid))?;
                part.push(Place { at: Reverse(at), cid }, true, &value);
            }
            Ok(part)
        })?;
        let kept = in_parallel((0..keys::STRIPES).collect(), |stripe| {
            let mut part = Self::default();
            for item in range(db, keys::ROWS[0], Some(stripe), Some(stripe + 1)) {
                let (key, value) = item.map_err(|e| from_sled("reading rows", e))?;
                match keys::kept(&key).ok_or_else(bad_key)? {
                    Kept::Row(at, cid) => part.push(Place { at: Reverse(at), cid }, false, &value),
                    Kept::Owner(_) => {}
                }
            }
            Ok(part)
        })?;
        let mut all = Self::default();
        for part in old.into_iter().chain(kept) {
            let base = to_u32(all.blocks.len());
            all.blocks.extend(part.blocks);
            all.rows.extend(part.rows.into_iter().map(|row| Row { block: base + row.block, ..row }));
        }
        all.sort();
        Ok(all)
    }

    fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|row| Reverse(row.place));
    }

    /// Adds a row; they are sorted afterwards.
    fn push(&mut self, place: Place, old: bool, value: &[u8]) {
        let room = |block: &Vec<u8>| block.capacity() - block.len() >= value.len();
        if !self.blocks.last().is_some_and(room) {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES.max(value.len())));
        }
        let block = to_u32(self.blocks.len() - 1);
        let Some(bytes) = self.blocks.last_mut() else { return };
        self.rows.push(Row { place, block, from: to_u32(bytes.len()), len: to_u32(value.len()), old });
        bytes.extend_from_slice(value);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows in what a chunk takes: so many records, and so many bytes.
    pub(super) fn cut(&self, records: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (n, row) in self.rows.iter().enumerate() {
            bytes += row.len as usize;
            match ranges.last_mut() {
                Some(range) if range.len() < records && bytes < MAX_TEXT_BYTES => range.end = n + 1,
                _ => {
                    bytes = row.len as usize;
                    ranges.push(n..n + 1);
                }
            }
        }
        ranges
    }

    /// Some rows, decoded.
    pub(super) fn range(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = Result<(Place, StoredRow), IndexError>> {
        self.rows[range].iter().map(|row| {
            let (place, from) = (row.place, row.from as usize);
            let value = &self.blocks[row.block as usize][from..from + row.len as usize];
            let decoded = if row.old {
                decode_row(&keys::old_row(&place.cid), value)
            } else {
                decode_row(&keys::row(place.at.0, &place.cid), value)
            };
            decoded.map(|row| (place, row)).map_err(|_malformed| bad_row(&place.cid))
        })
    }
}

/// What lies under a prefix, from one second byte to before another.
fn range(db: &sled::Db, prefix: u8, from: Option<u8>, to: Option<u8>) -> sled::Iter {
    let from = from.map_or_else(|| vec![prefix], |byte| vec![prefix, byte]);
    let to = to.map_or_else(|| vec![prefix + 1], |byte| vec![prefix, byte]);
    db.range(from..to)
}

fn bad_key() -> IndexError {
    IndexError::Damaged("a row key is malformed".into())
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn bad_row(cid: &Cid) -> IndexError {
    IndexError::Damaged(format!("the row of {cid} is unreadable"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Summary, encode_owner, encode_row, encode_summary};
    use crate::{SledConfig, SledIndex};
    use dir_core::index::{Change, RecordIndex};
    use dir_core::query::Query;
    use dir_core::{RecordFacts, Timestamp};

    fn record(n: i64) -> (Cid, Timestamp, RecordFacts) {
        let facts = RecordFacts { name: format!("agent-{n}"), ..RecordFacts::default() };
        (Cid::of(&n.to_be_bytes()), Timestamp(n), facts)
    }

    /// What a version that kept rows by digest has left.
    fn earlier(dir: &std::path::Path) {
        let db = sled::open(dir.join("db")).unwrap();
        let mut summary = Summary { next_seq: 1, ..Summary::default() };
        for n in 0..300 {
            let (cid, at, facts) = record(n);
            let key = keys::old_row(&cid);
            db.insert(&key[..], encode_row(&key, at, &facts)).unwrap();
            let key = keys::waiting_owner(&cid);
            db.insert(&key[..], encode_owner(&key, "spiffe://a.example/old")).unwrap();
            summary.add(&cid);
        }
        db.insert(keys::SUMMARY, encode_summary(keys::SUMMARY, summary)).unwrap();
        db.flush().unwrap();
    }

    async fn owner(index: &SledIndex, cid: Cid) -> Option<String> {
        index.owner(&cid).await.unwrap().map(|owner| owner.to_string())
    }

    #[tokio::test]
    async fn an_index_of_an_earlier_version_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        earlier(dir.path());
        let (new, old) = (record(1_000), record(7));
        // Killed in between, so that every start reads the tree.
        for round in 0..3 {
            let index = SledIndex::open(SledConfig::new(dir.path())).unwrap();
            match round {
                0 => {
                    assert_eq!(index.len(), 300);
                    assert_eq!(owner(&index, old.0).await.as_deref(), Some("spiffe://a.example/old"));
                    let put = |(cid, at, facts): &(Cid, Timestamp, RecordFacts), owner: &str| Change::Put {
                        cid: *cid,
                        facts: std::sync::Arc::new(facts.clone()),
                        at: *at,
                        event: None,
                        owner: Some(owner.into()),
                    };
                    let list = vec![
                        put(&new, "spiffe://a.example/new"),
                        // Here already: nothing changes.
                        put(&record(8), "spiffe://a.example/thief"),
                        Change::Delete { cid: old.0, at: Timestamp(2_000), event: None },
                    ];
                    let applied = index.apply(list).await.unwrap();
                    let changed: Vec<bool> = applied.iter().map(|done| done.changed).collect();
                    assert_eq!(changed, [true, false, true]);
                }
                1 => index
                    .apply(vec![Change::Delete { cid: new.0, at: Timestamp(3_000), event: None }])
                    .await
                    .map(drop)
                    .unwrap(),
                _ => {}
            }
            assert!(!index.contains(&old.0));
            assert_eq!(owner(&index, old.0).await, None);
            assert_eq!(owner(&index, record(8).0).await.as_deref(), Some("spiffe://a.example/old"));
            let expected = (round == 0).then_some("spiffe://a.example/new");
            assert_eq!(owner(&index, new.0).await.as_deref(), expected);
            assert_eq!(index.count(&Query::default()).await.unwrap(), if round == 0 { 300 } else { 299 });
        }
    }
}
