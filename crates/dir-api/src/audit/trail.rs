//! What a call leaves behind on its way through the layers, for its audit lines.

use super::line::{CallLine, Line, Moment};
use super::touched::{Resources, Touched};
use crate::layers::Call;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tonic::Code;

/// Bytes, messages and records of a call.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    messages: AtomicU64,
    pub(super) touched: Mutex<Resources>,
    /// What the policy said of a record of the call, once it has refused one.
    pub(super) refused: Mutex<Option<Verdict>>,
}

impl Counts {
    pub(crate) fn received(&self, bytes: usize, messages: u64) {
        self.bytes_in.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize, messages: u64) {
        self.bytes_out.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> [u64; 3] {
        [&self.bytes_in, &self.bytes_out, &self.messages].map(|n| n.load(Ordering::Relaxed))
    }
}

/// What the policy said.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// `allow`, `deny` or `would_deny`.
    pub(crate) decision: &'static str,
    pub(crate) rule: Option<String>,
    pub(crate) generation: u64,
}

/// Empty without an audit log.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    counts: Option<Arc<Counts>>,
    verdict: OnceLock<Verdict>,
}

impl Trail {
    pub(crate) fn new(audited: bool) -> Self {
        Self { counts: audited.then(Arc::default), verdict: OnceLock::new() }
    }

    pub(crate) fn counts(&self) -> Option<&Arc<Counts>> {
        self.counts.as_ref()
    }

    /// Where the handler says what it touches.
    pub(crate) fn touched(&self) -> Option<Touched> {
        self.counts.clone().map(|counts| Touched(Some(counts)))
    }

    /// The policy has decided.
    pub(crate) fn decided(&self, decision: &'static str, rule: Option<&str>, generation: u64) {
        if self.counts.is_some() {
            let _ = self.verdict.set(Verdict { decision, rule: rule.map(str::to_owned), generation });
        }
    }
}

/// A stream has begun; `refused` when it is over at once.
pub(crate) fn opened(call: &Call, refused: Option<Code>) {
    if call.method().kind != "unary" {
        hand_over(call, Moment::Open, refused);
    }
}

/// A call is over.
pub(crate) fn finished(call: &Call, code: Code) {
    let moment = if call.method().kind == "unary" { Moment::Call } else { Moment::Close };
    hand_over(call, moment, Some(code));
}

fn hand_over(call: &Call, moment: Moment, code: Option<Code>) {
    let app = call.conn().app();
    let (Some(audit), Some(counts)) = (&app.config.audit, &call.trail.counts) else { return };
    let refused = counts.refused.lock().clone();
    let verdict = refused.as_ref().or(call.trail.verdict.get());
    let decision = match (verdict, code) {
        (Some(verdict), _) => Some(verdict.decision),
        (None, Some(Code::PermissionDenied | Code::Unauthenticated)) => Some("deny"),
        // Without a policy whoever gets here is let through; with one, it was not asked.
        (None, _) => app.authorization.is_none().then_some("allow"),
    };
    audit.call(Line::Call(CallLine {
        moment,
        at: if moment == Moment::Open { call.at } else { app.clock.now() },
        request_id: call.id.clone(),
        peer: call.peer_arc(),
        delegated: call.delegated().cloned(),
        method: call.method().path.clone(),
        decision,
        rule: verdict.and_then(|v| v.rule.clone()),
        generation: verdict.map(|v| v.generation),
        code,
        counts: counts.read(),
        resources: std::mem::take(&mut *counts.touched.lock()),
        took: call.begun.elapsed(),
    }));
}
