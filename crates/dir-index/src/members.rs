//! Where the records of a shard are: some bits of each CID and its slot. The CID itself stands in the chunk alone.

use crate::core::SharedChunk;
use dir_core::Cid;
use hashbrown::HashTable;

/// The place of a record.
#[derive(Clone)]
pub(crate) struct Location {
    pub(crate) chunk: SharedChunk,
    pub(crate) slot: u32,
}

struct Member {
    location: Location,
    /// Bits of the digest that the shard does not have in common.
    tag: u32,
}

/// The records of a shard. Looking one up reads the chunk that may have it: nobody who holds a chunk asks.
#[derive(Default)]
pub(crate) struct Members(HashTable<Member>);

impl Member {
    fn is(&self, tag: u32, cid: &Cid) -> bool {
        self.tag == tag && self.location.chunk.read().cid(self.location.slot) == Some(cid)
    }
}

impl Members {
    pub(crate) fn get(&self, cid: &Cid) -> Option<Location> {
        let tag = tag(cid);
        self.0.find(hash(tag), |member| member.is(tag, cid)).map(|member| member.location.clone())
    }

    /// Adds a record that is in no chunk but this one.
    pub(crate) fn insert(&mut self, cid: &Cid, location: Location) {
        let tag = tag(cid);
        self.0.insert_unique(hash(tag), Member { location, tag }, |member| hash(member.tag));
    }

    pub(crate) fn remove(&mut self, cid: &Cid) -> Option<Location> {
        let tag = tag(cid);
        let found = self.0.find_entry(hash(tag), |member| member.is(tag, cid));
        found.ok().map(|entry| entry.remove().0.location)
    }

    /// The CIDs after one, in no order.
    pub(crate) fn cids(&self, after: Option<&Cid>) -> Vec<Cid> {
        let cid = |member: &Member| member.location.chunk.read().cid(member.location.slot).copied();
        self.0.iter().filter_map(cid).filter(|cid| after.is_none_or(|after| cid > after)).collect()
    }
}

fn tag(cid: &Cid) -> u32 {
    let [_, a, b, c, d, ..] = *cid.digest();
    u32::from_be_bytes([a, b, c, d])
}

/// The table looks at the upper bits as well.
fn hash(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
