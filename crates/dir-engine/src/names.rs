//! Names: which records a name stands for.

use crate::{Engine, EngineError, Op};
use dir_core::Cid;
use dir_core::query::{Filter, Query, QueryKind};
use futures::stream::{Stream, StreamExt, TryStreamExt};

/// Beginnings of names that say how a name is verified. A name that is asked for without one is looked for with
/// each of them as well.
const SCHEMES: [&str; 2] = ["http://", "https://"];

/// A record of a name, in the spelling of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The record.
    pub cid: Cid,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Engine {
    /// The records of a name, the newest in the index first, page by page; the whole result is never held.
    ///
    /// Case is ignored, and `*` and `?` are wildcards. An empty `version` does not restrict; another is a filter as
    /// for a search by version. A name of nothing at all is [`EngineError::NameRequired`], one that no record has
    /// is an empty stream: see [`Engine::no_such_name`].
    pub fn resolve(
        &self,
        name: &str,
        version: &str,
    ) -> Result<impl Stream<Item = Result<Named, EngineError>> + Send + use<>, EngineError> {
        if name.is_empty() {
            return Err(EngineError::NameRequired);
        }
        let engine = self.clone();
        let pages = self.pages(Op::Resolve, name_query(name, version));
        let cids = pages.map_ok(|cids| futures::stream::iter(cids.into_iter().map(Ok))).try_flatten();
        Ok(cids.try_filter_map(move |cid| {
            let engine = engine.clone();
            async move {
                let row = engine.0.deps.index.row(&cid).await;
                let row = row.map_err(|e| EngineError::Index(Op::Resolve, e))?;
                // A record that was deleted meanwhile has no name any more.
                Ok(row.map(|row| Named {
                    cid,
                    name: row.facts.name.clone(),
                    version: row.facts.version.clone(),
                }))
            }
        }))
    }

    /// The newest record of a name.
    pub async fn resolve_newest(&self, name: &str, version: &str) -> Result<Named, EngineError> {
        let mut found = std::pin::pin!(self.resolve(name, version)?);
        match found.next().await {
            Some(newest) => newest,
            None => Err(Self::no_such_name(name, version)),
        }
    }

    /// What to answer for a name without records.
    pub fn no_such_name(name: &str, version: &str) -> EngineError {
        EngineError::NoSuchName { name: name.to_owned(), version: version.to_owned() }
    }
}

fn name_query(name: &str, version: &str) -> Query {
    let filter = |kind, value: String| Filter { kind, value, negate: false };
    let mut filters = vec![filter(QueryKind::Name, name.to_owned())];
    if !SCHEMES.iter().any(|scheme| name.starts_with(scheme)) {
        filters.extend(SCHEMES.iter().map(|scheme| filter(QueryKind::Name, format!("{scheme}{name}"))));
    }
    if !version.is_empty() {
        filters.push(filter(QueryKind::Version, version.to_owned()));
    }
    Query { filters, ..Query::default() }
}
