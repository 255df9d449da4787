//! The system clock: the one place of the product that reads it.

use dir_core::{Clock, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_in_this_century() {
        let now = SystemClock.now();
        assert!(now > Timestamp::parse_rfc3339("2025-01-01T00:00:00Z").unwrap());
        assert!(now < Timestamp::parse_rfc3339("2100-01-01T00:00:00Z").unwrap());
    }
}
