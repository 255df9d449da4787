//! A chunk as bytes, and back: what a clean close leaves for the next start.

use super::Chunk;
use crate::codec::Malformed;
use crate::dict::Dict;
use crate::image::{In, Out, ensure};
use crate::packed::Lists;
use crate::pairs::Pairs;
use crate::rank::Place;
use dir_core::{Cid, Timestamp};
use std::cmp::Reverse;

impl Chunk {
    /// Whether it is worth keeping as it is: it holds half of what a chunk takes, and few that are gone.
    pub(crate) fn is_whole(&self, records: usize) -> bool {
        const GONE: usize = 8;
        let (slots, live) = (self.places.len(), self.order.len());
        live > 0 && slots - live <= slots / GONE && (live >= records / 2 || self.is_full(records))
    }

    /// Counters of use are not in it: they are kept elsewhere.
    pub(crate) fn write(&self, out: &mut Out) {
        out.len(self.places.len());
        for Place { at, cid } in &self.places {
            out.0.extend(at.0.0.to_le_bytes());
            out.0.extend(cid.digest());
        }
        self.ids.write(out);
        out.numbers(&self.order);
        self.texts.iter().for_each(|dict| dict.write(out));
        self.pairs.iter().for_each(|pairs| pairs.write(out));
        self.other.write(out);
    }

    /// What [`Chunk::write`] wrote.
    pub(crate) fn load(image: &mut In<'_>) -> Result<Self, Malformed> {
        const ENTRY: usize = 40;
        let slots = image.number()?;
        let entries = image.take((slots as usize).checked_mul(ENTRY).ok_or(Malformed)?)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let place = |&[a, b, c, d, e, f, g, h, digest @ ..]: &[u8; ENTRY]| Place {
            at: Reverse(Timestamp(i64::from_le_bytes([a, b, c, d, e, f, g, h]))),
            cid: Cid::from_digest(digest),
        };
        let places: Vec<Place> = entries.iter().map(place).collect();
        let mut chunk = Self { ids: Lists::read(image, places.len())?, places, ..Self::default() };
        chunk.order = image.numbers()?;
        ensure(chunk.order.iter().all(|slot| *slot < slots))?;
        // The one that comes first is last, and none is there twice.
        ensure(chunk.order.is_sorted_by(|a, b| chunk.place(*a) > chunk.place(*b)))?;
        chunk.live = chunk.order.iter().copied().collect();
        for dict in &mut chunk.texts {
            *dict = Dict::load(image, slots)?;
        }
        for pairs in &mut chunk.pairs {
            *pairs = Pairs::load(image, slots)?;
        }
        chunk.other = Dict::load(image, slots)?;
        Ok(chunk)
    }

    /// The records and their slots, oldest first.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Cid, u32)> {
        self.order.iter().filter_map(|&slot| Some((*self.cid(slot)?, slot)))
    }
}
