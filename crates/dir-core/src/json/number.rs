//! Numbers: JSON text to doubles and back, in the canonical spelling.

use std::io::Write;

/// Integers below this print exactly by integer arithmetic (2^53).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Digits that always fit a double exactly.
const SHORT: usize = 15;

/// Most digits, zeros behind them included, that a double is spelled with before its point and exponent are set.
const DIGITS: usize = 24;

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

/// Writes a finite double canonically: shortest digits that round-trip, of two that are equally near the even one (as
/// ECMAScript engines and Go do; `Display` of the standard library takes the upper one); plain when zero or
/// `1e-6 <= abs < 1e21`, else scientific with a signed exponent that is not padded.
pub(super) fn write(out: &mut Vec<u8>, value: f64) {
    let abs = value.abs();
    if abs < EXACT && value.fract() == 0.0 {
        return write_integer(out, value);
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let mut buffer = ryu::Buffer::new();
    let mut digits = [0_u8; DIGITS];
    let (digits, point) = significant(buffer.format_finite(abs), &mut digits);
    if !(1e-6..1e21).contains(&abs) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        // Writing into a Vec cannot fail.
        let _ = write!(out, "e{:+}", point - 1);
        return;
    }
    match usize::try_from(point) {
        Ok(whole) if whole >= digits.len() => {
            out.extend_from_slice(digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        }
        Ok(whole) if whole > 0 => {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + usize::try_from(-point).unwrap_or_default(), b'0');
            out.extend_from_slice(digits);
        }
    }
}

/// The significant digits of a decimal text, and where the point stands: the number is `0.digits` times ten to that.
fn significant<'a>(text: &str, digits: &'a mut [u8; DIGITS]) -> (&'a [u8], i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (mut count, mut point) = (0, exponent.parse().unwrap_or(0_i32));
    for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        point += i32::from(at < whole.len());
        if count == 0 && digit == b'0' {
            point -= 1;
        } else if count < DIGITS {
            digits[count] = digit;
            count += 1;
        }
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    (&digits[..count], point)
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
