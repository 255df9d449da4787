//! Ingest: the one way in. All checks come before anything is stored; row and event commit together.

use crate::{Engine, EngineError, Notice, Op};
use dir_core::index::{Applied, Change, IndexError};
use dir_core::json::Doc;
use dir_core::store::{Presence, Put};
use dir_core::{Cid, EventKind, Principal, Record, RecordFacts, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Pauses between the tries of an index change whose record the store has taken already.
const INDEX_RETRY: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];
/// Longest pause between the tries of a queued repair.
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A record that passed every check and is not stored yet.
#[derive(Debug, Clone)]
pub struct Prepared {
    record: Record,
    facts: Arc<RecordFacts>,
    owner: Option<Arc<str>>,
}

impl Prepared {
    /// Its CID.
    pub const fn cid(&self) -> Cid {
        self.record.cid()
    }

    /// Who pushes it: a new record is his.
    pub fn pushed_by(mut self, who: &Principal) -> Self {
        self.owner = who.can_own().then(|| who.as_str().into());
        self
    }
}

impl Engine {
    /// Checks and stores one record, and answers when it is durable and searchable. `doc` is `None` when the
    /// message had no data; `wire_size` is the size of the whole message in bytes.
    pub async fn ingest(&self, doc: Option<Doc>, wire_size: usize) -> Result<Cid, EngineError> {
        let prepared = self.prepare(doc, wire_size).await?;
        self.commit(prepared).await
    }

    /// Refuses a message by its size alone, before anybody looks into it.
    pub fn check_size(&self, wire_size: usize) -> Result<(), EngineError> {
        let limit = self.0.config.max_record_bytes;
        if wire_size <= limit {
            return Ok(());
        }
        let megabytes = limit >> 20;
        Err(EngineError::Rejected(format!(
            "record size {wire_size} bytes exceeds maximum allowed size of {limit} bytes ({megabytes}MB)"
        )))
    }

    /// All checks, in order: size, data, canonical form, schema version, decoding, verdict of the rules.
    /// Stores nothing.
    pub async fn prepare(&self, doc: Option<Doc>, wire_size: usize) -> Result<Prepared, EngineError> {
        self.check_size(wire_size)?;
        let doc = doc.ok_or_else(|| EngineError::Rejected("record is nil".to_owned()))?;
        let record = Record::from_doc(&doc).map_err(|e| EngineError::Rejected(e.to_string()))?;
        let facts = self.0.deps.rules.facts(&doc).map_err(EngineError::Rules)?;
        // A record that is there already is judged again: rules may have changed, and their verdict decides.
        self.0.deps.rules.validate(&doc, &facts).await.map_err(EngineError::Rules)?;
        Ok(Prepared { record, facts: Arc::new(facts), owner: None })
    }

    /// Stores a checked record. Runs to its end even when the caller goes away: what is in the store is in the
    /// index as well.
    pub async fn commit(&self, prepared: Prepared) -> Result<Cid, EngineError> {
        let engine = self.clone();
        let task = self.0.commits.spawn(async move { engine.commit_now(prepared).await });
        task.await.unwrap_or(Err(EngineError::Fault(Op::Push)))
    }

    async fn commit_now(&self, prepared: Prepared) -> Result<Cid, EngineError> {
        let Prepared { record, facts, owner } = prepared;
        let cid = record.cid();
        let _pushing = self.0.events.pace().pushing();
        let _turn = self.0.stripes.lock(&cid).await;
        let now = self.0.deps.clock.now();
        let (at, first) = if self.0.deps.index.contains(&cid) {
            (now, false)
        } else {
            self.put(&record, &facts, now).await?
        };
        // Whoever pushes what is in the store already, and only the index lacks, is not the first.
        let owner = owner.filter(|_| first);
        let (facts_of, event) = (facts.clone(), Some(EventKind::RecordPushed));
        let change = Change::Put { cid, facts: facts_of, at, event, owner };
        let seq = self.apply_or_queue(change).await?.and_then(|applied| applied.seq);
        if self.0.events.wanted(EventKind::RecordPushed) {
            let labels = self.0.deps.rules.labels(&facts).into();
            self.0.events.emit(Notice { seq, at: now, kind: EventKind::RecordPushed, cid, labels });
        }
        Ok(cid)
    }

    /// Writes to the store; answers the time at which the record came in, and whether that was now.
    async fn put(
        &self,
        record: &Record,
        facts: &RecordFacts,
        now: Timestamp,
    ) -> Result<(Timestamp, bool), EngineError> {
        let cid = record.cid();
        let known = self.0.config.exclusive_store && self.0.rebuild.complete();
        let presence = if known { Presence::Absent } else { Presence::Unknown };
        let store = &self.0.deps.store;
        let fail = |e| EngineError::Store(Op::Push, cid.to_string(), e);
        match store.put(record, facts, now, presence).await.map_err(fail)? {
            Put::Stored => Ok((now, true)),
            // It came in earlier than we knew; its row must not pretend otherwise.
            Put::Existed => {
                let stored = store.resolve(&cid).await.map_err(fail)?;
                Ok((stored.and_then(|s| s.created).unwrap_or(now), false))
            }
        }
    }

    /// Commits a change whose record the store has. Tries again, then queues the change: the record is safe, and
    /// only its row is late. `None` means queued.
    async fn apply_or_queue(&self, change: Change) -> Result<Option<Applied>, EngineError> {
        let mut pauses = INDEX_RETRY.iter();
        loop {
            let error = match self.0.deps.index.apply(vec![change.clone()]).await {
                Ok(applied) => {
                    self.0.tail.wake();
                    return Ok(applied.into_iter().next());
                }
                Err(error) => error,
            };
            if matches!(error, IndexError::Closed) {
                return Err(EngineError::Index(Op::Push, error));
            }
            let Some(pause) = pauses.next() else { return self.queue(change, error).map(|()| None) };
            tokio::time::sleep(*pause).await;
        }
    }

    fn queue(&self, change: Change, error: IndexError) -> Result<(), EngineError> {
        let Ok(permit) = self.0.repairs.try_acquire() else {
            return Err(EngineError::Index(Op::Push, error));
        };
        permit.forget();
        tracing::error!(%error, "index change failed after the record was stored; queued for repair");
        self.0.stats.repairs.inc();
        let engine = self.clone();
        self.0.commits.spawn(async move {
            let mut pause = Duration::from_secs(1);
            while let Err(error) = engine.0.deps.index.apply(vec![change.clone()]).await {
                if matches!(error, IndexError::Closed) {
                    tracing::error!(
                        "index closed before a queued repair; the next rebuild takes the record in"
                    );
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(REPAIR_PAUSE_MAX);
            }
            engine.0.tail.wake();
            engine.0.repairs.add_permits(1);
        });
        Ok(())
    }
}
