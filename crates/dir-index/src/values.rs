//! Distinct values of a field, from the dictionaries of the chunks: no record is visited.

use crate::chunk::Chunk;
use crate::core::Core;
use crate::dict::Dict;
use crate::plan::{PairField, TextField};
use dir_core::index::IndexError;
use dir_core::query::{QueryError, QueryKind};
use std::collections::HashSet;

impl Core {
    /// The distinct values of a kind, sorted by bytes, without the empty one.
    pub(crate) async fn values(&self, kind: QueryKind) -> Result<Vec<String>, IndexError> {
        let Some(dict) = dictionary(kind) else {
            return Err(QueryError::BadValue(format!("the values of {kind:?} are not listed")).into());
        };
        let chunks = self.chunks.read().clone();
        let mut found: HashSet<String> = HashSet::new();
        for chunk in chunks.iter() {
            collect(dict(&chunk.read()), &mut found);
            // Other tasks run between two chunks; here a caller that went away stops the work.
            tokio::task::yield_now().await;
        }
        let mut values: Vec<String> = found.into_iter().collect();
        values.sort_unstable();
        Ok(values)
    }
}

fn collect(dict: &Dict, found: &mut HashSet<String>) {
    dict.each_value(|text| {
        if !text.is_empty() && !found.contains(text) {
            found.insert(text.to_owned());
        }
    });
}

/// Where the values of a kind are.
fn dictionary(kind: QueryKind) -> Option<fn(&Chunk) -> &Dict> {
    Some(match kind {
        QueryKind::SkillName => |chunk| &chunk.pairs[PairField::Skill as usize].right,
        QueryKind::DomainName => |chunk| &chunk.pairs[PairField::Domain as usize].right,
        QueryKind::ModuleName => |chunk| &chunk.pairs[PairField::Module as usize].right,
        QueryKind::Author => |chunk| &chunk.texts[TextField::Author as usize],
        QueryKind::SchemaVersion => |chunk| &chunk.texts[TextField::SchemaVersion as usize],
        _ => return None,
    })
}
