//! One pass over the store. Reads go ahead of commits, and commits of each other, so that neither waits for the
//! other's disk; marks follow behind both.

use super::Found;
use crate::{Engine, EngineError, Op};
use dir_core::Classified;
use dir_core::index::{Change, IndexError};
use dir_core::store::{WalkMark, Walked};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Changes that are committed together at most.
const BATCH_MAX: usize = 64;
/// Records that are read or committed at the same time at most. The index flushes once for all that wait.
const UNDER_WAY_MAX: usize = 512;
/// Time between two marks in the journal: each is a file that is flushed.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How far one pass over the store came.
pub(super) enum Pass {
    Done,
    Again(EngineError),
}

/// Records under way, in the order of the walk, and the marks among them.
#[derive(Default)]
struct Flight {
    next: u64,
    under_way: BTreeSet<u64>,
    marks: VecDeque<(u64, WalkMark)>,
}

impl Flight {
    fn begin(&mut self) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next);
        self.next
    }

    fn end(&mut self, n: u64) {
        self.under_way.remove(&n);
    }

    fn mark(&mut self, mark: WalkMark) {
        self.marks.push_back((self.next, mark));
    }

    /// The last mark before which nothing is under way, once.
    fn settled(&mut self) -> Option<WalkMark> {
        let first = self.under_way.first().copied().unwrap_or(u64::MAX);
        let settled = self.marks.partition_point(|(last, _)| *last < first);
        self.marks.drain(..settled).next_back().map(|(_, mark)| mark)
    }
}

/// Records that were read, and the rows of those that the index lacks.
#[derive(Default)]
struct Batch<'a> {
    numbers: Vec<u64>,
    found: Vec<Found<'a>>,
    failed: Option<EngineError>,
}

impl<'a> Batch<'a> {
    fn take(&mut self, (n, found): (u64, Result<Option<Found<'a>>, EngineError>)) {
        match found {
            Ok(found) => {
                self.numbers.push(n);
                self.found.extend(found);
            }
            Err(error) => self.failed = Some(error),
        }
    }
}

impl Engine {
    /// One pass from `from` on; `from` moves with each mark whose records are committed, and `note` is told now and
    /// then.
    pub(super) async fn pass(
        &self,
        from: &mut Option<WalkMark>,
        note: impl Fn(&WalkMark),
    ) -> Result<Pass, EngineError> {
        let mut walk = self.0.deps.store.walk(from.clone()).fuse();
        let (mut reads, mut commits) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut flight = Flight::default();
        let mut noted: Option<Instant> = None;
        let mut failed = None;
        loop {
            if let Some(mark) = flight.settled() {
                if noted.is_none_or(|at| at.elapsed() >= NOTE_EVERY) {
                    note(&mark);
                    noted = Some(Instant::now());
                }
                *from = Some(mark);
            }
            let room = reads.len() < self.0.config.rebuild_reads.max(1)
                && flight.under_way.len() < UNDER_WAY_MAX
                && failed.is_none();
            tokio::select! {
                Some(numbers) = commits.next() => {
                    let numbers: Vec<u64> = numbers?;
                    for n in numbers {
                        flight.end(n);
                    }
                }
                Some(read) = reads.next() => {
                    let mut batch = Batch::default();
                    batch.take(read);
                    while batch.found.len() < BATCH_MAX && let Some(read) = ready(&mut reads).await {
                        batch.take(read);
                    }
                    // What was read is committed all the same; then the store is asked again.
                    failed = failed.or(batch.failed.take());
                    commits.push(self.commit_read(batch));
                }
                Some(item) = walk.next(), if room => match item {
                    Ok(Walked::Record(stored)) => {
                        let n = flight.begin();
                        reads.push(async move { (n, self.find(stored).await) });
                    }
                    Ok(Walked::Other { .. }) => {}
                    Ok(Walked::Unreadable { cid, why }) => {
                        self.0.rebuild.run.lock().walked += 1;
                        self.skip::<()>(&cid, &why);
                    }
                    Ok(Walked::Mark(mark)) => flight.mark(mark),
                    Err(error) => {
                        let transient = error.class().is_transient();
                        let error = EngineError::Store(Op::Rebuild, String::new(), error);
                        if !transient {
                            return Err(error);
                        }
                        failed = Some(error);
                    }
                },
                else => return Ok(failed.map_or(Pass::Done, Pass::Again)),
            }
        }
    }

    /// Commits what was read; answers the numbers of all of it.
    async fn commit_read(&self, batch: Batch<'_>) -> Result<Vec<u64>, EngineError> {
        let Batch { numbers, found, .. } = batch;
        self.0.rebuild.run.lock().walked += numbers.len() as u64;
        let changes: Vec<Change> = found.iter().map(|found| found.change.clone()).collect();
        if !changes.is_empty() {
            let applied = self.0.deps.index.apply(changes).await;
            let applied = applied.map_err(|e: IndexError| EngineError::Index(Op::Rebuild, e))?;
            self.0.rebuild.run.lock().added += applied.iter().filter(|a| a.changed).count() as u64;
        }
        drop(found);
        Ok(numbers)
    }
}

/// The next item that is there already.
async fn ready<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| match stream.poll_next_unpin(cx) {
        std::task::Poll::Ready(item) => std::task::Poll::Ready(item),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> WalkMark {
        WalkMark(text.to_owned())
    }

    #[test]
    fn a_mark_waits_for_everything_before_it() {
        let mut flight = Flight::default();
        let (a, b) = (flight.begin(), flight.begin());
        flight.mark(mark("b"));
        let c = flight.begin();
        flight.mark(mark("c"));
        assert_eq!(flight.settled(), None);
        flight.end(b);
        flight.end(c);
        assert_eq!(flight.settled(), None, "the first is under way");
        flight.end(a);
        assert_eq!(flight.settled(), Some(mark("c")), "one word for both");
        assert_eq!(flight.settled(), None, "once");
        let d = flight.begin();
        flight.mark(mark("d"));
        flight.mark(mark("e"));
        assert_eq!(flight.settled(), None);
        flight.end(d);
        assert_eq!(flight.settled(), Some(mark("e")));
    }
}
