//! What telling of events costs: the CPU of a connection while it writes, as far as what it writes tells of events.

use crate::outflow::Outflow;
use dir_engine::Pace;
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;

/// Measures one connection.
pub(crate) struct Meter(Option<(Arc<Outflow>, Arc<Pace>)>);

/// Where a measurement begins.
pub(crate) struct Begun {
    cpu: Duration,
    written: u64,
    told: u64,
}

impl Meter {
    pub(crate) fn new(outflow: Arc<Outflow>, pace: Arc<Pace>) -> Self {
        Self(Some((outflow, pace)))
    }

    /// One that measures nothing.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Self(None)
    }

    /// `None` while nobody listens: then nothing is asked of the kernel.
    pub(crate) fn begin(&self) -> Option<Begun> {
        let (outflow, _) = self.0.as_ref().filter(|(outflow, _)| outflow.tells())?;
        let (written, told) = outflow.written();
        Some(Begun { cpu: cpu()?, written, told })
    }

    /// Tells the pace what the time since was for.
    pub(crate) fn end(&self, begun: Option<Begun>) {
        let (Some((outflow, pace)), Some(begun)) = (&self.0, begun) else { return };
        let (written, told) = outflow.written();
        let (written, told) = (written - begun.written, told - begun.told);
        if let (Some(now), true) = (cpu(), told > 0) {
            pace.spent(share(now.saturating_sub(begun.cpu), told, written));
        }
    }
}

/// The part of a time that goes to `told` of `written` bytes.
fn share(time: Duration, told: u64, written: u64) -> Duration {
    #[allow(clippy::cast_precision_loss)] // what is written in one turn
    time.mul_f64((told as f64 / written.max(1) as f64).min(1.0))
}

/// What this thread has used so far. Time on the clock would count the work of others on a busy machine.
fn cpu() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_pays_for_what_it_tells_and_for_nothing_else() {
        let time = Duration::from_millis(10);
        assert_eq!(share(time, 100, 100), time);
        assert_eq!(share(time, 25, 100), Duration::from_micros(2_500));
        assert_eq!(share(time, 0, 100), Duration::ZERO);
        assert_eq!(share(time, 0, 0), Duration::ZERO);
    }

    #[test]
    fn work_of_this_thread_is_seen() {
        let used = || cpu().unwrap();
        let before = used();
        while used() == before {
            std::hint::black_box(before);
        }
    }
}
