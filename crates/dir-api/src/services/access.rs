//! `ExplainAccess` and `ExplainOwnAccess` of `directory.admin.v1.AdminService`.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::delegated::Gateway;
use crate::status;
use bytes::Bytes;
use dir_core::identity::RoleClaims;
use dir_core::policy::{Asked, Effect, Explanation, RECORD_METHODS, Rule, RuleEffect, SEARCH_METHODS};
use dir_core::{Cid, Peer, Principal, SpiffeId};
use dir_proto::convert;
use dir_proto::directory::admin::v1 as pb;
use http::{Request, Response};
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;

/// Longest subject or method that is looked at, in bytes: that of the longest SPIFFE ID.
const TEXT_MAX: usize = 2048;

/// What the caller itself may do: the rules are named, and not told.
pub(crate) async fn own(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    let peer = request.extensions().get::<Arc<Peer>>();
    let who = peer.map_or(Principal::Anonymous, |peer| peer.principal.clone());
    let gateway = request.extensions().get::<Gateway>().map(|gateway| gateway.0.clone());
    let claims = request.extensions().get::<RoleClaims>().cloned();
    rpc::unary(request, |asked: pb::ExplainOwnAccessRequest| async move {
        let call = call(&who, gateway.as_ref(), claims.as_ref());
        explain(app, call, (&asked.method, &asked.resource), false).await
    })
    .await
}

/// What anybody may do.
pub(crate) async fn any(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |asked: pb::ExplainAccessRequest| async move {
        let who = principal(&asked.subject)?;
        let gateway = match asked.gateway.as_str() {
            "" => None,
            id => Some(workload("gateway", id)?),
        };
        explain(app, call(&who, gateway.as_ref(), None), (&asked.method, &asked.resource), true).await
    })
    .await
}

const fn call<'a>(
    who: &'a Principal,
    gateway: Option<&'a Principal>,
    claims: Option<&'a RoleClaims>,
) -> Asked<'a> {
    match gateway {
        None => Asked { own: who, claims, delegated: None },
        Some(gateway) => Asked { own: gateway, claims, delegated: Some(who) },
    }
}

fn principal(text: &str) -> Result<Principal, Status> {
    match text {
        "anonymous" => Ok(Principal::Anonymous),
        "anonymous:http" => Ok(Principal::Http),
        _ if text.starts_with("oidc:") => {
            Principal::parse_delegated(text).map_err(|why| status::bad_request(format!("subject: {why}")))
        }
        _ => workload("subject", text),
    }
}

fn workload(field: &str, text: &str) -> Result<Principal, Status> {
    let id: SpiffeId = text.parse().map_err(|why| status::bad_request(format!("{field}: {why}")))?;
    if id.is_root() {
        return Err(status::bad_request(format!("{field}: the SPIFFE ID of a workload has a path")));
    }
    Ok(Principal::Spiffe(id))
}

async fn explain(
    app: &Inner,
    asked: Asked<'_>,
    (method, resource): (&str, &str),
    told: bool,
) -> Result<Bytes, Status> {
    if method.len() > TEXT_MAX || !method.starts_with('/') {
        return Err(status::bad_request("method: write /pkg.Service/Method".to_owned()));
    }
    let cid = match resource {
        "" => None,
        text => Some(text.parse::<Cid>().map_err(|why| status::bad_request(format!("resource: {why}")))?),
    };
    let mut answer = pb::ExplainAccessResponse {
        subject: asked.delegated.unwrap_or(asked.own).to_string(),
        gateway: asked.delegated.map(|_| asked.own.to_string()).unwrap_or_default(),
        method: method.to_owned(),
        resource: resource.to_owned(),
        ..pb::ExplainAccessResponse::default()
    };
    let Some(authorization) = &app.authorization else {
        Effect::Allow.as_str().clone_into(&mut answer.decision);
        "calls are not checked: authz.enabled is false".clone_into(&mut answer.cause);
        return Ok(encode(&answer));
    };
    let (policy, generation) = authorization.active().ok_or_else(status::authorization_unavailable)?;
    let now = app.clock.now();
    let found = match cid.filter(|_| RECORD_METHODS.contains(&method) || SEARCH_METHODS.contains(&method)) {
        None => policy.explain_call(asked, method, now),
        Some(cid) => {
            let unknown = |_index_failed| Status::unavailable("the index does not answer");
            let record = app.engine.traits(&cid).await.map_err(unknown)?;
            answer.owner = record.owner.clone().filter(|_| told).unwrap_or_default();
            policy.explain_record(asked, method, now, &record)
        }
    };
    answer.cause = found.reason(told);
    let Explanation { decision, misses, .. } = found;
    decision.effect.as_str().clone_into(&mut answer.decision);
    answer.policy_generation = generation;
    answer.rule = decision.rule.map(|found| rule(found, "", told));
    answer.nearest = misses.iter().map(|miss| rule(miss.rule, miss.difference.as_str(), told)).collect();
    Ok(encode(&answer))
}

/// Whom rules are about is told to those alone who may ask about others: a policy names partners.
fn rule(rule: &Rule, difference: &str, told: bool) -> pb::AccessRule {
    let subjects = rule.subjects.iter().filter(|_| told).map(ToString::to_string).collect();
    pb::AccessRule {
        id: rule.id.clone(),
        line: rule.line.and_then(|line| u32::try_from(line).ok()).unwrap_or_default(),
        effect: if rule.effect == RuleEffect::Deny { "deny" } else { "allow" }.to_owned(),
        difference: difference.to_owned(),
        subjects,
        methods: if told { rule.methods_text.clone() } else { String::new() },
        not_after: rule.not_after.map(convert::timestamp),
    }
}
