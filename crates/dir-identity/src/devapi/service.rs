//! The five calls of the Workload API.

use super::jwt;
use super::world::{Answer, Endpoint, Material, World};
use crate::proto;
use bytes::Bytes;
use dir_core::{SpiffeId, TrustDomain};
use futures::Stream;
use futures::stream::{self, StreamExt};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

type Reply = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;
type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; cloned for every connection.
#[derive(Clone)]
pub(crate) struct WorkloadService(Arc<Inner>);

struct Inner {
    endpoint: Arc<Endpoint>,
    world: Arc<World>,
    stop: CancellationToken,
}

impl WorkloadService {
    pub(crate) fn new(endpoint: Arc<Endpoint>, world: Arc<World>, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner { endpoint, world, stop }))
    }
}

impl NamedService for WorkloadService {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl tower::Service<http::Request<Body>> for WorkloadService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Reply {
        let inner = self.0.clone();
        match request.uri().path() {
            proto::FETCH_X509_SVID => streaming(request, move |r| inner.x509_svids(&r)),
            proto::FETCH_X509_BUNDLES => streaming(request, move |r| inner.x509_bundles(&r)),
            proto::FETCH_JWT_BUNDLES => streaming(request, move |r| inner.jwt_bundles(&r)),
            proto::FETCH_JWT_SVID => unary(request, move |r| inner.jwt_svid(&r)),
            proto::VALIDATE_JWT_SVID => unary(request, move |r| inner.validate(&r)),
            _ => Box::pin(async { Ok(Status::unimplemented("no such call").into_http()) }),
        }
    }
}

fn streaming<Req, Res, F>(request: http::Request<Body>, answer: F) -> Reply
where
    Req: prost::Message + Default + Send + 'static,
    Res: prost::Message + Default + Send + 'static,
    F: Fn(Request<Req>) -> Result<Updates<Res>, Status> + Send + 'static,
{
    Box::pin(async move {
        let service = tower::service_fn(move |r: Request<Req>| {
            std::future::ready(guard(&r).and_then(|()| answer(r)).map(Response::new))
        });
        Ok(Grpc::new(ProstCodec::<Res, Req>::default()).server_streaming(service, request).await)
    })
}

fn unary<Req, Res, F>(request: http::Request<Body>, answer: F) -> Reply
where
    Req: prost::Message + Default + Send + 'static,
    Res: prost::Message + Default + Send + 'static,
    F: Fn(Request<Req>) -> Result<Res, Status> + Send + 'static,
{
    Box::pin(async move {
        let service = tower::service_fn(move |r: Request<Req>| {
            std::future::ready(guard(&r).and_then(|()| answer(r)).map(Response::new))
        });
        Ok(Grpc::new(ProstCodec::<Res, Req>::default()).unary(service, request).await)
    })
}

/// Keeps browsers and forged requests out: they cannot set this header.
fn guard<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get(proto::SECURITY_HEADER).map(MetadataValue::as_bytes) {
        Some(b"true") => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

fn denied() -> Status {
    Status::permission_denied("no identity issued")
}

impl Inner {
    fn x509_svids(
        &self,
        _: &Request<proto::X509SvidRequest>,
    ) -> Result<Updates<proto::X509SvidResponse>, Status> {
        self.updates(|material| Some(x509_message(material)))
    }

    fn x509_bundles(
        &self,
        _: &Request<proto::X509BundlesRequest>,
    ) -> Result<Updates<proto::X509BundlesResponse>, Status> {
        self.updates(|material| {
            let own = material.svids.iter().filter_map(|s| {
                let id: SpiffeId = s.spiffe_id.parse().ok()?;
                Some((format!("spiffe://{}", id.trust_domain()), Bytes::from(s.bundle.clone())))
            });
            Some(proto::X509BundlesResponse {
                crl: Vec::new(),
                bundles: federated(material).chain(own).collect(),
            })
        })
    }

    /// The state now and after every change, until the socket is closed or the answer is a refusal.
    fn updates<T: Send + 'static>(
        &self,
        message: impl Fn(&Material) -> Option<T> + Send + 'static,
    ) -> Result<Updates<T>, Status> {
        let answers = self.endpoint.answers();
        if let Answer::Deny = *answers.borrow() {
            return Err(denied());
        }
        let first = Source { answers, stop: self.stop.clone(), fresh: true };
        let next = |mut source: Source| async move {
            let answer = source.next().await;
            Some((answer, source))
        };
        let mut over = false;
        let stream = stream::unfold(first, next)
            .filter_map(move |answer| {
                let item = match answer {
                    Ok(Answer::Material(material)) => message(&material).map(Ok),
                    Ok(Answer::Deny) => Some(Err(denied())),
                    Ok(Answer::Unavailable(text)) => Some(Err(Status::unavailable(text))),
                    Ok(Answer::Silent) => None,
                    Err(status) => Some(Err(status)),
                };
                std::future::ready(item)
            })
            // An error is the last item.
            .take_while(move |item| {
                let go = !over;
                over = item.is_err();
                std::future::ready(go)
            });
        Ok(Box::pin(stream))
    }

    fn jwt_bundles(
        &self,
        _: &Request<proto::JwtBundlesRequest>,
    ) -> Result<Updates<proto::JwtBundlesResponse>, Status> {
        let world = self.world.clone();
        let endpoint = self.endpoint.clone();
        self.updates(move |_| {
            let document =
                |d: &TrustDomain| Some((format!("spiffe://{d}"), jwt::jwks(&world.jwt_keys(d)?).into()));
            let visible = World::visible_domains(&endpoint);
            let bundles: HashMap<String, Bytes> = visible.iter().filter_map(document).collect();
            Some(proto::JwtBundlesResponse { bundles })
        })
    }

    fn jwt_svid(&self, request: &Request<proto::JwtSvidRequest>) -> Result<proto::JwtSvidResponse, Status> {
        let wanted = request.get_ref();
        if wanted.audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        match &*self.endpoint.answers().borrow() {
            Answer::Deny => return Err(denied()),
            Answer::Unavailable(text) => return Err(Status::unavailable(text.clone())),
            Answer::Material(_) | Answer::Silent => {}
        }
        let matches = |id: &SpiffeId| wanted.spiffe_id.is_empty() || wanted.spiffe_id == id.as_str();
        let mut svids = Vec::new();
        for (id, hint) in self.endpoint.identities().into_iter().filter(|(id, _)| matches(id)) {
            let keys = self.world.jwt_keys(id.trust_domain());
            let Some(key) = keys.as_deref().and_then(<[_]>::last) else { continue };
            let token = key
                .sign(&id, &wanted.audience, self.world.now(), self.endpoint.jwt_ttl())
                .ok_or_else(|| Status::internal("the token could not be signed"))?;
            svids.push(proto::JwtSvidEntry { spiffe_id: id.to_string(), svid: token, hint });
        }
        if svids.is_empty() { Err(denied()) } else { Ok(proto::JwtSvidResponse { svids }) }
    }

    fn validate(
        &self,
        request: &Request<proto::ValidateJwtSvidRequest>,
    ) -> Result<proto::ValidateJwtSvidResponse, Status> {
        let asked = request.get_ref();
        if asked.audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let visible = World::visible_domains(&self.endpoint);
        let key =
            |domain: &TrustDomain| visible.contains(domain).then(|| self.world.jwt_keys(domain)).flatten();
        let (id, claims) = jwt::validate(&asked.svid, &asked.audience, self.world.now(), key)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(proto::ValidateJwtSvidResponse { spiffe_id: id.to_string(), claims: Some(claims) })
    }
}

/// Where a stream takes its answers from.
struct Source {
    answers: watch::Receiver<Answer>,
    stop: CancellationToken,
    fresh: bool,
}

impl Source {
    async fn next(&mut self) -> Result<Answer, Status> {
        if !std::mem::take(&mut self.fresh) {
            tokio::select! {
                () = self.stop.cancelled() => return Err(Status::unavailable("the agent is stopping")),
                changed = self.answers.changed() => {
                    changed.map_err(|_closed| Status::unavailable("the agent is stopping"))?;
                }
            }
        }
        Ok(self.answers.borrow_and_update().clone())
    }
}

fn x509_message(material: &Material) -> proto::X509SvidResponse {
    let svids = material.svids.iter().map(|s| proto::X509SvidEntry {
        spiffe_id: s.spiffe_id.clone(),
        x509_svid: s.chain.concat().into(),
        x509_svid_key: s.key.clone().into(),
        bundle: s.bundle.clone().into(),
        hint: s.hint.clone(),
    });
    proto::X509SvidResponse {
        svids: svids.collect(),
        crl: Vec::new(),
        federated_bundles: federated(material).collect(),
    }
}

fn federated(material: &Material) -> impl Iterator<Item = (String, Bytes)> + '_ {
    material.federated.iter().map(|(name, der)| (name.clone(), Bytes::from(der.clone())))
}
