//! What the calls of one connection share. Nothing here is shared between connections but the services.

use crate::app::{App, Inner};
use crate::authz::Held;
use crate::inflow::Inflow;
use crate::life::Use;
use crate::outflow::Outflow;
use crate::token::Spoken;
use arc_swap::ArcSwapOption;
use dir_core::Peer;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a new connection is given to make its first call before a stopping process tells it to go away.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Why the calls of a connection are ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// The process stops, or the connection is old.
    Draining = 1,
    /// The peer's SVID is no longer valid.
    Expired = 2,
    /// The peer's trust domain, or its authority, is no longer trusted.
    Untrusted = 3,
}

impl Why {
    pub(crate) fn status(self) -> Status {
        match self {
            Why::Draining => Status::unavailable("connection draining"),
            Why::Expired => Status::unauthenticated("identity expired"),
            Why::Untrusted => Status::unauthenticated("identity no longer trusted"),
        }
    }
}

/// State of one connection.
pub(crate) struct Shared {
    app: App,
    pub(crate) peer: Arc<Peer>,
    opened: Instant,
    begun: AtomicU64,
    active: AtomicUsize,
    /// Milliseconds after `opened` at which the last call ended.
    quiet_since: AtomicU64,
    why: AtomicU8,
    /// Fires when the process stops: streams that never end by themselves end here, and do not hold it up.
    pub(crate) stopping: CancellationToken,
    /// Answers on their way to the peer.
    pub(crate) outflow: Arc<Outflow>,
    /// Messages on their way to us.
    pub(crate) inflow: Arc<Inflow>,
    /// Told of the first call.
    first: Notify,
    /// What the policy says of the peer.
    pub(crate) grants: ArcSwapOption<Held>,
    /// What it says of the caller that the peer spoke for last.
    pub(crate) delegated: ArcSwapOption<Held>,
    /// Whom its last token spoke for.
    pub(crate) spoken: ArcSwapOption<Spoken>,
    /// Fires when every call of the connection has to look whether it may go on.
    wake: Mutex<CancellationToken>,
}

impl Shared {
    pub(crate) fn new(
        app: App,
        peer: Arc<Peer>,
        stopping: CancellationToken,
        outflow: Arc<Outflow>,
        inflow: Arc<Inflow>,
    ) -> Self {
        Self {
            app,
            peer,
            opened: Instant::now(),
            begun: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
            why: AtomicU8::new(0),
            stopping,
            outflow,
            inflow,
            first: Notify::new(),
            grants: ArcSwapOption::empty(),
            delegated: ArcSwapOption::empty(),
            spoken: ArcSwapOption::empty(),
            wake: Mutex::default(),
        }
    }

    pub(crate) fn app(&self) -> &Inner {
        &self.app.0
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// A call begins; answers its number on this connection.
    pub(crate) fn begin(&self) -> u64 {
        self.active.fetch_add(1, Ordering::Relaxed);
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            self.first.notify_one();
        }
        number
    }

    /// Waits until it is polite to send somebody away: who has only just connected, to a server that was fine then,
    /// is about to call. A GOAWAY that comes before the call takes the call away from a client that honours it.
    pub(crate) async fn settled(&self) {
        let young = self.opened + FIRST_CALL;
        if self.begun.load(Ordering::Relaxed) == 0 {
            tokio::select! {
                () = self.first.notified() => {}
                () = tokio::time::sleep_until(young) => {}
            }
        }
    }

    /// A call is over.
    pub(crate) fn over(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.quiet_since.store(now, Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no call is open.
    pub(crate) fn is_quiet(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
    }

    /// What the connection has been used for.
    pub(crate) fn usage(&self) -> Use {
        let quiet = self.is_quiet();
        let since = || self.opened + Duration::from_millis(self.quiet_since.load(Ordering::Relaxed));
        Use { used: self.begun.load(Ordering::Relaxed) > 0, quiet_since: quiet.then(since) }
    }

    /// Ends every call, now and to come. The first reason stays.
    pub(crate) fn end(&self, why: Why) {
        let first = self.why.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.wake.lock().cancel();
        }
    }

    /// Fires when calls have to look whether they may go on. Ask for it before looking.
    pub(crate) fn wake(&self) -> CancellationToken {
        self.wake.lock().clone()
    }

    /// The policy, or the keys of tokens, have changed: calls look whether they may go on.
    pub(crate) fn look_again(&self) {
        std::mem::take(&mut *self.wake.lock()).cancel();
    }

    /// The status that calls end with, once they have to.
    pub(crate) fn ending(&self) -> Option<Status> {
        match self.why.load(Ordering::Acquire) {
            0 => None,
            2 => Some(Why::Expired.status()),
            3 => Some(Why::Untrusted.status()),
            _ => Some(Why::Draining.status()),
        }
    }
}
