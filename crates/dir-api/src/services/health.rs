//! `grpc.health.v1.Health`: one service, named `""`, that mirrors readiness.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::conn::Why;
use bytes::Bytes;
use futures::future::Either;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use std::collections::HashMap;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// `grpc.health.v1.HealthListRequest`, which the generated code does not have.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthListRequest {}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthListResponse {
    #[prost(map = "string, message", tag = "1")]
    statuses: HashMap<String, HealthCheckResponse>,
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving(ready: bool) -> ServingStatus {
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

pub(crate) async fn check(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    let ready = *app.ready.borrow();
    rpc::unary(request, |message: HealthCheckRequest| async move {
        if message.service.is_empty() {
            Ok(encode(&answer(serving(ready))))
        } else {
            Err(Status::not_found("unknown service"))
        }
    })
    .await
}

pub(crate) async fn list(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    let ready = *app.ready.borrow();
    rpc::unary(request, |_: HealthListRequest| async move {
        let statuses = HashMap::from([(String::new(), answer(serving(ready)))]);
        Ok(encode(&HealthListResponse { statuses }))
    })
    .await
}

/// The state now, and again whenever it changes. Ends with its connection, or when the process stops.
pub(crate) async fn watch(
    app: &Inner,
    stopping: CancellationToken,
    request: Request<RequestBody>,
) -> Response<Body> {
    let ready = app.ready.clone();
    rpc::server_stream(request, |message: HealthCheckRequest| {
        let states = if message.service.is_empty() {
            Either::Left(changes(ready))
        } else {
            let unknown = stream::iter([Ok(encode(&answer(ServingStatus::ServiceUnknown)))]);
            Either::Right(unknown.chain(stream::pending()))
        };
        let stopped = stream::iter([Err(Why::Draining.status())]);
        Ok(states.take_until(stopping.cancelled_owned()).chain(stopped))
    })
    .await
}

fn changes(ready: tokio::sync::watch::Receiver<bool>) -> impl futures::Stream<Item = Result<Bytes, Status>> {
    let mut last = None;
    WatchStream::new(ready).filter_map(move |ready| {
        let fresh = last.replace(ready) != Some(ready);
        std::future::ready(fresh.then(|| Ok(encode(&answer(serving(ready))))))
    })
}
