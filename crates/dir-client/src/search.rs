//! Search: which records match a query, and how many.

use crate::client::{Answers, Client};
use crate::error::ClientError;
use bytes::Bytes;
use dir_core::Record;
use dir_core::query::{Query, Sort};
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, CountRecordsResponse, RecordQuery, SearchCiDsRequest, SearchCiDsResponse, SortMode,
};

const CIDS: &str = "/agntcy.dir.search.v1.SearchService/SearchCIDs";
const RECORDS: &str = "/agntcy.dir.search.v1.SearchService/SearchRecords";
/// Trailer of an empty answer.
const EMPTY_DETAIL: &str = "directory-empty-detail";
const COUNT: &str = "/agntcy.dir.search.v1.SearchService/CountRecords";

/// `SearchRecordsResponse` with its record still encoded: a length-delimited field reads as bytes too.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedRecord {
    #[prost(bytes = "bytes", tag = "1")]
    record: Bytes,
}

/// CIDs that match, in the order of the query.
pub struct Cids {
    client: Client,
    answers: Answers,
}

impl Cids {
    /// The next CID, as the server spells it.
    pub async fn next(&mut self) -> Option<Result<String, ClientError>> {
        let next = self.client.next_answer::<SearchCiDsResponse>(CIDS, &mut self.answers).await?;
        Some(next.map(|answer| answer.record_cid))
    }

    /// After the end of an empty answer: why it is empty, in a sentence, where the server says so.
    pub async fn why_empty(&mut self) -> Option<String> {
        why(&mut self.answers).await
    }
}

/// Records that match, in the order of the query.
pub struct Records {
    client: Client,
    answers: Answers,
}

impl Records {
    /// The next record, in canonical form.
    pub async fn next(&mut self) -> Option<Result<Record, ClientError>> {
        let next = self.client.next_answer::<EncodedRecord>(RECORDS, &mut self.answers).await?;
        Some(next.and_then(|answer| {
            crate::document::canonical_of(&answer.record)
                .map(Record::from_canonical)
                .map_err(|e| self.client.garbled(RECORDS, &e))
        }))
    }

    /// After the end of an empty answer: why it is empty, in a sentence, where the server says so.
    pub async fn why_empty(&mut self) -> Option<String> {
        why(&mut self.answers).await
    }
}

async fn why(answers: &mut Answers) -> Option<String> {
    let trailers = answers.trailers().await.ok()??;
    trailers.get(EMPTY_DETAIL)?.to_str().ok().map(str::to_owned)
}

impl Client {
    /// The CIDs of matching records.
    pub async fn search_cids(&self, query: &Query) -> Result<Cids, ClientError> {
        let answers = self.listen(CIDS, &request(query)).await?;
        Ok(Cids { client: self.clone(), answers })
    }

    /// Matching records. The server leaves out what it cannot read.
    pub async fn search_records(&self, query: &Query) -> Result<Records, ClientError> {
        // SearchRecordsRequest has the fields and numbers of SearchCIDsRequest.
        let answers = self.listen(RECORDS, &request(query)).await?;
        Ok(Records { client: self.clone(), answers })
    }

    /// How many records match; limit, offset and order of the query play no part.
    pub async fn count(&self, query: &Query) -> Result<u32, ClientError> {
        let request = CountRecordsRequest { queries: queries(query) };
        let answer: CountRecordsResponse = self.unary(COUNT, &request).await?;
        Ok(answer.total_count)
    }
}

fn request(query: &Query) -> SearchCiDsRequest {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    SearchCiDsRequest {
        queries: queries(query),
        limit: query.limit.map(number),
        offset: (query.offset > 0).then(|| number(query.offset)),
        sort_mode: sort_mode(query.sort) as i32,
    }
}

fn sort_mode(sort: Sort) -> SortMode {
    match sort {
        Sort::Recency => SortMode::Unspecified,
        Sort::Popularity => SortMode::Popularity,
        Sort::ProviderCount => SortMode::ProviderCount,
    }
}

fn queries(query: &Query) -> Vec<RecordQuery> {
    let wire = |filter: &dir_core::query::Filter| RecordQuery {
        r#type: filter.kind as i32,
        value: filter.value.clone(),
        negate: filter.negate,
    };
    query.filters.iter().map(wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_core::query::{Filter, QueryKind};
    use dir_proto::agntcy::dir::search::v1::SearchRecordsRequest;
    use prost::Message;

    #[test]
    fn one_encoding_serves_both_searches() {
        let query = Query {
            filters: vec![Filter { kind: QueryKind::Description, value: "*a*".into(), negate: true }],
            sort: Sort::Popularity,
            limit: Some(7),
            offset: 3,
            scope: None,
        };
        let cids = request(&query);
        let records = SearchRecordsRequest::decode(cids.encode_to_vec().as_slice()).unwrap();
        assert_eq!(records.queries, cids.queries);
        assert_eq!((records.limit, records.offset, records.sort_mode), (Some(7), Some(3), cids.sort_mode));
        assert_eq!((cids.queries[0].r#type, cids.queries[0].negate), (19, true));
        assert_eq!(request(&Query::default()).limit, None);
    }
}
