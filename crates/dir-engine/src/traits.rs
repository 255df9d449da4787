//! What policies ask of a record.

use crate::{Engine, EngineError, Op};
use dir_core::Cid;
use dir_core::policy::RecordTraits;

impl Engine {
    /// Owner and labels of a record, as far as the index knows them. A record that nobody has is one of which nothing is
    /// known: whoever may not see it does not learn that it is not there.
    pub async fn traits(&self, cid: &Cid) -> Result<RecordTraits, EngineError> {
        let fail = |error| EngineError::Index(Op::Lookup, error);
        let index = &self.0.deps.index;
        let row = index.row(cid).await.map_err(fail)?;
        // The owner of a record that is not there (yet) is nobody's business.
        let Some(row) = row else { return Ok(RecordTraits::default()) };
        let owner = index.owner(cid).await.map_err(fail)?.map(|owner| owner.to_string());
        Ok(RecordTraits { owner, labels: Some(self.0.deps.rules.labels(&row.facts)) })
    }
}
