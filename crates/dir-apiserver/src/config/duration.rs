//! Durations in Go's spelling: `30s`, `1h30m`, `1.5s`, `500ms`; there is no `d`.

use super::leaf::{Leaf, Raw, scalar};
use serde_json::Value;
use std::time::Duration;

/// Units, longest spelling first where one is the beginning of another.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Longest value: that of Go, about 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Parses a duration; negative values are refused.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 30s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let (mut rest, mut nanos) = (text.strip_prefix('+').unwrap_or(text), 0u128);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanos = nanos.saturating_add(scaled(number, *scale).ok_or_else(wrong)?);
        rest = tail;
    }
    if nanos > MAX_NANOS {
        return Err(format!("{text:?} is longer than 292 years"));
    }
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// `number` times `scale`, where the number may have a fraction.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(u128::from(scale))?;
    let mut unit = u128::from(scale);
    for digit in fraction.bytes() {
        unit /= 10;
        total = total.checked_add(unit * u128::from(char::from(digit).to_digit(10)?))?;
    }
    Some(total)
}

/// Writes a duration so that [`parse`] reads it back.
pub fn format(value: Duration) -> String {
    let mut left = value.as_nanos();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in [
        ("h", 3_600_000_000_000u128),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if left >= scale {
            text.push_str(&format!("{}{unit}", left / scale));
            left %= scale;
        }
    }
    text
}

impl Leaf for Duration {
    fn kind() -> String {
        "duration".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        parse(&scalar(raw, "a duration")?)
    }

    fn show(&self) -> Value {
        Value::String(format(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_spelling() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            (".5m", 30_000),
            ("168h", 604_800_000),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        assert_eq!(parse("3µs").unwrap(), Duration::from_micros(3));
        for text in ["", "1", "1d", "s", "-1s", "1s2", "1 s", "1.2.3s", ".s", "9999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0s", "30s", "1h30m", "500ms", "1m1s1ms1us1ns", "168h"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
