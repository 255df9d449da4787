//! Requests of searches, counts, names and events, encoded once.

use crate::records::Asked;
use bytes::Bytes;
use dir_core::EventKind;
use dir_proto::agntcy::dir::events::v1::ListenRequest;
use dir_proto::agntcy::dir::naming::v1::ResolveRequest;
use dir_proto::agntcy::dir::search::v1::{CountRecordsRequest, RecordQuery, SearchCiDsRequest};
use prost::Message;

fn queries(asked: &[Asked]) -> Vec<RecordQuery> {
    let query = |(kind, value): &Asked| RecordQuery {
        r#type: *kind as i32,
        value: (*value).to_owned(),
        negate: false,
    };
    asked.iter().map(query).collect()
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// At most fifty CIDs.
pub(crate) fn search(asked: &[Asked]) -> Bytes {
    encoded(&SearchCiDsRequest { queries: queries(asked), limit: Some(50), ..Default::default() })
}

pub(crate) fn count(asked: &[Asked]) -> Bytes {
    encoded(&CountRecordsRequest { queries: queries(asked) })
}

pub(crate) fn resolve(name: String) -> Bytes {
    encoded(&ResolveRequest { name, version: None })
}

/// Events of pushes.
pub(crate) fn pushes() -> Bytes {
    encoded(&ListenRequest { event_types: vec![EventKind::RecordPushed as i32], ..Default::default() })
}
