//! Where a record is: in one place, or in one of two while a conversion goes on.

use super::OciStore;
use super::stamp::{self, Placed, Placement};
use dir_core::Cid;
use dir_core::store::StoreError;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex as AsyncMutex;

/// What is known of the registry's layout: settled by the first call that reaches it, changed by a conversion.
#[derive(Default)]
pub(super) struct Places {
    known: RwLock<Option<Placed>>,
    settling: AsyncMutex<()>,
    converted: AtomicBool,
}

impl Places {
    pub(super) fn known(&self) -> Option<Placed> {
        *self.known.read()
    }

    /// Whether the layout was changed by this process: what its callers know of other writers is of before.
    pub(super) fn is_converted(&self) -> bool {
        self.converted.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, placed: Placed) {
        *self.known.write() = Some(placed);
    }
}

impl Placed {
    /// The repositories that may hold a record, in the order to look. What is being moved is copied before it is
    /// removed: a look that comes between the two finds it in the first place the second time.
    pub(crate) fn homes(self, stem: &str, record: &Cid) -> Vec<String> {
        let home = self.now.repository(stem, record);
        match self.leaving {
            None => vec![home],
            Some(leaving) => vec![home.clone(), leaving.repository(stem, record), home],
        }
    }
}

impl OciStore {
    /// The layout; settled by the first call that reaches the registry.
    pub(super) async fn placed(&self) -> Result<Placed, StoreError> {
        if let Some(placed) = self.places.known() {
            return Ok(placed);
        }
        let _alone = self.places.settling.lock().await;
        if let Some(placed) = self.places.known() {
            return Ok(placed);
        }
        let placed = stamp::settle(&self.registry, &self.stem, self.asked).await?;
        self.places.set(placed);
        Ok(placed)
    }

    /// The repository that a record is written to.
    pub(super) async fn home(&self, record: &Cid) -> Result<String, StoreError> {
        Ok(self.placed().await?.now.repository(&self.stem, record))
    }

    /// The repositories to look for a record in, until it is found.
    pub(super) async fn look<'a>(&'a self, record: &Cid) -> Result<Look<'a>, StoreError> {
        let placed = self.placed().await?;
        let homes = placed.homes(&self.stem, record).into_iter();
        Ok(Look { store: self, record: *record, placed, homes })
    }

    /// Changes the layout, and waits until nobody writes by the old one any more.
    pub(super) async fn arrange(&self, placed: Placed) -> Result<(), StoreError> {
        stamp::write(&self.registry, &self.stem, placed).await?;
        self.places.set(placed);
        self.places.converted.store(true, Ordering::Relaxed);
        for stripe in &self.stripes {
            drop(stripe.lock().await);
        }
        Ok(())
    }

    /// An error when the layout is not `begun` any more.
    pub(super) fn unchanged(&self, begun: Placed) -> Result<(), StoreError> {
        if self.places.known() == Some(begun) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            context: "walk the registry".to_owned(),
            source: "its layout has changed meanwhile; the walk goes on from its last mark".into(),
        })
    }
}

/// A look into one repository after the other.
pub(super) struct Look<'a> {
    store: &'a OciStore,
    record: Cid,
    placed: Placed,
    homes: std::vec::IntoIter<String>,
}

impl Look<'_> {
    /// The next repository; `None` when it was in none.
    pub(super) fn next(&mut self) -> Option<String> {
        if let Some(home) = self.homes.next() {
            return Some(home);
        }
        // A conversion that began or ended meanwhile has moved it under our eyes.
        let now = self.store.places.known().filter(|now| *now != self.placed)?;
        self.placed = now;
        self.homes = now.homes(&self.store.stem, &self.record).into_iter();
        self.homes.next()
    }
}

/// The repositories of a layout, in order.
pub(crate) fn repositories(placement: Placement, stem: &str) -> Vec<String> {
    match placement {
        Placement::Single => vec![stem.to_owned()],
        Placement::Sharded => (0..stamp::SHARDS).map(|n| stamp::shard_name(stem, n)).collect(),
    }
}
