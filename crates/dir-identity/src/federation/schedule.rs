//! When to look again.

use super::config::{BACKOFF_MAX, REFRESH_MAX, REFRESH_MIN, REFRESH_UNHINTED};
use std::time::Duration;

/// Share of an interval by which it may be shorter or longer, so that partners do not all ask at once.
const JITTER: f64 = 0.1;

/// After a success: the hint, within the partner's limits and ours. `luck` is from -1 to 1.
pub(super) fn refresh(hint: Option<Duration>, min: Duration, max: Duration, luck: f64) -> Duration {
    let min = min.clamp(REFRESH_MIN, REFRESH_MAX);
    let max = max.clamp(min, REFRESH_MAX);
    hint.unwrap_or(REFRESH_UNHINTED).clamp(min, max).mul_f64(1.0 + JITTER * luck)
}

/// After `failures` failures in a row, counted from 1.
pub(super) fn backoff(failures: u32, luck: f64) -> Duration {
    let doubled = REFRESH_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(BACKOFF_MAX).mul_f64(1.0 + JITTER * luck)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn hints_are_kept_within_limits() {
        let plain = |hint: Option<u64>| refresh(hint.map(secs), REFRESH_MIN, REFRESH_MAX, 0.0);
        for (hint, wanted) in [
            (None, 300),
            (Some(0), 30),
            (Some(29), 30),
            (Some(30), 30),
            (Some(31), 31),
            (Some(86_400), 86_400),
            (Some(86_401), 86_400),
            (Some(u64::MAX), 86_400),
        ] {
            assert_eq!(plain(hint), secs(wanted), "{hint:?}");
        }
        assert_eq!(refresh(Some(secs(10)), secs(60), secs(120), 0.0), secs(60));
        assert_eq!(refresh(Some(secs(500)), secs(60), secs(120), 0.0), secs(120));
        assert_eq!(refresh(None, secs(1), secs(2), 0.0), secs(30), "a partner's limits stay within ours");
        assert_eq!(refresh(Some(secs(100)), REFRESH_MIN, REFRESH_MAX, 1.0), secs(110));
        assert_eq!(refresh(Some(secs(100)), REFRESH_MIN, REFRESH_MAX, -1.0), secs(90));
    }

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<u64> = (1..=7).map(|n| backoff(n, 0.0).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(backoff(u32::MAX, 0.0), BACKOFF_MAX);
        assert_eq!(backoff(1, -1.0), secs(27));
    }
}
