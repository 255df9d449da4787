//! `directory.admin.v1.AdminService`.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use dir_engine::RebuildState;
use dir_proto::convert;
use dir_proto::directory::admin::v1 as pb;
use dir_proto::directory::admin::v1::get_index_status_response::State;
use http::{Request, Response};
use tonic::body::Body;

pub(crate) async fn identity(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |_: pb::GetIdentityRequest| async move {
        let report = app.identity.as_ref().and_then(|source| source.report());
        Ok(encode(&convert::identity_response(report.as_ref(), &app.config.version, app.clock.now())))
    })
    .await
}

pub(crate) async fn index_status(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |_: pb::GetIndexStatusRequest| async move {
        let status = app.engine.rebuild_status();
        let state = match status.state {
            RebuildState::Ready => State::Ready,
            RebuildState::Pending | RebuildState::Rebuilding => State::Rebuilding,
            RebuildState::Failed => State::Failed,
        };
        Ok(encode(&pb::GetIndexStatusResponse {
            state: state.into(),
            records: status.records,
            walked: status.walked,
            added: status.added,
            started_at: status.started_at.map(convert::timestamp),
            records_per_second: status.records_per_second,
            detail: status.detail,
        }))
    })
    .await
}
