//! Gateways that speak for others: `x-auth-principal` is believed from those of the configuration, and goes no further
//! than here from everybody else.

use crate::conn::Shared;
use crate::status;
use dir_core::{Peer, Principal};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use tonic::Status;

const HEADER: HeaderName = HeaderName::from_static("x-auth-principal");

/// Takes the header away, and answers whom it names when the peer may say so. A trusted gateway that names nobody is
/// refused: acting as itself instead would give its caller the grants of the gateway.
pub(crate) fn take(conn: &Shared, peer: &Peer, headers: &mut HeaderMap) -> Result<Option<Principal>, Status> {
    if !headers.contains_key(HEADER) {
        return Ok(None);
    }
    let values: Vec<_> = headers.get_all(HEADER).iter().cloned().collect();
    headers.remove(HEADER);
    let app = conn.app();
    let trusted = peer.principal.spiffe_id().filter(|id| app.config.trusted_gateways.contains(id));
    let Some(gateway) = trusted else {
        app.metrics.stripped_delegations.inc();
        return Ok(None);
    };
    let named = match values.as_slice() {
        [one] => one.to_str().map_err(|_opaque| "is no visible ASCII".to_owned()),
        _ => Err("was sent more than once".to_owned()),
    };
    match named.and_then(|text| Principal::parse_delegated(text).map_err(|why| why.to_string())) {
        Ok(who) => Ok(Some(who)),
        Err(why) => {
            tracing::warn!(spiffe_id = gateway.as_str(), %why, "x-auth-principal of a trusted gateway is not taken");
            Err(status::not_authenticated())
        }
    }
}

/// The gateway that made a call for somebody, in the extensions of the request.
#[derive(Debug, Clone)]
pub(crate) struct Gateway(pub(crate) Principal);

/// What handlers see of the caller.
pub(crate) fn peer(peer: &Arc<Peer>, delegated: Option<&Principal>) -> Arc<Peer> {
    match delegated {
        None => peer.clone(),
        Some(who) => Arc::new(Peer { principal: who.clone(), ..Peer::clone(peer) }),
    }
}
