//! Numbers: JSON text to doubles and back, in the canonical spelling.

use std::io::Write;

/// Integers below this print exactly by integer arithmetic (2^53).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Digits that always fit a double exactly.
const SHORT: usize = 15;

/// Reads the JSON number at the start of `input`: its value (infinite when out of range) and length, or the
/// offset of what is wrong with it.
pub(super) fn scan(input: &[u8]) -> Result<(f64, usize), usize> {
    let digits = |from: usize| input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(input.first() == Some(&b'-'));
    let whole = digits(sign);
    if whole == 0 || (whole > 1 && input[sign] == b'0') {
        return Err(sign);
    }
    let mut at = sign + whole;
    let mut plain = true;
    if input.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return Err(at + 1);
        }
        at += 1 + fraction;
        plain = false;
    }
    if let Some(b'e' | b'E') = input.get(at) {
        let signed = usize::from(matches!(input.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + signed);
        if exponent == 0 {
            return Err(at + 1 + signed);
        }
        at += 1 + signed + exponent;
        plain = false;
    }
    if plain && whole <= SHORT {
        let value = input[sign..at].iter().fold(0.0, |sum, &digit| sum * 10.0 + f64::from(digit - b'0'));
        return Ok((if sign == 1 { -value } else { value }, at));
    }
    let text = std::str::from_utf8(&input[..at]).unwrap_or_default();
    text.parse().map(|value| (value, at)).or(Err(at))
}

/// Writes a finite double canonically: shortest digits that round-trip; plain when zero or
/// `1e-6 <= abs < 1e21`, else scientific with a signed exponent that is not padded.
pub(super) fn write(out: &mut Vec<u8>, value: f64) {
    let abs = value.abs();
    if abs < EXACT && value.fract() == 0.0 {
        write_integer(out, value);
    } else if (1e-6..1e21).contains(&abs) {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{value}");
    } else {
        let start = out.len();
        let _ = write!(out, "{value:e}");
        if let Some(e) = out[start..].iter().position(|&byte| byte == b'e')
            && out.get(start + e + 1) != Some(&b'-')
        {
            out.insert(start + e + 1, b'+');
        }
    }
}

/// A whole number below 2^53, with the sign of negative zero.
fn write_integer(out: &mut Vec<u8>, value: f64) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole and below 2^53
    let mut rest = value.abs() as u64;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
