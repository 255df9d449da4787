//! One listener.

use super::group::{Batch, Found, Reader};
use super::hub::{EPISODE_END, Hub};
use super::{EventFilter, Notice, Told};
use dir_core::EventKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// One listener.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    reader: Reader,
    /// Taken and not handed out one by one yet.
    taken: VecDeque<Arc<Told>>,
    /// When it lost events for its own slowness last.
    behind: Option<Instant>,
    /// It has had everything since.
    caught_up: bool,
}

impl Listener {
    pub(super) fn new(hub: &Arc<Hub>, filter: EventFilter) -> Self {
        // Events are built for those who are counted.
        hub.counts.all.fetch_add(1, Ordering::Relaxed);
        if filter.takes(EventKind::RecordPulled) {
            hub.counts.pulls.fetch_add(1, Ordering::Relaxed);
        }
        let reader = hub.join(filter).join();
        Self { hub: hub.clone(), reader, taken: VecDeque::new(), behind: None, caught_up: true }
    }

    /// The next events, as many as there are; losses are counted, and logged once an episode. `None` when the engine is
    /// gone.
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
            Found::Batch(batch) => {
                // Nobody looks at the ring again for those who keep up.
                if !self.caught_up {
                    self.caught_up = self.reader.has_all();
                }
                Some(Ok(batch))
            }
            Found::Lost { all, own } => {
                self.hub.losses.events.add(all);
                if own > 0 {
                    self.fell_behind(own);
                }
                Some(Err(all))
            }
            Found::Closed => None,
        })
    }

    fn fell_behind(&mut self, lost: u64) {
        let over = |last: Instant| self.caught_up && last.elapsed() >= EPISODE_END;
        let begins = self.behind.is_none_or(over);
        (self.behind, self.caught_up) = (Some(Instant::now()), false);
        if begins && self.hub.begin_episode() {
            tracing::warn!(
                lost,
                "a listener reads too slowly and loses events; not said again until it has kept up for a while"
            );
        }
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
