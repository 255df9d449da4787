//! What a peer may send besides calls: pings and other control frames are counted below HTTP/2, because neither hyper
//! nor `h2` tells of them (RFC 9113 section 10.5; CVE-2019-9512, CVE-2019-9515).

use std::time::Duration;
use tokio::time::Instant;

/// Bytes before each frame.
const HEAD: usize = 9;
/// What a client sends before its first frame.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

/// Where pings need an open call, one without may come this often: as other gRPC servers have it.
const WITHOUT_STREAM: Duration = Duration::from_secs(2 * 3600);

/// Follows the frames of one direction through chunks that are cut anywhere; looks at heads alone.
#[derive(Debug)]
pub(crate) struct Frames {
    head: [u8; HEAD],
    have: usize,
    skip: usize,
}

impl Frames {
    /// What a client sends: its preface comes first.
    pub(crate) const fn of_client() -> Self {
        Self { head: [0; HEAD], have: 0, skip: PREFACE }
    }

    pub(crate) const fn of_server() -> Self {
        Self { head: [0; HEAD], have: 0, skip: 0 }
    }

    /// Tells `each` of type, flags and length of every frame whose head ends in this chunk.
    pub(crate) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(u8, u8, usize)) {
        while !chunk.is_empty() {
            let skipped = self.skip.min(chunk.len());
            self.skip -= skipped;
            chunk = &chunk[skipped..];
            let take = chunk.len().min(HEAD - self.have);
            let (now, rest) = chunk.split_at(take);
            self.head[self.have..self.have + take].copy_from_slice(now);
            self.have += take;
            chunk = rest;
            if self.have == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                (self.have, self.skip) = (0, len);
                each(kind, flags, len);
            }
        }
    }
}

/// Limits of what a peer may send besides calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Pings may follow each other no faster than this.
    pub(crate) ping_interval: Duration,
    /// How many may.
    pub(crate) ping_strikes: u32,
    /// Whether the interval is enough while no call is open; otherwise [`WITHOUT_STREAM`] has to pass.
    pub(crate) ping_without_stream: bool,
    /// Other control frames, between two answers of ours.
    pub(crate) control_frames: u32,
}

/// What a peer has used of it.
#[derive(Debug)]
pub(crate) struct Guard {
    budget: Budget,
    last_ping: Option<Instant>,
    strikes: u32,
    control: u32,
}

impl Guard {
    pub(crate) const fn new(budget: Budget) -> Self {
        Self { budget, last_ping: None, strikes: 0, control: 0 }
    }

    /// A frame of the peer; false when it is one too many. `quiet`: no call is open.
    pub(crate) fn received(
        &mut self,
        kind: u8,
        flags: u8,
        now: impl Fn() -> Instant,
        quiet: impl Fn() -> bool,
    ) -> bool {
        match kind {
            PING if flags & ACK == 0 => {
                let now = now();
                let unwanted = !self.budget.ping_without_stream && quiet();
                let interval = if unwanted { WITHOUT_STREAM } else { self.budget.ping_interval };
                let early = self.last_ping.is_some_and(|last| now < last + interval);
                self.last_ping = Some(now);
                self.strikes += u32::from(early);
                self.strikes <= self.budget.ping_strikes
            }
            // Streams that are reset and headers without end have limits of their own.
            DATA | HEADERS | RST_STREAM | CONTINUATION | WINDOW_UPDATE => true,
            // Settings, priorities, acknowledgements, and types to come.
            _ => {
                self.control += 1;
                self.control <= self.budget.control_frames
            }
        }
    }

    /// A frame of ours: who gets answers may probe the way they come (BDP estimation), and starts anew.
    pub(crate) fn sent(&mut self, kind: u8) {
        if matches!(kind, DATA | HEADERS) {
            (self.last_ping, self.strikes, self.control) = (None, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIORITY: u8 = 2;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, len: u8) -> Vec<u8> {
        let mut out = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        out.resize(HEAD + usize::from(len), kind);
        out
    }

    #[test]
    fn frames_are_seen_once_however_they_are_cut() {
        let all =
            [vec![b'P'; PREFACE], frame(4, 0, 0), frame(1, 4, 20), frame(0, 1, 200), frame(6, 0, 8)].concat();
        for size in 1..all.len() {
            let (mut frames, mut seen) = (Frames::of_client(), Vec::new());
            for chunk in all.chunks(size) {
                frames.feed(chunk, |kind, flags, len| seen.push((kind, flags, len)));
            }
            assert_eq!(seen, [(4, 0, 0), (1, 4, 20), (0, 1, 200), (6, 0, 8)], "chunks of {size}");
        }
    }

    const BUDGET: Budget = Budget {
        ping_interval: Duration::from_secs(60),
        ping_strikes: 2,
        ping_without_stream: true,
        control_frames: 3,
    };

    impl Guard {
        fn got(&mut self, kind: u8, flags: u8, now: Instant) -> bool {
            self.received(kind, flags, || now, || true)
        }
    }

    #[test]
    fn pings_at_the_interval_are_welcome_and_faster_ones_are_counted() {
        let mut now = Instant::now();
        let mut guard = Guard::new(BUDGET);
        for _ in 0..100 {
            assert!(guard.got(PING, 0, now));
            now += BUDGET.ping_interval;
        }
        now -= Duration::from_nanos(1);
        assert!(guard.got(PING, 0, now), "the first strike");
        assert!(guard.got(PING, 0, now), "the second");
        assert!(!guard.got(PING, 0, now), "one too many");
    }

    #[test]
    fn pings_without_a_call_may_need_two_hours() {
        let mut now = Instant::now();
        let mut guard = Guard::new(Budget { ping_without_stream: false, ..BUDGET });
        let mut ping = |after: Duration, quiet: bool| {
            now += after;
            guard.received(PING, 0, || now, || quiet)
        };
        for quiet in [true, false, true] {
            assert!(ping(WITHOUT_STREAM, quiet), "two hours are always enough");
        }
        for _ in 0..100 {
            assert!(ping(BUDGET.ping_interval, false), "with a call the interval is enough");
        }
        assert!(ping(BUDGET.ping_interval, true), "the first strike");
        assert!(ping(Duration::from_secs(2 * 3600 - 1), true), "the second");
        assert!(ping(WITHOUT_STREAM, true));
        assert!(!ping(BUDGET.ping_interval, true), "one too many");
    }

    #[test]
    fn answers_of_ours_forgive() {
        let now = Instant::now();
        let mut guard = Guard::new(BUDGET);
        for _ in 0..1000 {
            assert!(guard.got(PING, 0, now) && guard.got(PING, 0, now));
            assert!(guard.got(SETTINGS, ACK, now) && guard.got(PING, ACK, now));
            guard.sent(DATA);
        }
        guard.sent(SETTINGS);
        assert!((0..3).all(|_| guard.got(PING, 0, now)));
        guard.sent(PING);
        assert!(!guard.got(PING, 0, now), "an acknowledgement is no answer");
    }

    #[test]
    fn control_frames_have_a_budget_and_calls_do_not() {
        let now = Instant::now();
        let mut guard = Guard::new(BUDGET);
        for kind in [DATA, HEADERS, RST_STREAM, CONTINUATION, WINDOW_UPDATE] {
            assert!((0..100).all(|_| guard.got(kind, 0, now)), "{kind}");
        }
        assert!(guard.got(SETTINGS, 0, now) && guard.got(PRIORITY, 0, now));
        assert!(guard.got(200, 0, now));
        assert!(!guard.got(PING, ACK, now));
    }
}
