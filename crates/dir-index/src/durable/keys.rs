//! Keys of the one tree: a prefix, then what orders the values under it.
//!
//! What one push writes should lie close together, so that it touches few pages whatever the size of the tree. Rows are
//! therefore kept by the time at which they came: in a few stripes, which are read side by side when an index is opened.

use dir_core::{Cid, Timestamp};

/// Rows and owners of records.
pub(super) const ROWS: &[u8] = b"R";
pub(super) const EVENTS: &[u8] = b"e";
pub(super) const USAGE: &[u8] = b"u";
pub(super) const SUMMARY: &[u8] = b"m/summary";

/// Rows as earlier versions wrote them: by digest.
pub(super) const OLD_ROWS: &[u8] = b"r";
/// Owners by digest: as earlier versions wrote them, and those that wait for their rows.
pub(super) const OWNERS: &[u8] = b"o";

/// Stripes of rows: as many as threads read them at most.
pub(super) const STRIPES: u8 = 8;

const DIGEST_BYTES: usize = 32;
/// Prefix, stripe, time.
const ROW_HEAD: usize = 1 + 1 + 8;
const ROW_BYTES: usize = ROW_HEAD + DIGEST_BYTES;
/// Ends the key of an owner, which is otherwise that of the row.
const OWNER: u8 = b'o';

/// A key by digest.
type ByDigest = [u8; 1 + DIGEST_BYTES];

/// The row of a record that came at a time: stripe, milliseconds big-endian (negative ones first), digest.
pub(super) fn row(at: Timestamp, cid: &Cid) -> [u8; ROW_BYTES] {
    let mut key = [ROWS[0]; ROW_BYTES];
    key[1] = cid.digest()[0] % STRIPES;
    key[2..ROW_HEAD].copy_from_slice(&(at.0.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key[ROW_HEAD..].copy_from_slice(cid.digest());
    key
}

/// The owner of that record: right behind the row.
pub(super) fn owner(at: Timestamp, cid: &Cid) -> [u8; ROW_BYTES + 1] {
    let mut key = [OWNER; ROW_BYTES + 1];
    key[..ROW_BYTES].copy_from_slice(&row(at, cid));
    key
}

/// What a key in [`ROWS`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Row(Timestamp, Cid),
    Owner(Cid),
}

/// Reads a key in [`ROWS`].
pub(super) fn kept(key: &[u8]) -> Option<Kept> {
    let (head, rest) = key.strip_prefix(ROWS)?.split_at_checked(ROW_HEAD - 1)?;
    let (digest, end) = rest.split_at_checked(DIGEST_BYTES)?;
    let cid = Cid::from_digest(digest.try_into().ok()?);
    let (stripe, at) = head.split_first()?;
    let at = u64::from_be_bytes(at.try_into().ok()?) ^ (1 << 63);
    match end {
        _ if *stripe != digest[0] % STRIPES => None,
        [] => Some(Kept::Row(Timestamp(at.cast_signed()), cid)),
        [OWNER] => Some(Kept::Owner(cid)),
        _ => None,
    }
}

pub(super) fn old_row(cid: &Cid) -> ByDigest {
    by_digest(OLD_ROWS, cid)
}

pub(super) fn old_row_cid(key: &[u8]) -> Option<Cid> {
    digest(OLD_ROWS, key)
}

pub(super) fn usage(cid: &Cid) -> ByDigest {
    by_digest(USAGE, cid)
}

pub(super) fn usage_cid(key: &[u8]) -> Option<Cid> {
    digest(USAGE, key)
}

pub(super) fn waiting_owner(cid: &Cid) -> ByDigest {
    by_digest(OWNERS, cid)
}

pub(super) fn waiting_owner_cid(key: &[u8]) -> Option<Cid> {
    digest(OWNERS, key)
}

fn by_digest(prefix: &[u8], cid: &Cid) -> ByDigest {
    let mut key = [prefix[0]; 1 + DIGEST_BYTES];
    key[1..].copy_from_slice(cid.digest());
    key
}

fn digest(prefix: &[u8], key: &[u8]) -> Option<Cid> {
    Some(Cid::from_digest(key.strip_prefix(prefix)?.try_into().ok()?))
}

/// Sequence numbers are big-endian: key order is their order.
pub(super) fn event(seq: u64) -> [u8; 9] {
    let mut key = [EVENTS[0]; 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn event_seq(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(EVENTS)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_in_the_order_of_their_times_and_owners_beside_them() {
        let times = [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX].map(Timestamp);
        let cid = Cid::of(b"x");
        let keys: Vec<_> = times.iter().map(|at| row(*at, &cid)).collect();
        assert!(keys.is_sorted() && keys.windows(2).all(|two| two[0] != two[1]));
        for (at, key) in times.into_iter().zip(&keys) {
            assert_eq!(kept(key), Some(Kept::Row(at, cid)));
            assert_eq!(kept(&owner(at, &cid)), Some(Kept::Owner(cid)));
            assert!(owner(at, &cid)[..].starts_with(key), "an owner follows its row");
        }
    }

    #[test]
    fn other_keys_are_no_rows() {
        let good = row(Timestamp(7), &Cid::of(b"x"));
        let mut stripe = good;
        stripe[1] ^= 1;
        let long = [&good[..], b"oo"].concat();
        let end = [&good[..], b"x"].concat();
        for bad in [&stripe[..], &good[..41], &good[1..], &long, &end, b"R", b""] {
            assert_eq!(kept(bad), None, "{bad:?}");
        }
    }
}
