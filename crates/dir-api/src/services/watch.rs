//! `directory.watch.v1.WatchService`.

use super::events;
use super::rpc::{self, encode};
use crate::app::Inner;
use crate::audit::Touched;
use crate::body::RequestBody;
use crate::conn::Why;
use bytes::Bytes;
use dir_core::{Cid, Event, EventKind};
use dir_engine::{WatchEnd, Watched};
use dir_proto::agntcy::dir::events::v1 as pb_events;
use dir_proto::convert;
use dir_proto::directory::watch::v1 as pb;
use dir_proto::directory::watch::v1::watch_response::Kind;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Trailer with the cursor to go on with.
const SINCE: &str = "directory-watch-since";
/// Characters shown of what is no CID: one more than a CID has.
const CID_SHOWN: usize = 60;

/// Changes from a cursor on.
pub(crate) async fn watch(
    app: &Inner,
    stopping: CancellationToken,
    request: Request<RequestBody>,
) -> Response<Body> {
    let (engine, idle) = (&app.engine, app.config.watch_bookmark_interval);
    let touched = Touched::by(&request);
    rpc::server_stream(request, |message: pb::WatchRequest| {
        touched.records(&message.cid_filters);
        if message.event_types.contains(&(EventKind::RecordPulled as i32)) {
            let text = "EVENT_TYPE_RECORD_PULLED is no change and is not in the log; use EventService.Listen";
            return Err(Status::invalid_argument(text));
        }
        refuse_unreadable(&message.cid_filters)?;
        let filter = events::filter(&message.event_types, &message.cid_filters, message.label_filters);
        let watched = engine.watch(message.since, filter, idle).map_err(|end| ended(&end))?;
        let told = watched.map(|told| told.map(|told| encoded(&told)).map_err(|end| ended(&end)));
        let stopped = stream::iter([Err(Why::Draining.status())]);
        Ok(told.take_until(stopping.cancelled_owned()).chain(stopped))
    })
    .await
}

/// A CID that cannot be one would make a watch that waits for ever for what never comes.
fn refuse_unreadable(cids: &[String]) -> Result<(), Status> {
    let unreadable = cids.iter().find_map(|text| Some((text, text.parse::<Cid>().err()?)));
    unreadable.map_or(Ok(()), |(text, error)| {
        let shown: String = text.chars().take(CID_SHOWN).collect();
        Err(Status::invalid_argument(format!("cid_filters: {shown:?}: {error}")))
    })
}

fn encoded(told: &Watched) -> Bytes {
    let (seq, kind) = match told {
        Watched::Event(event) => (event.seq, Kind::Event(message(event))),
        Watched::Bookmark(seq) => (*seq, Kind::Bookmark(pb::Bookmark {})),
    };
    encode(&pb::WatchResponse { seq, kind: Some(kind) })
}

fn message(event: &Event) -> pb_events::Event {
    pb_events::Event {
        // The place in the log tells events apart, also when they are sent again.
        id: event.seq.to_string(),
        r#type: event.kind as i32,
        timestamp: Some(convert::timestamp(event.at)),
        resource_id: event.cid.to_string(),
        labels: event.labels.clone(),
        metadata: BTreeMap::new(),
    }
}

fn ended(end: &WatchEnd) -> Status {
    let (code, since) = match end {
        WatchEnd::Expired { resume, .. } => (Code::OutOfRange, Some(*resume)),
        WatchEnd::Unknown { end, .. } => (Code::OutOfRange, Some(*end)),
        WatchEnd::Slow { resume, .. } => (Code::Aborted, Some(*resume)),
        WatchEnd::Index(error) => {
            tracing::warn!(%error, "a watch ended: event log not readable");
            (Code::Unavailable, None)
        }
    };
    let mut trailers = MetadataMap::new();
    if let Some(since) = since {
        trailers.insert(SINCE, MetadataValue::from(since));
    }
    Status::with_metadata(code, end.to_string(), trailers)
}
