//! Queries over the index: what may be asked. How it is answered belongs to the index adapters.

use std::sync::Arc;

/// Query types; the numbers are those of `agntcy.dir.search.v1.RecordQueryType` (16 is not used).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the API's own
pub enum QueryKind {
    Name = 1,
    Version = 2,
    SkillId = 3,
    SkillName = 4,
    Locator = 5,
    ModuleName = 6,
    DomainId = 7,
    DomainName = 8,
    CreatedAt = 9,
    Author = 10,
    SchemaVersion = 11,
    ModuleId = 12,
    Verified = 13,
    Trusted = 14,
    Annotation = 15,
    ScanSeverity = 17,
    ScanSafe = 18,
    Description = 19,
    ScanStatus = 20,
    ScanFailureReason = 21,
    Identity = 22,
    Owner = 23,
    IdentityVerified = 24,
    OwnerVerified = 25,
}

impl QueryKind {
    /// Every kind, ascending by number.
    pub const ALL: [QueryKind; 24] = [
        QueryKind::Name,
        QueryKind::Version,
        QueryKind::SkillId,
        QueryKind::SkillName,
        QueryKind::Locator,
        QueryKind::ModuleName,
        QueryKind::DomainId,
        QueryKind::DomainName,
        QueryKind::CreatedAt,
        QueryKind::Author,
        QueryKind::SchemaVersion,
        QueryKind::ModuleId,
        QueryKind::Verified,
        QueryKind::Trusted,
        QueryKind::Annotation,
        QueryKind::ScanSeverity,
        QueryKind::ScanSafe,
        QueryKind::Description,
        QueryKind::ScanStatus,
        QueryKind::ScanFailureReason,
        QueryKind::Identity,
        QueryKind::Owner,
        QueryKind::IdentityVerified,
        QueryKind::OwnerVerified,
    ];

    /// The kind with this number of the API's enum.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as i32 == number)
    }
}

/// One filter of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What is compared.
    pub kind: QueryKind,
    /// With what; wildcards `*` and `?`, comparisons where the kind has them.
    pub value: String,
    /// Whether matching records are left out instead.
    pub negate: bool,
}

/// Order of a result; the default is [`Sort::Recency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sort {
    /// Newest in the index first, then CID ascending.
    #[default]
    Recency,
    /// Most pulled and looked up first.
    Popularity,
    /// Most providers first.
    ProviderCount,
}

/// A query. `limit` `None` means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Filters; different kinds are AND-ed, equal kinds OR-ed (see the index for the exact rules).
    pub filters: Vec<Filter>,
    /// Order of the result.
    pub sort: Sort,
    /// At most so many; `None` for all.
    pub limit: Option<u64>,
    /// Leave out so many first.
    pub offset: u64,
    /// Which records the answer may show; `None` for all. Never part of a request: the policy says it.
    pub scope: Option<Arc<Scope>>,
}

/// Which records somebody may be shown, by their labels: those with a label of every group, and none that is hidden.
/// Labels are compared by [`label_fits`](crate::policy::label_fits).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Of each group one label at least.
    pub shown: Vec<Vec<String>>,
    /// None of these.
    pub hidden: Vec<String>,
}

impl Scope {
    /// Whether a record with these labels may be shown.
    pub fn shows(&self, labels: &[String]) -> bool {
        let has = |wanted: &String| labels.iter().any(|label| crate::policy::label_fits(wanted, label));
        self.shown.iter().all(|group| group.iter().any(has)) && !self.hidden.iter().any(has)
    }

    /// Whether every record may be shown.
    pub fn is_everything(&self) -> bool {
        self.shown.is_empty() && self.hidden.is_empty()
    }

    /// What both show.
    pub fn and(mut self, other: Self) -> Self {
        self.shown.extend(other.shown);
        self.hidden.extend(other.hidden);
        self
    }
}

/// Why a query cannot be answered as asked. The texts reach clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// An id that is not an unsigned decimal of 64 bits. `what` is `skill`, `domain` or `module`.
    #[error(
        "failed to create filter options: failed to parse {what} ID \"{value}\": strconv.ParseUint: parsing \"{value}\": {why}"
    )]
    BadId {
        /// `skill`, `domain` or `module`.
        what: &'static str,
        /// The text that was sent.
        value: String,
        /// `invalid syntax` or `value out of range`.
        why: &'static str,
    },
    /// A value outside the list that the kind accepts.
    #[error("failed to create filter options: {0}")]
    BadValue(String),
}
