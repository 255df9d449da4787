//! One writer per record at a time.
//!
//! A push of a record that the index knows touches no store; without order between it and a delete of the same
//! record, the row could come back after the bytes are gone. Stripes by digest bound the memory; a task holds at
//! most one of them, except the rebuild, which is alone in holding several.

use dir_core::Cid;
use tokio::sync::{Mutex, MutexGuard};

const STRIPES: usize = 1024;

pub(crate) struct Stripes(Box<[Mutex<()>]>);

impl Default for Stripes {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
    }
}

impl Stripes {
    /// Waits for the turn of `cid`.
    pub(crate) async fn lock(&self, cid: &Cid) -> MutexGuard<'_, ()> {
        let [.., a, b] = *cid.digest();
        self.0[usize::from(u16::from_be_bytes([a, b])) % STRIPES].lock().await
    }
}
