//! How much of the machine goes into telling. Whoever pushes does not wait for those who listen: what the telling has
//! cost is waited for afterwards, so that it never takes more than its share, however many listen.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The share of all CPUs that telling takes at most, in percent, while pushes are under way all the time and more is
/// asked of it for longer.
pub const TELLING_PERCENT: u32 = 2;
/// The same while nobody pushes. In between, it follows the part of the time in which somebody does.
pub const TELLING_IDLE_PERCENT: u32 = 25;
/// How busy pushes are is looked at over so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Time without events that a burst may use up: few events among many listeners are told at once.
const CREDIT: Duration = Duration::from_millis(100);
/// No wait is longer, whatever the last round has cost.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// When the next round of telling may begin.
#[derive(Debug)]
pub struct Pace {
    cpus: f64,
    /// When everything so far is paid for. In the past: what is left to spend.
    paid: Mutex<Instant>,
    pushes: Mutex<Pushes>,
}

/// How much of the time somebody pushes.
#[derive(Debug)]
struct Pushes {
    under_way: u32,
    /// Since when there is one.
    since: Instant,
    window: Instant,
    /// Time of the window in which there was one.
    busy: Duration,
    /// Part of the last window.
    last: f64,
}

/// A push under way.
#[derive(Debug)]
pub(crate) struct Pushing<'a>(&'a Pace);

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        let mut pushes = self.0.pushes.lock();
        pushes.under_way -= 1;
        if pushes.under_way == 0 {
            let from = pushes.since.max(pushes.window);
            pushes.busy += from.elapsed();
        }
    }
}

impl Pushes {
    /// The part of the time in which somebody pushes, between 0 and 1.
    fn part(&mut self, now: Instant) -> f64 {
        let window = now - self.window;
        if window >= WINDOW {
            if self.under_way > 0 {
                self.busy += now - self.since.max(self.window);
            }
            self.last = (self.busy.as_secs_f64() / window.as_secs_f64()).min(1.0);
            (self.window, self.busy) = (now, Duration::ZERO);
        }
        self.last
    }
}

impl Pace {
    /// A pace for so many CPUs.
    pub(crate) fn new(cpus: usize) -> Self {
        let (cpus, now) = (f64::from(u32::try_from(cpus.max(1)).unwrap_or(u32::MAX)), Instant::now());
        let pushes = Pushes { under_way: 0, since: now, window: now, busy: Duration::ZERO, last: 0.0 };
        Self { cpus, paid: Mutex::new(now), pushes: Mutex::new(pushes) }
    }

    /// For the CPUs of this process.
    pub(crate) fn of_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// A push is under way until the result is dropped.
    pub(crate) fn pushing(&self) -> Pushing<'_> {
        let mut pushes = self.pushes.lock();
        pushes.under_way += 1;
        if pushes.under_way == 1 {
            pushes.since = Instant::now();
        }
        Pushing(self)
    }

    /// So much work was done.
    pub fn spent(&self, cpu: Duration) {
        let now = Instant::now();
        let part = self.pushes.lock().part(now);
        let percent = f64::from(TELLING_IDLE_PERCENT) * (1.0 - part) + f64::from(TELLING_PERCENT) * part;
        // Seconds to wait for a second of work.
        let factor = 100.0 / (percent * self.cpus);
        let mut paid = self.paid.lock();
        let from = now.checked_sub(CREDIT).map_or(*paid, |earliest| earliest.max(*paid));
        *paid = (from + cpu.mul_f64(factor)).min(now + WAIT_MAX);
    }

    /// Waits until the next round may begin.
    pub(crate) async fn turn(&self) {
        loop {
            let paid = *self.paid.lock();
            if paid <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(paid).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// How long the next turn is waited for.
    async fn waited(pace: &Pace) -> Duration {
        let begun = Instant::now();
        pace.turn().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn telling_has_its_share_and_a_burst_after_silence_is_free() {
        // Four CPUs for a second are 80 ms of telling.
        let pace = Pace::new(4);
        let _busy = pace.pushing();
        assert_eq!(waited(&pace).await, millis(0));
        tokio::time::advance(millis(5_000)).await;
        pace.spent(millis(8));
        assert_eq!(waited(&pace).await, millis(0), "silence has saved so much and no more");
        pace.spent(millis(8));
        assert_eq!(waited(&pace).await, millis(100));
        let begun = Instant::now();
        for _ in 0..100 {
            pace.spent(millis(4));
            pace.turn().await;
        }
        assert_eq!(begun.elapsed(), millis(5_000), "400 ms of work");
        assert_eq!(waited(&pace).await, millis(0));
        pace.spent(millis(60_000));
        assert_eq!(waited(&pace).await, WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_follows_the_time_in_which_somebody_pushes() {
        let pace = Pace::new(4);
        // Nobody: a second of telling takes a second of all four.
        tokio::time::advance(millis(1_000)).await;
        pace.spent(millis(100));
        assert_eq!(waited(&pace).await, millis(0));
        pace.spent(millis(500));
        assert_eq!(waited(&pace).await, millis(500));
        pace.spent(millis(0));
        // Half of the time somebody, twice at once for a while: 13.5 %.
        for _ in 0..10 {
            let first = pace.pushing();
            tokio::time::advance(millis(20)).await;
            let second = pace.pushing();
            tokio::time::advance(millis(10)).await;
            drop(first);
            tokio::time::advance(millis(20)).await;
            drop(second);
            tokio::time::advance(millis(50)).await;
        }
        pace.spent(millis(54));
        assert_eq!(waited(&pace).await, millis(0));
        pace.spent(millis(54));
        assert_eq!(waited(&pace).await, millis(100));
    }
}
