//! One field after the other out of message bytes (protobuf encoding: tag, then payload by wire type).

use super::{WIRE_DEPTH_MAX, WireError};

/// Largest field number of protobuf.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// The payload of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Varint(u64),
    Fixed64(u64),
    /// Start and end of the bytes, absolute in the input.
    Bytes(usize, usize),
    /// A fixed32 or a group: nothing of ours, stepped over.
    Other,
}

/// A field: where its tag is, what it holds, where the next one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) at: usize,
    pub(super) number: u64,
    pub(super) payload: Payload,
    pub(super) next: usize,
}

/// The field whose tag is at `at`, within a message that ends at `end`.
pub(super) fn field(input: &[u8], at: usize, end: usize) -> Result<Field, WireError> {
    let (number, kind, body) = tag(input, at, end)?;
    let done = |payload, next| Ok(Field { at, number, payload, next });
    match kind {
        0 => {
            let (value, next) = varint(input, body, end)?;
            done(Payload::Varint(value), next)
        }
        1 => {
            let raw = input[..end].get(body..).and_then(|rest| rest.first_chunk());
            let raw = raw.ok_or(WireError::Malformed(at))?;
            done(Payload::Fixed64(u64::from_le_bytes(*raw)), body + 8)
        }
        2 => {
            let (start, stop) = length(input, body, end)?;
            done(Payload::Bytes(start, stop), stop)
        }
        3 => done(Payload::Other, skip_group(input, number, body, end)?),
        5 if end - body >= 4 => done(Payload::Other, body + 4),
        _ => Err(WireError::Malformed(at)),
    }
}

fn tag(input: &[u8], at: usize, end: usize) -> Result<(u64, u64, usize), WireError> {
    let (tag, body) = varint(input, at, end)?;
    let number = tag >> 3;
    if number == 0 || number > NUMBER_MAX {
        return Err(WireError::Malformed(at));
    }
    Ok((number, tag & 7, body))
}

fn length(input: &[u8], at: usize, end: usize) -> Result<(usize, usize), WireError> {
    let (len, start) = varint(input, at, end)?;
    match usize::try_from(len) {
        Ok(len) if len <= end - start => Ok((start, start + len)),
        _ => Err(WireError::Malformed(at)),
    }
}

fn varint(input: &[u8], at: usize, end: usize) -> Result<(u64, usize), WireError> {
    let bytes = &input[at..end];
    if let Some(&byte) = bytes.first()
        && byte < 0x80
    {
        return Ok((u64::from(byte), at + 1));
    }
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Ok((value, at + index + 1));
        }
    }
    Err(WireError::Malformed(at))
}

/// Steps over an unknown group (a deprecated encoding that may nest), up to its own end tag.
fn skip_group(input: &[u8], number: u64, body: usize, end: usize) -> Result<usize, WireError> {
    let mut open = vec![number];
    let mut at = body;
    while !open.is_empty() {
        let (number, kind, body) = tag(input, at, end)?;
        at = match kind {
            0 => varint(input, body, end)?.1,
            1 if end - body >= 8 => body + 8,
            2 => length(input, body, end)?.1,
            3 if open.len() >= WIRE_DEPTH_MAX => return Err(WireError::Depth),
            3 => {
                open.push(number);
                body
            }
            4 if open.pop() == Some(number) => body,
            5 if end - body >= 4 => body + 4,
            _ => return Err(WireError::Malformed(at)),
        };
    }
    Ok(at)
}
