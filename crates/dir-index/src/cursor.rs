//! Where a page ended, as opaque bytes.

use crate::rank::{Place, Rank};
use dir_core::index::{Cursor, IndexError};
use dir_core::query::QueryError;
use dir_core::{Cid, Timestamp};
use std::cmp::Reverse;

/// The last record of a page, and how many were given out so far (for the limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) rank: Rank,
    pub(crate) emitted: u64,
}

/// Version of the layout: emitted (8), uses (8), index time (8), digest (32), big-endian.
const VERSION: u8 = 2;

impl From<Position> for Cursor {
    fn from(position: Position) -> Self {
        let Rank { uses, place } = position.rank;
        let mut bytes = Vec::with_capacity(57);
        bytes.push(VERSION);
        bytes.extend(position.emitted.to_be_bytes());
        bytes.extend(uses.0.to_be_bytes());
        bytes.extend(place.at.0.0.to_be_bytes());
        bytes.extend(place.cid.digest());
        Cursor(bytes)
    }
}

impl TryFrom<&Cursor> for Position {
    type Error = IndexError;

    fn try_from(cursor: &Cursor) -> Result<Self, IndexError> {
        parse(&cursor.0).ok_or_else(|| QueryError::BadValue("cursor is not one of this index".into()).into())
    }
}

fn parse(bytes: &[u8]) -> Option<Position> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (emitted, rest) = rest.split_first_chunk::<8>()?;
    let (uses, rest) = rest.split_first_chunk::<8>()?;
    let (at, digest) = rest.split_first_chunk::<8>()?;
    let place = Place {
        at: Reverse(Timestamp(i64::from_be_bytes(*at))),
        cid: Cid::from_digest(digest.try_into().ok()?),
    };
    let uses = Reverse(u64::from_be_bytes(*uses));
    Some(Position { emitted: u64::from_be_bytes(*emitted), rank: Rank { uses, place } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_strangers_are_refused() {
        let place = Place { at: Reverse(Timestamp(-5)), cid: Cid::of(b"x") };
        let position = Position { rank: Rank { uses: Reverse(3), place }, emitted: 7 };
        let cursor = Cursor::from(position);
        assert_eq!(Position::try_from(&cursor).unwrap(), position);
        for bad in [&[][..], &cursor.0[..56], &[1_u8; 57][..]] {
            assert!(matches!(Position::try_from(&Cursor(bad.to_vec())), Err(IndexError::Query(_))));
        }
    }
}
