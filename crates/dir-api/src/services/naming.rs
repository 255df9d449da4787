//! `agntcy.dir.naming.v1.NamingService` and `agntcy.dir.identity.v1.IdentityService`: one implementation. Requests and
//! answers of `Resolve` are the same message in both packages; the requests for a state have the same fields.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::audit::Touched;
use crate::body::RequestBody;
use crate::status;
use bytes::Bytes;
use dir_engine::Named;
use dir_proto::agntcy::dir::core::v1::NamedRecordRef;
use dir_proto::agntcy::dir::identity::v1 as identity;
use dir_proto::agntcy::dir::naming::v1 as naming;
use futures::StreamExt;
use http::{HeaderValue, Request, Response};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// What clients take as "not yet".
const NOT_VERIFIED: &str = "no verification found";

pub(crate) async fn resolve(app: &Inner, id: HeaderValue, request: Request<RequestBody>) -> Response<Body> {
    let (engine, limit) = (&app.engine, app.config.max_send_msg_size);
    let touched = Touched::by(&request);
    rpc::unary(request, |message: naming::ResolveRequest| async move {
        touched.name(&message.name);
        let version = message.version.unwrap_or_default();
        let fail = |e| status::engine(&e, &id);
        let mut found = std::pin::pin!(engine.resolve(&message.name, &version).map_err(fail)?);
        let mut answer = naming::ResolveResponse::default();
        let mut size = 0;
        while let Some(named) = found.next().await {
            let reference = reference(named.map_err(fail)?);
            // Tag and length of a reference take at least two bytes.
            size += reference.encoded_len() + 2;
            if size > limit {
                let todo = "ask for a version, or for a name with fewer records";
                return Err(status::answer_too_large("records of a name", size, limit, todo));
            }
            answer.records.push(reference);
        }
        if answer.records.is_empty() {
            return Err(fail(dir_engine::Engine::no_such_name(&message.name, &version)));
        }
        Ok(encode(&answer))
    })
    .await
}

fn reference(named: Named) -> NamedRecordRef {
    NamedRecordRef { name: named.name, version: named.version, cid: named.cid.to_string() }
}

/// No name has been verified as long as nothing writes rows of verifications.
pub(crate) async fn verification(
    app: &Inner,
    id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    state::<naming::GetVerificationInfoRequest>(app, id, request, || {
        encode(&naming::GetVerificationInfoResponse {
            verified: false,
            verification: None,
            error_message: Some(NOT_VERIFIED.to_owned()),
        })
    })
    .await
}

/// A claim that is not verified is left out, and none is as long as nothing writes rows of claims.
pub(crate) async fn identity_status(
    app: &Inner,
    id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    let empty = || encode(&identity::GetIdentityStatusResponse::default());
    state::<identity::GetIdentityStatusRequest>(app, id, request, empty).await
}

/// A request for the state of a record.
trait AsksState: Message + Default {
    /// CID, name and version.
    fn parts(self) -> [Option<String>; 3];
}

impl AsksState for naming::GetVerificationInfoRequest {
    fn parts(self) -> [Option<String>; 3] {
        [self.cid, self.name, self.version]
    }
}

impl AsksState for identity::GetIdentityStatusRequest {
    fn parts(self) -> [Option<String>; 3] {
        [self.cid, self.name, self.version]
    }
}

/// The state of the record that a request names: by CID, which is taken as it is, or as the newest of a name.
async fn state<M: AsksState>(
    app: &Inner,
    id: HeaderValue,
    request: Request<RequestBody>,
    answer: impl FnOnce() -> Bytes,
) -> Response<Body> {
    let (engine, touched) = (&app.engine, Touched::by(&request));
    rpc::unary(request, |message: M| async move {
        let [cid, name, version] = message.parts().map(Option::unwrap_or_default);
        if let Ok(cid) = cid.parse() {
            touched.record(cid);
        }
        if cid.is_empty() {
            touched.name(&name);
            if name.is_empty() {
                return Err(Status::invalid_argument("either cid or name is required"));
            }
            engine.resolve_newest(&name, &version).await.map_err(|e| status::engine(&e, &id))?;
        }
        Ok(answer())
    })
    .await
}
