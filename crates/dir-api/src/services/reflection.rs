//! `grpc.reflection.v1` and `v1alpha`, over the descriptors of everything that is served.

use crate::body::RequestBody;
use http::{Request, Response};
use std::convert::Infallible;
use tonic::body::Body;
use tonic_reflection::server::{Builder, Error};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

type Boxed = BoxCloneSyncService<Request<RequestBody>, Response<Body>, Infallible>;

/// Both versions of the service.
pub(crate) struct Reflection {
    v1: Boxed,
    v1alpha: Boxed,
}

fn builder<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(dir_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

pub(crate) fn build() -> Result<Reflection, Error> {
    Ok(Reflection {
        v1: BoxCloneSyncService::new(builder().build_v1()?),
        v1alpha: BoxCloneSyncService::new(builder().build_v1alpha()?),
    })
}

impl Reflection {
    pub(crate) async fn v1(&self, request: Request<RequestBody>) -> Response<Body> {
        ask(self.v1.clone(), request).await
    }

    pub(crate) async fn v1alpha(&self, request: Request<RequestBody>) -> Response<Body> {
        ask(self.v1alpha.clone(), request).await
    }
}

async fn ask(mut service: Boxed, request: Request<RequestBody>) -> Response<Body> {
    let Ok(service) = service.ready().await;
    let Ok(response) = service.call(request).await;
    response
}
