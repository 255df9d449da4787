//! What a comparison sets right: rows without a record go, records without a row come in.

use super::reconcile::{Drift, SAMPLES};
use crate::{Engine, EngineError, Notice, Op};
use dir_core::event::EventKind;
use dir_core::index::Change;
use dir_core::store::StoreError;
use dir_core::{Cid, Class, Classified, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::Arc;

/// Names that are no records and are remembered, so that they are not looked at each time.
const REMEMBERED: usize = 1_000_000;
/// A name that cannot be taken in is tried again after this many milliseconds, then after twice as many, …
const RETRY_FIRST: i64 = 60_000;
/// … and at least this often.
const RETRY_MAX: i64 = 24 * 3_600_000;

/// Names that are looked at at the same time: a registry that is slow to answer answers others too.
const LOOKS: usize = 4;

/// What is known of names that are not in the index.
#[derive(Default)]
pub(super) struct Memory {
    /// Not records, and how often that was seen. A name that was deleted after it was listed is seen so once.
    others: HashMap<Cid, u8>,
    /// Records that could not be taken in: how often, and when to try again.
    failing: HashMap<Cid, (u32, Timestamp)>,
}

impl Memory {
    /// Whether a name that the index does not know is to be looked at now.
    pub(super) fn wants(&self, cid: &Cid, now: Timestamp) -> bool {
        let is_other = self.others.get(cid).is_some_and(|seen| *seen >= 2);
        let waits = self.failing.get(cid).is_some_and(|(_, next)| *next > now);
        !waits && !is_other
    }

    fn learn(&mut self, cid: Cid, taken: &Taken, now: Timestamp) {
        match taken {
            Taken::Known => {}
            Taken::Added => {
                self.failing.remove(&cid);
            }
            Taken::NoRecord if self.others.len() >= REMEMBERED => {}
            Taken::NoRecord => {
                let seen = self.others.entry(cid).or_default();
                *seen = seen.saturating_add(1);
            }
            Taken::Skipped => {
                let (tries, next) = self.failing.entry(cid).or_insert((0, now));
                *next = Timestamp(now.0 + (RETRY_FIRST << (*tries).min(20)).min(RETRY_MAX));
                *tries += 1;
            }
        }
    }
}

/// What became of a name.
enum Taken {
    Added,
    Known,
    NoRecord,
    Skipped,
}

impl Engine {
    pub(super) async fn take_out(&self, gone: &[Cid]) -> Result<u64, EngineError> {
        let mut removed = 0;
        for cid in gone {
            let _turn = self.0.stripes.lock(cid).await;
            // Once more, now that nobody else changes it.
            if !self.is_gone(cid).await? {
                continue;
            }
            self.0.cache.remove(cid);
            let at = self.0.deps.clock.now();
            let kind = EventKind::RecordDeleted;
            let change = Change::Delete { cid: *cid, at, event: Some(kind) };
            let applied = self.0.deps.index.apply(vec![change]).await;
            let applied = applied.map_err(|e| EngineError::Index(Op::Reconcile, e))?;
            self.0.tail.wake();
            tracing::warn!(%cid, "record is gone from the store; its row was taken out of the index");
            let seq = applied.first().and_then(|a| a.seq);
            self.0.events.emit(Notice { seq, at, kind, cid: *cid, labels: Arc::default() });
            removed += u64::from(applied.first().is_some_and(|a| a.changed));
        }
        Ok(removed)
    }

    pub(super) async fn take_in(
        &self,
        unknown: Vec<Cid>,
        repair: bool,
        drift: &mut Drift,
    ) -> Result<(), EngineError> {
        let looked = stream::iter(unknown)
            .map(|cid| async move { self.take_name(cid, repair).await.map(|taken| (cid, taken)) });
        let mut looked = std::pin::pin!(looked.buffered(LOOKS.min(self.0.config.rebuild_reads.max(1))));
        while let Some((cid, taken)) = looked.try_next().await? {
            self.0.jobs.memory.lock().learn(cid, &taken, self.0.deps.clock.now());
            match taken {
                Taken::Known | Taken::NoRecord => continue,
                Taken::Added => drift.added += u64::from(repair),
                Taken::Skipped => drift.skipped += 1,
            }
            drift.missing_in_index += 1;
            if drift.samples_missing_in_index.len() < SAMPLES {
                drift.samples_missing_in_index.push(cid);
            }
        }
        Ok(())
    }

    /// Looks at a name that the index does not know, and takes it in when it is a record.
    async fn take_name(&self, cid: Cid, repair: bool) -> Result<Taken, EngineError> {
        if !repair {
            return Ok(match self.0.deps.store.resolve(&cid).await {
                Ok(Some(_)) => Taken::Added,
                Ok(None) => Taken::NoRecord,
                Err(error @ StoreError::BadManifest(_)) => {
                    tracing::warn!(%cid, %error, "record left out of the index");
                    Taken::Skipped
                }
                Err(error) => return Err(EngineError::Store(Op::Reconcile, cid.to_string(), error)),
            });
        }
        let found = match self.find_named(&cid).await {
            Ok((Some(found), _)) => found,
            Ok((None, false)) => return Ok(Taken::NoRecord),
            Ok((None, true)) if self.0.deps.index.contains(&cid) => return Ok(Taken::Known),
            Ok((None, true)) => return Ok(Taken::Skipped),
            Err(error) if error.class() == Class::Corrupt => return Ok(Taken::Skipped),
            Err(error) => return Err(error),
        };
        let applied = self.0.deps.index.apply(vec![found.change.clone()]).await;
        let applied = applied.map_err(|e| EngineError::Index(Op::Reconcile, e))?;
        self.0.tail.wake();
        let kind = EventKind::RecordPushed;
        if let (Change::Put { facts, at, .. }, true) = (&found.change, self.0.events.wanted(kind)) {
            let labels = self.0.deps.rules.labels(facts).into();
            let at = *at;
            let seq = applied.first().and_then(|a| a.seq);
            self.0.events.emit(Notice { seq, at, kind, cid, labels });
        }
        Ok(Taken::Added)
    }
}
