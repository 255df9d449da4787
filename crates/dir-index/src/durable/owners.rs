//! Who pushed a record first. Never loaded: it is read where a policy asks for it, which is seldom.

use super::failure::from_sled;
use super::keys;
use crate::codec::{decode_owner, encode_owner};
use dir_core::Cid;
use dir_core::index::IndexError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Owners that are handed on in one batch.
const BATCH: usize = 100;

/// Adds an owner to the batch that makes the row.
pub(super) fn put(batch: &mut sled::Batch, cid: &Cid, owner: &str) {
    let key = keys::owner(cid);
    batch.insert(&key[..], encode_owner(&key, owner));
}

/// Adds its end to the batch that removes the row.
pub(super) fn remove(batch: &mut sled::Batch, cid: &Cid) {
    batch.remove(&keys::owner(cid)[..]);
}

/// The owner of a record.
pub(super) fn get(db: &sled::Db, cid: &Cid) -> Result<Option<Arc<str>>, IndexError> {
    let key = keys::owner(cid);
    let Some(value) = db.get(key).map_err(|e| from_sled("reading an owner", e))? else { return Ok(None) };
    match decode_owner(&key, &value) {
        Ok(owner) => Ok(Some(owner.into())),
        Err(_malformed) => Err(IndexError::Damaged(format!("the owner of {cid} is unreadable"))),
    }
}

/// Takes every owner that can be read out of an index that was set aside; answers how many. They wait for their rows,
/// which a rebuild brings back.
pub(super) fn hand_on(aside: &Path, to: &sled::Db) -> Result<usize, String> {
    // sled answers some damage with a panic.
    let read = catch_unwind(AssertUnwindSafe(|| read_all(aside)));
    let owners = read.unwrap_or_else(|_panic| Err("it cannot be opened".to_owned()))?;
    for some in owners.chunks(BATCH) {
        let mut batch = sled::Batch::default();
        for (key, value) in some {
            batch.insert(key, value);
        }
        to.apply_batch(batch).map_err(|e| e.to_string())?;
    }
    to.flush().map_err(|e| e.to_string())?;
    Ok(owners.len())
}

fn read_all(aside: &Path) -> Result<Vec<(sled::IVec, sled::IVec)>, String> {
    let config = sled::Config::new().path(aside.join("db")).flush_every_ms(None);
    let db = config.open().map_err(|e| e.to_string())?;
    // What cannot be read any more is left out: nobody owns such a record.
    let readable = |entry: &(sled::IVec, sled::IVec)| decode_owner(&entry.0, &entry.1).is_ok();
    Ok(db.scan_prefix(keys::OWNERS).filter_map(Result::ok).filter(readable).collect())
}
