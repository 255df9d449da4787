//! Keys of the one tree: a prefix, then the row's digest or the event's sequence number.

use dir_core::Cid;

pub(super) const ROWS: &[u8] = b"r";
pub(super) const EVENTS: &[u8] = b"e";
pub(super) const USAGE: &[u8] = b"u";
pub(super) const OWNERS: &[u8] = b"o";
pub(super) const SUMMARY: &[u8] = b"m/summary";

pub(super) fn row(cid: &Cid) -> [u8; 33] {
    let mut key = [ROWS[0]; 33];
    key[1..].copy_from_slice(cid.digest());
    key
}

pub(super) fn row_cid(key: &[u8]) -> Option<Cid> {
    Some(Cid::from_digest(key.strip_prefix(ROWS)?.try_into().ok()?))
}

pub(super) fn usage(cid: &Cid) -> [u8; 33] {
    let mut key = [USAGE[0]; 33];
    key[1..].copy_from_slice(cid.digest());
    key
}

pub(super) fn usage_cid(key: &[u8]) -> Option<Cid> {
    Some(Cid::from_digest(key.strip_prefix(USAGE)?.try_into().ok()?))
}

pub(super) fn owner(cid: &Cid) -> [u8; 33] {
    let mut key = [OWNERS[0]; 33];
    key[1..].copy_from_slice(cid.digest());
    key
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
