//! What ends a call from outside: its deadline, the end of its connection, a policy that no longer allows it.

use crate::authz::Permit;
use crate::conn::Shared;
use crate::status;
use dir_core::Principal;
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
    pub(crate) fn new(conn: Arc<Shared>, method: usize, delegated: Option<Principal>) -> Self {
        Self { conn, method, delegated, deadline: None, permit: None, permit_ends: None, woken: None }
    }

    /// The caller gives up after this long.
    pub(crate) fn deadline(&mut self, after: Duration) {
        self.deadline = Some(Box::pin(tokio::time::sleep(after)));
    }

    /// The call goes on as long as the policy allows it.
    pub(crate) fn permitted(&mut self, permit: Permit) {
        self.permit_ends = permit.until.map(|end| {
            let left = end.0.saturating_sub(self.conn.app().clock.now().0);
            Box::pin(tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or_default())))
        });
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

    /// Whether connection or policy end the call.
    fn refused(&mut self) -> Option<Status> {
        if let Some(status) = self.conn.ending() {
            return Some(status);
        }
        let app = self.conn.app();
        let (Some(authorization), Some(permit)) = (&app.authorization, self.permit) else { return None };
        let ended = self.permit_ends.as_ref().is_some_and(|end| Instant::now() >= end.deadline());
        if !ended && permit.generation == authorization.generation() {
            return None;
        }
        let path = &app.methods.get(self.method).path;
        let delegated = self.delegated.as_ref();
        match authorization.ask_again(&self.conn, delegated, self.method, path, app.clock.now()) {
            Ok(permit) => {
                self.permitted(permit);
                None
            }
            Err(status) => Some(status),
        }
    }
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
            if let Some(end) = &mut this.permit_ends
                && end.as_mut().poll(cx).is_ready()
            {
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
