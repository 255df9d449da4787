//! The rows as they lie on disk, in memory while an index is loaded.

use super::failure::from_sled;
use super::keys;
use super::load::{bad_row, in_parallel, loaders};
use crate::chunk::MAX_TEXT_BYTES;
use crate::codec::peek_row_time;
use crate::rank::Place;
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
}

impl Rows {
    /// Reads all rows, several ranges of digests at once.
    pub(super) fn scan(db: &sled::Db) -> Result<Self, IndexError> {
        let loaders = loaders();
        let parts = in_parallel((0..loaders).collect(), |n| {
            let edge = |n: usize| u8::try_from(n * 256 / loaders).ok().map(|byte| vec![keys::ROWS[0], byte]);
            let from = edge(n).unwrap_or_default();
            let to = edge(n + 1).unwrap_or_else(|| vec![keys::ROWS[0] + 1]);
            let mut part = Self::default();
            for item in db.range(from..to) {
                let (key, value) = item.map_err(|e| from_sled("reading rows", e))?;
                let cid = keys::row_cid(&key)
                    .ok_or_else(|| IndexError::Damaged("a row key is malformed".into()))?;
                let at = peek_row_time(&value).map_err(|_malformed| bad_row(&cid))?;
                part.push(Place { at: Reverse(at), cid }, &value);
            }
            Ok(part)
        })?;
        let mut all = Self::default();
        for part in parts {
            let base = to_u32(all.blocks.len());
            all.blocks.extend(part.blocks);
            all.rows.extend(part.rows.into_iter().map(|row| Row { block: base + row.block, ..row }));
        }
        all.sort();
        Ok(all)
    }

    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|row| Reverse(row.place));
    }

    /// Adds a row; they are sorted afterwards.
    pub(super) fn push(&mut self, place: Place, value: &[u8]) {
        let room = |block: &Vec<u8>| block.capacity() - block.len() >= value.len();
        if !self.blocks.last().is_some_and(room) {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES.max(value.len())));
        }
        let block = to_u32(self.blocks.len() - 1);
        let Some(bytes) = self.blocks.last_mut() else { return };
        self.rows.push(Row { place, block, from: to_u32(bytes.len()), len: to_u32(value.len()) });
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

    /// Places and values of some rows.
    pub(super) fn range(&self, range: Range<usize>) -> impl Iterator<Item = (Place, &[u8])> {
        self.rows[range].iter().map(|row| {
            let from = row.from as usize;
            (row.place, &self.blocks[row.block as usize][from..from + row.len as usize])
        })
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
