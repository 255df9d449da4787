//! What ends a call from outside: its deadline, the end of its connection, a policy that no longer allows it.

use crate::authz::{Asking, Permit};
use crate::conn::{Shared, Why};
use crate::status;
use crate::token::{Caller, Proof};
use dir_core::{Peer, Principal, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

/// Resolves to the status that a call has to end with.
pub(crate) struct Guard {
    conn: Arc<Shared>,
    /// Who makes the call.
    peer: Arc<Peer>,
    /// The token that says so, where one does.
    proof: Option<Proof>,
    /// Wakes at the end of the token.
    proof_ends: Option<Pin<Box<Sleep>>>,
    method: usize,
    /// For whom the peer speaks.
    delegated: Option<Principal>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// `None` without authorization.
    permit: Option<Permit>,
    /// Wakes at the end of a permit that has one.
    permit_ends: Option<Pin<Box<Sleep>>>,
    /// Made at the first wait: most calls are done before they wait for anything.
    woken: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Guard {
    /// The call goes on as long as what proves its caller is good.
    pub(crate) fn new(
        conn: Arc<Shared>,
        caller: Caller,
        method: usize,
        delegated: Option<Principal>,
        now: Timestamp,
    ) -> Self {
        let Caller { peer, proof } = caller;
        Self {
            conn,
            peer,
            proof_ends: proof.as_ref().map(|p| sleep_until(p.identity.call_ends(now), now)),
            proof,
            method,
            delegated,
            deadline: None,
            permit: None,
            permit_ends: None,
            woken: None,
        }
    }

    /// The caller gives up after this long.
    pub(crate) fn deadline(&mut self, after: Duration) {
        self.deadline = Some(Box::pin(tokio::time::sleep(after)));
    }

    /// The call goes on as long as the policy allows it.
    pub(crate) fn permitted(&mut self, permit: Permit) {
        self.permit_ends = permit.until.map(|end| sleep_until(end, self.conn.app().clock.now()));
        self.permit = Some(permit);
    }

    /// Whether the call has to end, for a body that is always ready.
    pub(crate) fn over(&mut self) -> Option<Status> {
        match &self.deadline {
            Some(deadline) if deadline.is_elapsed() || Instant::now() >= deadline.deadline() => {
                Some(status::deadline())
            }
            _ => self.refused(),
        }
    }

    /// Whether connection, token or policy end the call.
    fn refused(&mut self) -> Option<Status> {
        if let Some(status) = self.conn.ending().or_else(|| self.disproved()) {
            return Some(status);
        }
        let app = self.conn.app();
        let (Some(authorization), Some(permit)) = (&app.authorization, self.permit) else { return None };
        if !is_over(self.permit_ends.as_ref()) && permit.generation == authorization.generation() {
            return None;
        }
        let path = &app.methods.get(self.method).path;
        let asking = Asking {
            own: &self.peer.principal,
            claims: self.proof.as_ref().and_then(|p| p.identity.claims.as_ref()),
            delegated: self.delegated.as_ref(),
        };
        match authorization.ask_again(&self.conn, asking, self.method, path, app.clock.now()) {
            Ok(permit) => {
                self.permitted(permit);
                None
            }
            Err(status) => Some(status),
        }
    }
}

impl Guard {
    /// Whether the token has ended, or its key is trusted no more.
    fn disproved(&mut self) -> Option<Status> {
        let proof = self.proof.as_mut()?;
        if is_over(self.proof_ends.as_ref()) {
            return Some(Why::Expired.status());
        }
        let verifier = &self.conn.app().gate.as_ref()?.tokens.verifier;
        let generation = verifier.generation();
        if generation != proof.generation {
            if !verifier.still_trusted(&proof.identity) {
                return Some(Why::Untrusted.status());
            }
            proof.generation = generation;
        }
        None
    }
}

/// Wakes when the clock that says `now` says `end`.
fn sleep_until(end: Timestamp, now: Timestamp) -> Pin<Box<Sleep>> {
    let left = u64::try_from(end.0.saturating_sub(now.0)).unwrap_or_default();
    Box::pin(tokio::time::sleep(Duration::from_millis(left)))
}

fn is_over(end: Option<&Pin<Box<Sleep>>>) -> bool {
    end.is_some_and(|end| Instant::now() >= end.deadline())
}

impl Future for Guard {
    type Output = Status;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Status> {
        let this = &mut *self;
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(status::deadline());
        }
        loop {
            // First listen, then look: what happens in between wakes again.
            this.woken.get_or_insert_with(|| Box::pin(this.conn.wake().cancelled_owned()));
            if let Some(status) = this.refused() {
                return Poll::Ready(status);
            }
            let mut ended = false;
            for end in [&mut this.proof_ends, &mut this.permit_ends].into_iter().flatten() {
                ended |= end.as_mut().poll(cx).is_ready();
            }
            if ended {
                continue;
            }
            if let Some(woken) = &mut this.woken
                && woken.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            this.woken = None;
        }
    }
}
