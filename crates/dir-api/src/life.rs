//! When a connection has to go: a state machine over instants, without IO.

use crate::conn::Why;
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

/// What a connection has been used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    /// A first call has come.
    pub(crate) used: bool,
    /// Since when no call is open; `None` while one is.
    pub(crate) quiet_since: Option<Instant>,
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
    gone_at: Option<Instant>,
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
            gone_at: None,
        }
    }

    /// When to look again.
    pub(crate) fn wake(&self, now: Instant, usage: Use) -> Option<Instant> {
        if let Some(cut) = self.cut_at {
            return Some(cut);
        }
        let expire = self.expire_at.map(|at| at.checked_sub(self.last_moment(at)).unwrap_or(at));
        if self.gone_at.is_some() {
            // While calls are open nobody tells when the last one ends: look again.
            let empty = self.empty_since(usage).unwrap_or(now) + LINGER;
            return [self.end_at, expire, Some(empty)].into_iter().flatten().min();
        }
        let idle = self.idle.map(|limit| usage.quiet_since.unwrap_or(now) + limit);
        [self.first_by, idle, self.go_at.map(|(at, _)| at), expire].into_iter().flatten().min()
    }

    /// Since when a connection that was told to go has had no call.
    fn empty_since(&self, usage: Use) -> Option<Instant> {
        Some(usage.quiet_since?.max(self.gone_at?))
    }

    /// The last trailers go out before the SVID ends, not after.
    fn last_moment(&self, expire_at: Instant) -> Duration {
        let lead = self.go_at.map_or(LINGER, |(at, _)| expire_at.saturating_duration_since(at) / 2);
        lead.min(LINGER)
    }

    /// What the time says. Asked after each wake.
    pub(crate) fn tick(&mut self, now: Instant, usage: Use) -> Step {
        if let Some(cut) = self.cut_at {
            return if now >= cut { Step::Cut } else { Step::Wait };
        }
        if let Some(expire) = self.expire_at
            && now + self.last_moment(expire) >= expire
        {
            return self.end(now, Why::Expired);
        }
        if self.gone_at.is_some() {
            // A peer that has no call left and does not close by itself is not waited for.
            let empty = self.empty_since(usage).is_some_and(|since| now >= since + LINGER);
            return match self.end_at {
                _ if empty => Step::Cut,
                Some(end) if now >= end => self.end(now, Why::Draining),
                _ => Step::Wait,
            };
        }
        if usage.used {
            self.first_by = None;
        } else if self.first_by.is_some_and(|by| now >= by) {
            return self.go(now, Duration::ZERO, "first_request");
        }
        if let (Some(limit), Some(since)) = (self.idle, usage.quiet_since)
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
        if self.gone_at.is_some() {
            return Step::Wait;
        }
        self.gone_at = Some(now);
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn config() -> ServeConfig {
        ServeConfig {
            first_request_timeout: Some(secs(10)),
            idle_timeout: Some(secs(100)),
            max_age: Some(secs(1000)),
            age_grace: secs(50),
            drain_grace: secs(30),
            ..ServeConfig::default()
        }
    }

    const BUSY: Use = Use { used: true, quiet_since: None };

    fn life(validity: Option<Validity>, draw: f64) -> (Instant, Life) {
        let opened = Instant::now();
        (opened, Life::new(opened, &config(), validity, draw))
    }

    #[test]
    fn a_connection_without_a_first_request_goes() {
        let (t, mut life) = life(None, 0.5);
        let unused = Use { used: false, quiet_since: Some(t) };
        assert_eq!(life.wake(t, unused), Some(t + secs(10)));
        assert_eq!(life.tick(t + secs(9), unused), Step::Wait);
        assert_eq!(life.tick(t + secs(10), unused), Step::GoAway("first_request"));
        assert_eq!(life.tick(t + secs(10), unused), Step::End(Why::Draining));
        assert_eq!(life.tick(t + secs(11), unused), Step::Cut);
    }

    #[test]
    fn a_quiet_connection_goes_and_a_busy_one_stays() {
        let (t, mut life) = life(None, 0.5);
        assert_eq!(life.tick(t + secs(500), BUSY), Step::Wait);
        let quiet = Use { used: true, quiet_since: Some(t + secs(500)) };
        assert_eq!(life.wake(t + secs(500), quiet), Some(t + secs(600)));
        assert_eq!(life.tick(t + secs(599), quiet), Step::Wait);
        assert_eq!(life.tick(t + secs(600), quiet), Step::GoAway("idle"));
    }

    #[test]
    fn age_spreads_by_a_tenth_and_leaves_its_grace() {
        for (draw, at) in [(0.0, 900), (0.5, 1000), (0.999_999, 1100)] {
            let (t, mut life) = life(None, draw);
            assert_eq!(life.tick(t + secs(at - 1), BUSY), Step::Wait);
            assert_eq!(life.tick(t + secs(at), BUSY), Step::GoAway("age"), "draw {draw}");
            assert_eq!(life.wake(t + secs(at + 49), BUSY), Some(t + secs(at + 50)));
            assert_eq!(life.tick(t + secs(at + 49), BUSY), Step::Wait);
            assert_eq!(life.tick(t + secs(at + 50), BUSY), Step::End(Why::Draining));
            assert_eq!(life.tick(t + secs(at + 50) + LINGER, BUSY), Step::Cut);
        }
    }

    #[test]
    fn a_connection_never_outlives_the_svid() {
        // Told to go a tenth of its life before the end, at most a minute; over at the end, whatever the grace.
        let (t, mut life) = life(Some(Validity { life: secs(200), left: secs(100) }), 0.5);
        assert_eq!(life.tick(t + secs(79), BUSY), Step::Wait);
        assert_eq!(life.tick(t + secs(80), BUSY), Step::GoAway("expiry"));
        assert_eq!(life.wake(t + secs(98), BUSY), Some(t + secs(99)));
        assert_eq!(life.tick(t + secs(99), BUSY), Step::End(Why::Expired));
        assert_eq!(life.wake(t + secs(99), BUSY), Some(t + secs(100)));
        assert_eq!(life.tick(t + secs(100), BUSY), Step::Cut);

        let (t, mut life) = self::life(Some(Validity { life: secs(36_000), left: secs(600) }), 0.5);
        assert_eq!(life.tick(t + secs(539), BUSY), Step::Wait);
        assert_eq!(life.tick(t + secs(540), BUSY), Step::GoAway("expiry"));
        assert_eq!(life.tick(t + secs(590), BUSY), Step::End(Why::Draining));
    }

    #[test]
    fn an_svid_that_has_ended_already_ends_everything_at_once() {
        let (t, mut life) = life(Some(Validity { life: secs(200), left: Duration::ZERO }), 0.5);
        assert_eq!(life.tick(t, BUSY), Step::End(Why::Expired));
        assert_eq!(life.tick(t, BUSY), Step::Cut);
    }

    #[test]
    fn a_shutdown_shortens_the_grace_of_an_old_connection() {
        let (t, mut life) = life(None, 0.5);
        assert_eq!(life.tick(t + secs(1000), BUSY), Step::GoAway("age"));
        assert_eq!(life.go(t + secs(1010), secs(30), "shutdown"), Step::Wait);
        assert_eq!(life.tick(t + secs(1039), BUSY), Step::Wait);
        assert_eq!(life.tick(t + secs(1040), BUSY), Step::End(Why::Draining));
    }

    #[test]
    fn a_peer_that_was_told_to_go_and_has_no_call_left_is_cut() {
        let (t, mut life) = life(None, 0.5);
        assert_eq!(life.go(t + secs(20), secs(30), "shutdown"), Step::GoAway("shutdown"));
        let quiet = Use { used: true, quiet_since: Some(t + secs(5)) };
        assert_eq!(life.wake(t + secs(20), quiet), Some(t + secs(20) + LINGER));
        assert_eq!(life.tick(t + secs(20), quiet), Step::Wait, "calls may be on their way");
        assert_eq!(life.tick(t + secs(20) + LINGER, BUSY), Step::Wait);
        assert_eq!(life.tick(t + secs(20) + LINGER, quiet), Step::Cut);
    }

    #[test]
    fn distrust_is_immediate() {
        let (t, mut life) = life(None, 0.5);
        assert_eq!(life.end(t, Why::Untrusted), Step::End(Why::Untrusted));
        assert_eq!(life.end(t, Why::Draining), Step::Wait, "the first reason stays");
        assert_eq!(life.tick(t + LINGER, BUSY), Step::Cut);
    }

    #[test]
    fn limits_that_are_off_do_nothing() {
        let off = ServeConfig { first_request_timeout: None, idle_timeout: None, max_age: None, ..config() };
        let t = Instant::now();
        let life = Life::new(t, &off, None, 0.5);
        assert_eq!(life.wake(t, Use { used: false, quiet_since: Some(t) }), None);
    }
}
