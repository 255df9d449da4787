//! One listener.

use super::group::{Batch, Found, Reader};
use super::hub::Hub;
use super::{EventFilter, Notice, Told};
use dir_core::EventKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// One listener.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    reader: Reader,
    /// Taken and not handed out one by one yet.
    taken: VecDeque<Arc<Told>>,
}

impl Listener {
    pub(super) fn new(hub: &Arc<Hub>, filter: EventFilter) -> Self {
        // Events are built for those who are counted.
        hub.counts.all.fetch_add(1, Ordering::Relaxed);
        if filter.takes(EventKind::RecordPulled) {
            hub.counts.pulls.fetch_add(1, Ordering::Relaxed);
        }
        let reader = hub.join(filter).join();
        Self { hub: hub.clone(), reader, taken: VecDeque::new() }
    }

    /// The next events, as many as there are. `None` when the engine is gone.
    pub fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Batch>>> {
        loop {
            if let Ok(batch) = ready!(self.poll_found(cx)).transpose() {
                return Poll::Ready(batch);
            }
        }
    }

    /// The next event, or how many were lost since the last one. `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Result<Notice, u64>> {
        loop {
            if let Some(told) = self.taken.pop_front() {
                return Some(Ok(told.notice.clone()));
            }
            match std::future::poll_fn(|cx| self.poll_found(cx)).await? {
                Ok(batch) => self.taken.extend(batch.events.iter().cloned()),
                Err(lost) => return Some(Err(lost)),
            }
        }
    }

    /// Some, or how many were lost.
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arc<Batch>, u64>>> {
        Poll::Ready(match ready!(self.reader.poll(cx)) {
            Found::Batch(batch) => Some(Ok(batch)),
            Found::Lost(lost) => Some(Err(lost)),
            Found::Closed => None,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let counts = &self.hub.counts;
        counts.all.fetch_sub(1, Ordering::Relaxed);
        if self.reader.group.filter.takes(EventKind::RecordPulled) {
            counts.pulls.fetch_sub(1, Ordering::Relaxed);
        }
        self.hub.leave(&self.reader.group);
    }
}
