//! Delete: the manifest and its referrers, the row with everything that depends on it, the cached message.

use crate::{Engine, EngineError, Notice, Op};
use dir_core::index::Change;
use dir_core::{Cid, EventKind};
use std::sync::Arc;

impl Engine {
    /// Deletes a record. The store comes first: when it fails nothing has changed, and when the process dies in
    /// between, the same call again takes the row out.
    pub async fn delete(&self, cid: &Cid) -> Result<(), EngineError> {
        let engine = self.clone();
        let cid = *cid;
        let task = self.0.commits.spawn(async move { engine.delete_now(cid).await });
        task.await.unwrap_or(Err(EngineError::Fault(Op::Delete)))
    }

    async fn delete_now(&self, cid: Cid) -> Result<(), EngineError> {
        let _turn = self.0.stripes.lock(&cid).await;
        let deps = &self.0.deps;
        self.0.rebuild.note_deletion(&cid);
        let stored = deps.store.delete(&cid).await.map_err(|e| EngineError::store(Op::Delete, &cid, e));
        self.0.cache.remove(&cid);
        let stored = stored?;
        if !stored && !deps.index.contains(&cid) {
            return Err(EngineError::NotFound(Op::Delete, cid.to_string()));
        }
        let at = deps.clock.now();
        let kind = EventKind::RecordDeleted;
        let change = Change::Delete { cid, at, event: Some(kind) };
        let applied = deps.index.apply(vec![change]).await.map_err(|e| EngineError::Index(Op::Delete, e))?;
        self.0.usage.forget(&cid);
        self.0.tail.wake();
        let seq = applied.first().and_then(|a| a.seq);
        self.0.events.emit(Notice { seq, at, kind, cid, labels: Arc::default() });
        Ok(())
    }
}
