//! What browsers ask of `agntcy.dir.search.v1.SearchService`: values to filter by, and pages of summaries.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::records::RecordCheck;
use crate::status;
use bytes::Bytes;
use dir_core::index::Row;
use dir_core::query::{Query, QueryKind};
use dir_engine::{Emptiness, Engine, LISTED};
use dir_proto::agntcy::dir::search::v1 as pb;
use dir_proto::agntcy::dir::search::v1::list_filter_values_response::FieldValues;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Trailer of an empty answer to a search: one word for programs.
const EMPTY_REASON: &str = "directory-empty-reason";
/// Trailer of an empty answer to a search: a sentence for people.
const EMPTY_DETAIL: &str = "directory-empty-detail";

pub(crate) async fn values(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, limit) = (&app.engine, app.config.max_send_msg_size);
    rpc::unary(request, |message: pb::ListFilterValuesRequest| async move {
        let mut answer = pb::ListFilterValuesResponse::default();
        for kind in fields(&message.fields)? {
            let values = engine.filter_values(kind).await.map_err(|e| status::engine(&e, &id))?;
            answer.fields.push(FieldValues { field: kind as i32, values });
        }
        sendable("filter values", encode(&answer), limit)
    })
    .await
}

/// The fields of a request: each listed, none twice; all of them when none is named.
fn fields(numbers: &[i32]) -> Result<Vec<QueryKind>, Status> {
    if numbers.is_empty() {
        return Ok(LISTED.to_vec());
    }
    let mut kinds = Vec::with_capacity(LISTED.len());
    for &number in numbers {
        let Some(kind) = QueryKind::from_number(number).filter(|kind| LISTED.contains(kind)) else {
            let known = LISTED.map(|kind| name(kind as i32)).join(", ");
            let text = format!("the values of {} are not listed; listed are {known}", name(number));
            return Err(Status::invalid_argument(text));
        };
        if kinds.contains(&kind) {
            return Err(Status::invalid_argument(format!("field {} is named twice", name(number))));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

fn name(number: i32) -> String {
    match pb::RecordQueryType::try_from(number) {
        Ok(known) => known.as_str_name().to_owned(),
        Err(_unknown) => format!("unknown query type {number}"),
    }
}

pub(crate) async fn summaries(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, limit) = (&app.engine, app.config.max_send_msg_size);
    let check = RecordCheck::by(&request);
    rpc::unary(request, |message: pb::ListRecordSummariesRequest| async move {
        let query = check.view()?.of(Query::try_from(message).map_err(status::convert)?);
        let page = engine.summaries(&query).await.map_err(|e| status::engine(&e, &id))?;
        let answer = pb::ListRecordSummariesResponse {
            records: page.rows.iter().map(summary).collect(),
            has_more: page.has_more,
            total_count: u32::try_from(page.total).unwrap_or(u32::MAX),
        };
        sendable("record summaries", encode(&answer), limit)
    })
    .await
}

fn summary(row: &Row) -> pb::RecordSummary {
    let facts = &row.facts;
    pb::RecordSummary {
        cid: row.cid.to_string(),
        name: facts.name.clone(),
        version: facts.version.clone(),
        schema_version: facts.schema_version.clone(),
        description: facts.description.clone(),
        created_at: facts.created_at.clone(),
        authors: sorted(facts.authors.iter().flatten()),
        skills: sorted(facts.skills.iter().map(|skill| &skill.name)),
        domains: sorted(facts.domains.iter().map(|domain| &domain.name)),
        modules: sorted(facts.modules.iter().map(|module| &module.name)),
    }
}

fn sorted<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.filter(|text| !text.is_empty()).cloned().collect();
    texts.sort_unstable();
    texts
}

fn sendable(what: &str, message: Bytes, limit: usize) -> Result<Bytes, Status> {
    if message.len() > limit {
        return Err(status::send_too_large(what, message.len(), limit));
    }
    Ok(message)
}

/// The end of an empty answer to a search: OK, with trailers that say why. `reads` tells whether records were read for
/// the answer.
pub(crate) async fn explained(engine: &Engine, query: &Query, reads: bool) -> Option<Status> {
    let (reason, detail) = match engine.why_empty(query).await.ok()? {
        Emptiness::NoRecords => ("no-records", "no record is stored here".to_owned()),
        // Whether one that is hidden matches is not told: that would be a way to ask about it.
        Emptiness::NoMatch if query.scope.is_some() => {
            let text = "no record that the policy lets this caller see matches the filters";
            ("filtered-by-policy", text.to_owned())
        }
        Emptiness::NoMatch => ("no-match", "no record matches the filters".to_owned()),
        Emptiness::BeyondOffset(1) => {
            ("beyond-offset", "1 record matches, and it is before the offset".to_owned())
        }
        Emptiness::BeyondOffset(matches) => {
            ("beyond-offset", format!("{matches} records match, all of them before the offset"))
        }
        // They have come since.
        Emptiness::Matching(_) if !reads => return None,
        Emptiness::Matching(1) => ("unreadable", "1 record matches, and it could not be read".to_owned()),
        Emptiness::Matching(matches) => {
            ("unreadable", format!("{matches} records match, and none of them could be read"))
        }
        Emptiness::Rebuilding => (
            "index-rebuilding",
            "the index is being rebuilt, records may be missing; ask again later".to_owned(),
        ),
    };
    let mut trailers = MetadataMap::with_capacity(2);
    trailers.insert(EMPTY_REASON, MetadataValue::from_static(reason));
    trailers.insert(EMPTY_DETAIL, MetadataValue::try_from(detail).ok()?);
    Some(Status::with_metadata(Code::Ok, "", trailers))
}
