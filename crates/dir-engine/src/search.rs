//! Search and count over the index; search results with their records.

use crate::{Engine, EngineError, Op};
use bytes::Bytes;
use dir_core::index::{Cursor, IndexError, Work};
use dir_core::query::Query;
use dir_core::{Cid, Record};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use std::error::Error;
use std::future::Future;

impl Engine {
    /// Live records of the index.
    pub fn indexed(&self) -> u64 {
        self.0.deps.index.len()
    }

    /// Why the index takes no changes, if that is so.
    pub fn index_impairment(&self) -> Option<String> {
        self.0.deps.index.impairment()
    }

    /// Changes that a watch can still be told.
    pub fn events_kept(&self) -> u64 {
        let span = self.0.deps.index.event_span();
        span.next - span.oldest
    }

    /// What queries have cost since the start.
    pub fn query_work(&self) -> Work {
        self.0.deps.index.work()
    }

    /// Matching CIDs in order, page by page; the whole result is never held. Ends the work when dropped.
    pub fn search(&self, query: Query) -> impl Stream<Item = Result<Vec<Cid>, EngineError>> + Send + use<> {
        self.pages(Op::Search, query)
    }

    /// Pages of a search that is part of `op`.
    pub(crate) fn pages(
        &self,
        op: Op,
        query: Query,
    ) -> impl Stream<Item = Result<Vec<Cid>, EngineError>> + Send + use<> {
        let engine = self.clone();
        let begin = Some(None::<Cursor>);
        stream::try_unfold((engine, query, begin), move |(engine, query, at)| async move {
            let Some(after) = at else { return Ok(None) };
            let max = engine.0.config.page_size;
            let page = engine.0.deps.index.search(&query, after.as_ref(), max);
            let page = engine.in_time(op, page).await?;
            let next = page.next.map(Some);
            Ok(Some((page.cids, (engine, query, next))))
        })
    }

    /// Matching records as messages, in order. They are read several at a time; one that cannot be read is left
    /// out and counted. What is not in memory waits for `gate`, and keeps what it gives until the message is handed
    /// over: whoever asks several times at once is bounded by it.
    pub fn search_records<F, E, N, G, P>(
        &self,
        query: Query,
        encode: F,
        gate: N,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + use<F, E, N, G, P>
    where
        F: Fn(&Record) -> Result<Bytes, E> + Copy + Send + Sync + 'static,
        E: Error + Send + Sync + 'static,
        N: Fn() -> G + Send + 'static,
        G: Future<Output = P> + Send + 'static,
        P: Send + 'static,
    {
        let engine = self.clone();
        let reads = self.0.config.search_reads.max(1);
        self.search(query)
            .map_ok(|cids| stream::iter(cids.into_iter().map(Ok)))
            .try_flatten()
            .map(move |cid| {
                let (engine, pass) = (engine.clone(), gate());
                async move {
                    let cid = cid?;
                    if let Some(hit) = engine.cached(&cid) {
                        return Ok((Some(hit), None));
                    }
                    let pass = pass.await;
                    Ok((engine.read_or_skip(cid, encode).await?, Some(pass)))
                }
            })
            .buffered(reads)
            .try_filter_map(|(found, _pass)| async move { Ok(found) })
    }

    async fn read_or_skip<E>(
        &self,
        cid: Cid,
        encode: impl Fn(&Record) -> Result<Bytes, E>,
    ) -> Result<Option<Bytes>, EngineError>
    where
        E: Error + Send + Sync + 'static,
    {
        match self.read(Op::Pull, &cid, encode).await {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                self.0.stats.search_skipped.inc();
                let detail = error.detail();
                tracing::warn!(%cid, %error, detail, "search result left out: its record cannot be read");
                Ok(None)
            }
        }
    }

    /// Counts a result that its reader had to leave out.
    pub fn result_left_out(&self) {
        self.0.stats.search_skipped.inc();
    }

    /// Number of distinct matching records.
    pub async fn count(&self, query: &Query) -> Result<u64, EngineError> {
        self.in_time(Op::Count, self.0.deps.index.count(query)).await
    }

    pub(crate) async fn in_time<T>(
        &self,
        op: Op,
        work: impl Future<Output = Result<T, IndexError>>,
    ) -> Result<T, EngineError> {
        let limit = self.0.config.query_timeout;
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer.map_err(|e| EngineError::Index(op, e)),
            Err(_elapsed) => Err(EngineError::IndexTimeout(op, limit)),
        }
    }
}
