//! How much of the machine goes into telling. Whoever pushes does not wait for those who listen: what the telling has
//! cost is waited for afterwards, so that it never takes more than its share, however many listen.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The share of all CPUs that telling takes at most, in percent, once more is asked of it for longer.
pub const TELLING_PERCENT: u32 = 2;
/// Time without events that a burst may use up: few events among many listeners are told at once.
const CREDIT: Duration = Duration::from_millis(100);
/// No wait is longer, whatever the last round has cost.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// When the next round of telling may begin.
#[derive(Debug)]
pub struct Pace {
    /// Seconds to wait for a second of work.
    factor: f64,
    /// When everything so far is paid for. In the past: what is left to spend.
    paid: Mutex<Instant>,
}

impl Pace {
    /// A pace for so many CPUs.
    pub(crate) fn new(cpus: usize) -> Self {
        let cpus = u32::try_from(cpus.max(1)).unwrap_or(u32::MAX);
        let factor = 100.0 / (f64::from(TELLING_PERCENT) * f64::from(cpus));
        Self { factor, paid: Mutex::new(Instant::now()) }
    }

    /// For the CPUs of this process.
    pub(crate) fn of_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// So much work was done.
    pub fn spent(&self, cpu: Duration) {
        let now = Instant::now();
        let mut paid = self.paid.lock();
        let from = now.checked_sub(CREDIT).map_or(*paid, |earliest| earliest.max(*paid));
        *paid = (from + cpu.mul_f64(self.factor)).min(now + WAIT_MAX);
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
}
