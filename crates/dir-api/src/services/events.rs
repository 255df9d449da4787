//! `agntcy.dir.events.v1.EventService`.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::audit::Touched;
use crate::body::RequestBody;
use crate::conn::Why;
use bytes::Bytes;
use dir_core::EventKind;
use dir_engine::{EventFilter, Notice};
use dir_proto::agntcy::dir::events::v1 as pb;
use dir_proto::convert;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// Live events. The subscription is there before the answer's headers are.
pub(crate) async fn listen(
    app: &Inner,
    stopping: CancellationToken,
    request: Request<RequestBody>,
) -> Response<Body> {
    let (events, touched) = (app.engine.events(), Touched::by(&request));
    rpc::server_stream(request, |message: pb::ListenRequest| {
        touched.records(&message.cid_filters);
        let wanted = filter(&message.event_types, &message.cid_filters, message.label_filters);
        let listener = events.listen_to(wanted);
        let told = stream::unfold(listener, |mut listener| async move {
            let told = listener.told().await?;
            Some((Ok(told.message(encoded)), listener))
        });
        let stopped = stream::iter([Err(Why::Draining.status())]);
        Ok(told.take_until(stopping.cancelled_owned()).chain(stopped))
    })
    .await
}

/// The filter of a request. An empty kind does not restrict; a number or a text that no event can have is kept as
/// a restriction that nothing meets.
pub(crate) fn filter(types: &[i32], cids: &[String], labels: Vec<String>) -> EventFilter {
    EventFilter {
        kinds: (!types.is_empty())
            .then(|| types.iter().filter_map(|&number| EventKind::from_number(number)).collect()),
        cids: (!cids.is_empty()).then(|| cids.iter().filter_map(|text| text.parse().ok()).collect()),
        labels: (!labels.is_empty()).then_some(labels),
    }
}

fn encoded(notice: &Notice) -> Bytes {
    encode(&pb::ListenResponse {
        event: Some(pb::Event {
            id: uuid::Uuid::new_v4().to_string(),
            r#type: notice.kind as i32,
            timestamp: Some(convert::timestamp(notice.at)),
            resource_id: notice.cid.to_string(),
            labels: notice.labels.to_vec(),
            metadata: BTreeMap::new(),
        }),
    })
}
