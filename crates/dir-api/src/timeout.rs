//! The `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

/// Why a timeout is none. The text follows `malformed grpc-timeout: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Fewer than one digit and a unit.
    #[error("timeout string is too short")]
    Short,
    /// More than eight digits.
    #[error("timeout string is too long")]
    Long,
    /// A unit other than `H M S m u n`.
    #[error("timeout unit is not recognized")]
    Unit,
    /// Something other than digits before the unit.
    #[error("timeout value is not a number")]
    Digits,
}

const DIGITS_MAX: usize = 8;

pub(crate) fn parse(value: &[u8]) -> Result<Duration, Malformed> {
    let (unit, digits) = value.split_last().ok_or(Malformed::Short)?;
    if digits.is_empty() {
        return Err(Malformed::Short);
    }
    if digits.len() > DIGITS_MAX {
        return Err(Malformed::Long);
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Digits);
    }
    let n = digits.iter().fold(0_u64, |n, d| n * 10 + u64::from(d - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(n * 3600)),
        b'M' => Ok(Duration::from_secs(n * 60)),
        b'S' => Ok(Duration::from_secs(n)),
        b'm' => Ok(Duration::from_millis(n)),
        b'u' => Ok(Duration::from_micros(n)),
        b'n' => Ok(Duration::from_nanos(n)),
        _ => Err(Malformed::Unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit() {
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("6n", 6),
            ("00000007n", 7),
            ("0S", 0),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(parse(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
    }

    #[test]
    fn malformed_forms() {
        for (text, why) in [
            ("", Malformed::Short),
            ("S", Malformed::Short),
            ("123456789S", Malformed::Long),
            ("1s", Malformed::Unit),
            ("10", Malformed::Unit),
            ("-1S", Malformed::Digits),
            ("1.5S", Malformed::Digits),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(why), "{text}");
        }
    }
}
