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
use prost::Message;
use prost::encoding::message;
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
        let todo = || match answer.fields.as_slice() {
            [_] => {
                "this field has too many values to list; search by some of them, with wildcards".to_owned()
            }
            _ => "ask for one field at a time".to_owned(),
        };
        sendable("filter values", encode(&answer), limit, todo)
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
        let mut page =
            pb::ListRecordSummariesResponse { records: Vec::new(), has_more: true, total_count: u32::MAX };
        let mut size = page.encoded_len();
        // Whoever pushes large texts must not break the pages of everybody: what does not fit is for the next one.
        let take = |row: &Row| {
            let summary = summary(row);
            size += message::encoded_len(1, &summary);
            let fits = size <= limit || page.records.is_empty();
            if fits {
                page.records.push(summary);
            }
            fits
        };
        let around = engine.summaries(&query, take).await.map_err(|e| status::engine(&e, &id))?;
        page.has_more = around.has_more;
        page.total_count = u32::try_from(around.total).unwrap_or(u32::MAX);
        let next = query.offset.saturating_add(1);
        let todo = || format!("one record alone is too large here: go on after it, with offset {next}");
        sendable("record summaries", encode(&page), limit, todo)
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

/// `todo` says how to ask for less.
fn sendable(
    what: &str,
    message: Bytes,
    limit: usize,
    todo: impl FnOnce() -> String,
) -> Result<Bytes, Status> {
    if message.len() > limit {
        return Err(status::answer_too_large(what, message.len(), limit, &todo()));
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
