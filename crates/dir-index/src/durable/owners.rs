//! Who pushed a record first. Not kept in memory: it is read where a policy asks for it, which is seldom. An owner lies
//! behind the row of its record; one that was taken out of a damaged index waits for the row under the digest.

use super::failure::from_sled;
use super::keys::{self, Kept};
use crate::codec::{decode_owner, encode_owner};
use dir_core::index::IndexError;
use dir_core::{Cid, Timestamp};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Owners that are handed on in one batch.
const BATCH: usize = 100;

/// Adds an owner to the batch that makes the row.
pub(super) fn put(batch: &mut sled::Batch, at: Timestamp, cid: &Cid, owner: &str) {
    let key = keys::owner(at, cid);
    batch.insert(&key[..], encode_owner(&key, owner));
}

/// Adds its end to the batch that removes the row.
pub(super) fn remove(batch: &mut sled::Batch, at: Timestamp, cid: &Cid) {
    batch.remove(&keys::owner(at, cid)[..]);
    batch.remove(&keys::waiting_owner(cid)[..]);
}

/// The owner of a record, which came at a time or whose row is still to come.
pub(super) fn get(db: &sled::Db, at: Option<Timestamp>, cid: &Cid) -> Result<Option<Arc<str>>, IndexError> {
    let beside = at.map(|at| keys::owner(at, cid).to_vec());
    for key in beside.into_iter().chain([keys::waiting_owner(cid).to_vec()]) {
        if let Some(value) = db.get(&key).map_err(|e| from_sled("reading an owner", e))? {
            let owner = decode_owner(&key, &value);
            let bad = |_malformed| IndexError::Damaged(format!("the owner of {cid} is unreadable"));
            return owner.map(|owner| Some(owner.into())).map_err(bad);
        }
    }
    Ok(None)
}

/// Takes every owner that can be read out of an index that was set aside; answers how many. They wait for their rows,
/// which a rebuild brings back.
pub(super) fn hand_on(aside: &Path, to: &sled::Db) -> Result<usize, String> {
    // sled answers some damage with a panic.
    let read = catch_unwind(AssertUnwindSafe(|| read_all(aside)));
    let owners = read.unwrap_or_else(|_panic| Err("it cannot be opened".to_owned()))?;
    for some in owners.chunks(BATCH) {
        let mut batch = sled::Batch::default();
        for (cid, owner) in some {
            let key = keys::waiting_owner(cid);
            batch.insert(&key[..], encode_owner(&key, owner));
        }
        to.apply_batch(batch).map_err(|e| e.to_string())?;
    }
    to.flush().map_err(|e| e.to_string())?;
    Ok(owners.len())
}

fn read_all(aside: &Path) -> Result<Vec<(Cid, String)>, String> {
    let config = sled::Config::new().path(aside.join("db")).flush_every_ms(None);
    let db = config.open().map_err(|e| e.to_string())?;
    // What cannot be read any more is left out: nobody owns such a record. What was pushed last counts.
    let mut owners = HashMap::new();
    for (key, value) in db.scan_prefix(keys::OWNERS).chain(db.scan_prefix(keys::ROWS)).filter_map(Result::ok)
    {
        let cid = match keys::kept(&key) {
            Some(Kept::Owner(cid)) => Some(cid),
            Some(Kept::Row(..)) => None,
            None => keys::waiting_owner_cid(&key),
        };
        if let (Some(cid), Ok(owner)) = (cid, decode_owner(&key, &value)) {
            owners.insert(cid, owner);
        }
    }
    Ok(owners.into_iter().collect())
}
