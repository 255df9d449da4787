//! When a connection has to go: a state machine over instants, without IO.

use crate::conn::{Shared, Why};
use crate::serve::ServeConfig;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection may take to deliver the last trailers before it is cut.
const LINGER: Duration = Duration::from_secs(1);
/// How long before the end of the peer's SVID a connection is told to go away; at most a tenth of its life.
const EXPIRY_LEAD: Duration = Duration::from_secs(60);

/// What has to be done to a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// Tell the peer to go away: GOAWAY, calls go on.
    GoAway(&'static str),
    /// End every call with this reason.
    End(Why),
    /// Cut it.
    Cut,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(crate) struct Life {
    first_by: Option<Instant>,
    idle: Option<Duration>,
    go_at: Option<(Instant, &'static str)>,
    end_at: Option<Instant>,
    expire_at: Option<Instant>,
    cut_at: Option<Instant>,
    age_grace: Duration,
    gone: bool,
}

/// Validity of the peer's SVID, seen from the opening of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    /// From its start to its end.
    pub(crate) life: Duration,
    /// What was left.
    pub(crate) left: Duration,
}

impl Life {
    /// `draw` is a number below 1 that spreads connections of the same age.
    pub(crate) fn new(opened: Instant, config: &ServeConfig, validity: Option<Validity>, draw: f64) -> Self {
        let age = config.max_age.map(|age| (opened + age.mul_f64(0.9 + 0.2 * draw), "age"));
        let expire_at = validity.map(|v| opened + v.left);
        let lead = validity.map(|v| {
            let lead = EXPIRY_LEAD.min(v.life / 10);
            (opened + v.left.saturating_sub(lead), "expiry")
        });
        Self {
            first_by: config.first_request_timeout.map(|limit| opened + limit),
            idle: config.idle_timeout,
            go_at: [age, lead].into_iter().flatten().min(),
            end_at: None,
            expire_at,
            cut_at: None,
            age_grace: config.age_grace,
            gone: false,
        }
    }

    /// When to look again.
    pub(crate) fn wake(&self, shared: &Shared) -> Option<Instant> {
        if let Some(cut) = self.cut_at {
            return Some(cut);
        }
        let expire = self.expire_at.map(|at| at.checked_sub(self.last_moment(at)).unwrap_or(at));
        if self.gone {
            return [self.end_at, expire].into_iter().flatten().min();
        }
        let idle = self.idle.map(|limit| shared.quiet_since().unwrap_or_else(Instant::now) + limit);
        [self.first_by, idle, self.go_at.map(|(at, _)| at), expire].into_iter().flatten().min()
    }

    /// The last trailers go out before the SVID ends, not after.
    fn last_moment(&self, expire_at: Instant) -> Duration {
        let lead = self.go_at.map_or(LINGER, |(at, _)| expire_at.saturating_duration_since(at) / 2);
        lead.min(LINGER)
    }

    /// What the time says. Asked after each wake.
    pub(crate) fn tick(&mut self, now: Instant, shared: &Shared) -> Step {
        if let Some(cut) = self.cut_at {
            return if now >= cut { Step::Cut } else { Step::Wait };
        }
        if let Some(expire) = self.expire_at
            && now + self.last_moment(expire) >= expire
        {
            return self.end(now, Why::Expired);
        }
        if self.gone {
            return match self.end_at {
                Some(end) if now >= end => self.end(now, Why::Draining),
                _ => Step::Wait,
            };
        }
        if shared.used() {
            self.first_by = None;
        } else if self.first_by.is_some_and(|by| now >= by) {
            return self.go(now, Duration::ZERO, "first_request");
        }
        if let (Some(limit), Some(since)) = (self.idle, shared.quiet_since())
            && now >= since + limit
        {
            return self.go(now, self.age_grace, "idle");
        }
        match self.go_at {
            Some((at, reason)) if now >= at => self.go(now, self.age_grace, reason),
            _ => Step::Wait,
        }
    }

    /// The connection is told to go away; its calls have `grace` to end.
    pub(crate) fn go(&mut self, now: Instant, grace: Duration, reason: &'static str) -> Step {
        let end = now + grace;
        self.end_at = Some(self.end_at.map_or(end, |before| before.min(end)));
        if self.gone {
            return Step::Wait;
        }
        self.gone = true;
        Step::GoAway(reason)
    }

    /// Its calls end now, and it is cut soon after, whatever they do.
    pub(crate) fn end(&mut self, now: Instant, why: Why) -> Step {
        if self.cut_at.is_some() {
            return Step::Wait;
        }
        let soon = now + LINGER;
        // A valid SVID is the condition for every byte.
        self.cut_at = Some(self.expire_at.map_or(soon, |expire| soon.min(expire.max(now))));
        Step::End(why)
    }
}
