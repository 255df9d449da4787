//! Pure conversions between wire and core. Nothing here reads a clock or decides a policy.

use crate::agntcy::dir::core::v1::RecordRef;
use crate::agntcy::dir::search::v1 as search;
use crate::directory::admin::v1 as admin;
use dir_core::identity::{BundleReport, IdentityReport};
use dir_core::query::{Filter, Query, QueryKind, Sort};
use dir_core::{Cid, Class, Classified, Timestamp};

/// Why a message has no meaning here. The texts reach clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A number outside `agntcy.dir.search.v1.RecordQueryType`. Skipping it would widen the result silently.
    #[error(
        "failed to create filter options: unknown query type {0}; see agntcy.dir.search.v1.RecordQueryType"
    )]
    UnknownQueryType(i32),
}

impl Classified for ConvertError {
    fn class(&self) -> Class {
        match self {
            ConvertError::UnknownQueryType(_) => Class::Invalid,
        }
    }
}

/// Filters of a request. Type 0 is skipped; an unknown type is an error that names it.
pub fn filters(queries: Vec<search::RecordQuery>) -> Result<Vec<Filter>, ConvertError> {
    queries
        .into_iter()
        .filter(|query| query.r#type != search::RecordQueryType::Unspecified as i32)
        .map(|search::RecordQuery { r#type, value, negate }| {
            let kind = QueryKind::from_number(r#type).ok_or(ConvertError::UnknownQueryType(r#type))?;
            Ok(Filter { kind, value, negate })
        })
        .collect()
}

/// Order of a result. RELEVANCE is a notion of clients; it and unknown numbers are RECENCY.
fn sort(mode: i32) -> Sort {
    match search::SortMode::try_from(mode) {
        Ok(search::SortMode::Popularity) => Sort::Popularity,
        Ok(search::SortMode::ProviderCount) => Sort::ProviderCount,
        _ => Sort::Recency,
    }
}

/// A limit of 0 or none at all is unlimited.
fn query(
    queries: Vec<search::RecordQuery>,
    limit: Option<u32>,
    offset: Option<u32>,
    sort_mode: i32,
) -> Result<Query, ConvertError> {
    Ok(Query {
        filters: filters(queries)?,
        sort: sort(sort_mode),
        limit: limit.filter(|n| *n > 0).map(u64::from),
        offset: offset.map_or(0, u64::from),
        scope: None,
    })
}

impl TryFrom<search::SearchCiDsRequest> for Query {
    type Error = ConvertError;

    fn try_from(r: search::SearchCiDsRequest) -> Result<Self, ConvertError> {
        query(r.queries, r.limit, r.offset, r.sort_mode)
    }
}

impl TryFrom<search::SearchRecordsRequest> for Query {
    type Error = ConvertError;

    fn try_from(r: search::SearchRecordsRequest) -> Result<Self, ConvertError> {
        query(r.queries, r.limit, r.offset, r.sort_mode)
    }
}

impl TryFrom<search::ListRecordSummariesRequest> for Query {
    type Error = ConvertError;

    fn try_from(r: search::ListRecordSummariesRequest) -> Result<Self, ConvertError> {
        query(r.queries, r.limit, r.offset, r.sort_mode)
    }
}

impl TryFrom<search::CountRecordsRequest> for Query {
    type Error = ConvertError;

    fn try_from(r: search::CountRecordsRequest) -> Result<Self, ConvertError> {
        Ok(Query { filters: filters(r.queries)?, ..Query::default() })
    }
}

impl From<&Cid> for RecordRef {
    fn from(cid: &Cid) -> Self {
        RecordRef { cid: cid.to_string() }
    }
}

/// Time on the wire, to the millisecond.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = i32::try_from(at.0.rem_euclid(1000)).unwrap_or_default();
    prost_types::Timestamp { seconds: at.secs(), nanos: millis * 1_000_000 }
}

/// Time from the wire, cut to the millisecond; `None` when it is malformed or out of range.
pub fn core_timestamp(at: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return None;
    }
    at.seconds.checked_mul(1000)?.checked_add(i64::from(at.nanos / 1_000_000)).map(Timestamp)
}

impl From<&BundleReport> for admin::Bundle {
    fn from(bundle: &BundleReport) -> Self {
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            source: bundle.source.clone(),
            authorities: u32::try_from(bundle.authorities).unwrap_or(u32::MAX),
            updated_at: Some(timestamp(bundle.updated_at)),
            earliest_expiry: bundle.earliest_expiry.map(timestamp),
        }
    }
}

/// What a node answers about its own identity; `None` is a node without one.
pub fn identity_response(
    report: Option<&IdentityReport>,
    version: &str,
    now: Timestamp,
) -> admin::GetIdentityResponse {
    let head = admin::GetIdentityResponse {
        version: version.to_owned(),
        now: Some(timestamp(now)),
        ..Default::default()
    };
    let Some(report) = report else { return head };
    admin::GetIdentityResponse {
        spiffe_id: report.id.to_string(),
        trust_domain: report.id.trust_domain().to_string(),
        dns_names: report.dns_names.clone(),
        svid_serial: report.serial.clone(),
        svid_not_before: Some(timestamp(report.not_before)),
        svid_not_after: Some(timestamp(report.not_after)),
        generation: report.generation,
        bundles: report.bundles.iter().map(admin::Bundle::from).collect(),
        ..head
    }
}
