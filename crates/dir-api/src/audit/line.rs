//! The form of an audit line. Nothing of a call's metadata is in it but its request id, and nothing of its messages but
//! the records and names that they ask for.

use super::touched::{Resource, Resources};
use super::{RefusedHandshake, SecurityEvent};
use crate::status::CODES;
use dir_core::chain::Head;
use dir_core::{Peer, Principal, Timestamp};
use http::HeaderValue;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// Which line of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Moment {
    /// The only one of a unary call.
    Call,
    /// The first of a stream.
    Open,
    /// The last of a stream.
    Close,
}

/// One call at one moment.
pub(super) struct CallLine {
    pub(super) moment: Moment,
    pub(super) at: Timestamp,
    pub(super) request_id: HeaderValue,
    pub(super) peer: Arc<Peer>,
    /// For whom the peer spoke.
    pub(super) delegated: Option<Principal>,
    pub(super) method: String,
    pub(super) decision: Option<&'static str>,
    pub(super) rule: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) code: Option<Code>,
    pub(super) counts: [u64; 3],
    pub(super) resources: Resources,
    pub(super) took: Duration,
}

pub(super) enum Line {
    Call(CallLine),
    Handshake(RefusedHandshake),
    /// A peer has proven who it is.
    Authenticated(Arc<Peer>),
    Event(Timestamp, SecurityEvent),
    /// What could not be told.
    Lost(LostJson),
}

/// The line in the place of lines that are missing.
#[derive(Serialize)]
pub(super) struct LostJson {
    ts: String,
    event: &'static str,
    lines_dropped: u64,
    calls_refused: u64,
}

impl LostJson {
    pub(super) fn new(at: Timestamp, [lines_dropped, calls_refused]: [u64; 2]) -> Self {
        Self { ts: at.to_string(), event: "lost", lines_dropped, calls_refused }
    }
}

#[derive(Serialize)]
struct EventJson<'a> {
    ts: String,
    #[serde(flatten)]
    event: &'a SecurityEvent,
}

#[derive(Serialize)]
struct PeerJson<'a> {
    ts: String,
    event: &'static str,
    conn_id: u64,
    spiffe_id: Option<&'a str>,
    trust_domain: Option<&'a str>,
    serial: &'a str,
    not_after: Option<String>,
    peer_addr: SocketAddr,
    real_addr: Option<SocketAddr>,
    sni: Option<&'a str>,
    tls_version: &'a str,
}

#[derive(Serialize)]
struct CallJson<'a> {
    ts: String,
    event: Moment,
    request_id: &'a str,
    conn_id: u64,
    spiffe_id: Option<&'a str>,
    principal: &'a str,
    actor: Option<&'a str>,
    trust_domain: Option<&'a str>,
    serial: Option<&'a str>,
    peer_addr: SocketAddr,
    real_addr: Option<SocketAddr>,
    method: &'a str,
    resources: Vec<String>,
    resources_omitted: u64,
    decision: Option<&'a str>,
    rule_id: Option<&'a str>,
    policy_generation: Option<u64>,
    code: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    messages: u64,
    ms: f64,
}

#[derive(Serialize)]
struct HandshakeJson<'a> {
    ts: String,
    event: &'a str,
    peer_addr: SocketAddr,
    real_addr: Option<SocketAddr>,
    decision: &'a str,
    reason: &'a str,
    issuer: Option<&'a str>,
    subject: Option<&'a str>,
}

impl Line {
    /// Appends the line, as a part of the chain where there is one, and its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, chain: Option<&mut Head>) {
        let before = out.len();
        let done = match self {
            Line::Call(call) => serde_json::to_writer(&mut *out, &call.json()),
            Line::Handshake(refused) => serde_json::to_writer(&mut *out, &handshake(refused)),
            Line::Authenticated(peer) => serde_json::to_writer(&mut *out, &authenticated(peer)),
            Line::Event(at, event) => {
                serde_json::to_writer(&mut *out, &EventJson { ts: at.to_string(), event })
            }
            Line::Lost(lost) => serde_json::to_writer(&mut *out, lost),
        };
        if let Err(error) = done {
            // Numbers and texts always have a form in JSON.
            tracing::error!(%error, "an audit line has no form");
            out.truncate(before);
            return;
        }
        if let Some(head) = chain {
            head.link(out, before);
        }
        out.push(b'\n');
    }
}

impl CallLine {
    fn json(&self) -> CallJson<'_> {
        let peer = &*self.peer;
        let id = peer.principal.spiffe_id();
        let [bytes_in, bytes_out, messages] = self.counts;
        CallJson {
            ts: self.at.to_string(),
            event: self.moment,
            request_id: self.request_id.to_str().unwrap_or_default(),
            conn_id: peer.conn_id,
            spiffe_id: id.map(dir_core::SpiffeId::as_str),
            principal: self.delegated.as_ref().unwrap_or(&peer.principal).as_str(),
            actor: self.delegated.as_ref().map(|_| peer.principal.as_str()),
            trust_domain: id.map(|id| id.trust_domain().as_str()),
            serial: Some(peer.serial.as_str()).filter(|serial| !serial.is_empty()),
            peer_addr: peer.addr,
            real_addr: peer.real_addr,
            method: &self.method,
            resources: self.resources.first.iter().map(spelled).collect(),
            resources_omitted: self.resources.more,
            decision: self.decision,
            rule_id: self.rule.as_deref(),
            policy_generation: self.generation,
            code: self.code.map(|code| CODES[usize::try_from(code as i32).unwrap_or(2)]),
            bytes_in,
            bytes_out,
            messages,
            ms: f64::from(u32::try_from(self.took.as_micros()).unwrap_or(u32::MAX)) / 1000.0,
        }
    }
}

fn spelled(resource: &Resource) -> String {
    match resource {
        Resource::Record(cid) => cid.to_string(),
        Resource::Name(name) => name.clone(),
    }
}

fn authenticated(peer: &Peer) -> PeerJson<'_> {
    let id = peer.principal.spiffe_id();
    PeerJson {
        ts: peer.opened_at.to_string(),
        event: "authenticated",
        conn_id: peer.conn_id,
        spiffe_id: id.map(dir_core::SpiffeId::as_str),
        trust_domain: id.map(|id| id.trust_domain().as_str()),
        serial: &peer.serial,
        not_after: peer.not_after.map(|end| end.to_string()),
        peer_addr: peer.addr,
        real_addr: peer.real_addr,
        sni: peer.sni.as_deref(),
        tls_version: &peer.tls_version,
    }
}

fn handshake(refused: &RefusedHandshake) -> HandshakeJson<'_> {
    HandshakeJson {
        ts: refused.at.to_string(),
        event: "handshake_refused",
        peer_addr: refused.addr,
        real_addr: refused.real_addr,
        decision: "deny",
        reason: refused.reason,
        issuer: refused.issuer.as_deref(),
        subject: refused.subject.as_deref(),
    }
}
