//! What browsers of the directory ask for: the values to filter by, and pages of summaries. Both come from the index
//! alone.

use crate::{Engine, EngineError, Op};
use dir_core::index::Row;
use dir_core::query::{Query, QueryKind};

/// The kinds whose distinct values can be listed, ascending by number.
pub const LISTED: [QueryKind; 5] = [
    QueryKind::SkillName,
    QueryKind::ModuleName,
    QueryKind::DomainName,
    QueryKind::Author,
    QueryKind::SchemaVersion,
];

/// Summaries of a page when the caller does not say how many.
pub const SUMMARIES_DEFAULT: u64 = 50;

/// Summaries of a page at most.
pub const SUMMARIES_MAX: u64 = 100;

/// What there is around a page of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summaries {
    /// Whether a record beyond this page matches.
    pub has_more: bool,
    /// Distinct matches, whatever limit and offset.
    pub total: u64,
}

/// Why an answer to a search is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptiness {
    /// There are no records at all.
    NoRecords,
    /// No record matches the filters.
    NoMatch,
    /// There are so many matches, all of them before the offset.
    BeyondOffset(u64),
    /// There are so many matches that would have been the answer: they cannot be read, or have come since.
    Matching(u64),
    /// The index is being built: what matches may not be in it yet.
    Rebuilding,
}

impl Engine {
    /// The distinct values of a kind, sorted by bytes, without the empty one. The cost is that of the distinct
    /// values, however many records have each. A kind that is not [`LISTED`] is an error of the query.
    pub async fn filter_values(&self, kind: QueryKind) -> Result<Vec<String>, EngineError> {
        self.in_time(Op::Values, self.0.deps.index.values(kind)).await
    }

    /// A page of rows, handed out in the order of the query. The query's limit is the size of the page:
    /// [`SUMMARIES_DEFAULT`] when there is none, [`SUMMARIES_MAX`] at most. It ends earlier with a row that is not taken.
    pub async fn summaries(
        &self,
        query: &Query,
        mut take: impl FnMut(&Row) -> bool,
    ) -> Result<Summaries, EngineError> {
        let size = query.limit.unwrap_or(SUMMARIES_DEFAULT).min(SUMMARIES_MAX);
        let query = Query { limit: None, ..query.clone() };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let index = &self.0.deps.index;
        let work = async {
            let page = index.search(&query, None, size).await?;
            let mut has_more = page.next.is_some();
            for cid in &page.cids {
                // A record that was deleted meanwhile is left out.
                let Some(row) = index.row(cid).await? else { continue };
                if !take(&row) {
                    has_more = true;
                    break;
                }
            }
            Ok(Summaries { has_more, total: index.count(&query).await? })
        };
        self.in_time(Op::Summaries, work).await
    }

    /// Why the answer to a query was empty.
    pub async fn why_empty(&self, query: &Query) -> Result<Emptiness, EngineError> {
        if !self.0.rebuild.complete() {
            return Ok(Emptiness::Rebuilding);
        }
        if self.0.deps.index.is_empty() {
            return Ok(Emptiness::NoRecords);
        }
        match self.count(query).await? {
            0 => Ok(Emptiness::NoMatch),
            matches if matches > query.offset => Ok(Emptiness::Matching(matches)),
            matches => Ok(Emptiness::BeyondOffset(matches)),
        }
    }
}
