//! The schema port: whether a JSON object is an acceptable record, and what its labels are.

use crate::class::{Class, Classified};
use crate::facts::RecordFacts;
use crate::json::Doc;
use async_trait::async_trait;

/// Why a record is not acceptable, or could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The record breaks rules: all errors first, then all warnings, one text each.
    #[error("record validation failed: [{}]", .0.join(" "))]
    Rejected(Vec<String>),
    /// The validator could not be asked; the text says why.
    #[error("failed to validate record: {0}")]
    Unreachable(String),
}

impl Classified for RuleError {
    fn class(&self) -> Class {
        match self {
            RuleError::Rejected(_) => Class::Invalid,
            RuleError::Unreachable(_) => Class::Unavailable,
        }
    }
}

/// Rules that decide over a record before it is stored.
#[async_trait]
pub trait RecordRules: Send + Sync {
    /// Decodes the record as the schema version it names; a wrong version or type is an error.
    fn facts(&self, doc: &Doc) -> Result<RecordFacts, RuleError>;

    /// The full verdict: structure, or what an external validator says.
    async fn validate(&self, doc: &Doc, facts: &RecordFacts) -> Result<(), RuleError>;

    /// Labels of a record, for events and routing: `/skills/…`, `/domains/…`, `/modules/…`, `/locators/…`.
    fn labels(&self, facts: &RecordFacts) -> Vec<String>;
}
