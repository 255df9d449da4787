//! `Record` message bytes to a document.
//!
//! Repeated singular fields follow proto3: scalars and map keys take the last value, the same message field again
//! merges into it, another member of a `oneof` replaces what was set. Each value is therefore looked through once
//! before it is walked ([`Plan`]), so that a merged container stays open and a replaced one is taken back.

use super::scan::{Field, Payload, field};
use super::{WIRE_DEPTH_MAX, WireError};
use dir_core::json::{Doc, DocBuilder, Duplicates};

// Field numbers of google.protobuf.Value.
const NULL: u64 = 1;
const NUMBER: u64 = 2;
const STRING: u64 = 3;
const BOOL: u64 = 4;
const STRUCT: u64 = 5;
const LIST: u64 = 6;

/// Which fields of a value decide: tag positions of the first and the last one that make it up. They differ only
/// when the same message field is repeated and merges.
#[derive(Clone, Copy)]
struct Plan {
    first: usize,
    last: usize,
    kind: u64,
}

/// What the end of a container's bytes means.
#[derive(Clone, Copy)]
enum Close {
    /// More of the same container follows.
    Stay,
    End,
    /// A later field replaces it.
    Discard,
}

#[derive(Clone, Copy)]
enum Level {
    Record { first: usize, last: usize },
    Struct(Close),
    Entry(Plan),
    Value(Plan),
    List(Close),
}

/// A message that is being walked.
struct Frame {
    at: usize,
    end: usize,
    level: Level,
}

struct Walk<'a> {
    input: &'a [u8],
    out: DocBuilder,
    stack: Vec<Frame>,
}

/// Decodes one `agntcy.dir.core.v1.Record` message. `None` when `data` is unset. A NaN, an infinity or a value
/// without kind is refused also where a later value replaces it.
pub fn decode_record(message: &[u8]) -> Result<Option<Doc>, WireError> {
    let Some((first, last)) = data_fields(message)? else { return Ok(None) };
    let out = DocBuilder::with_capacity(Duplicates::LastWins, message.len());
    let mut walk = Walk { input: message, out, stack: Vec::with_capacity(32) };
    walk.push(0, message.len(), Level::Record { first, last })?;
    while let Some(top) = walk.stack.last_mut() {
        if top.at < top.end {
            let next = field(message, top.at, top.end)?;
            top.at = next.next;
            let level = top.level;
            walk.step(level, next)?;
        } else {
            let level = top.level;
            walk.stack.pop();
            walk.close(level)?;
        }
    }
    Ok(Some(walk.out.finish()?))
}

/// Tag positions of the first and the last `data`.
fn data_fields(input: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let mut found = None;
    let mut at = 0;
    while at < input.len() {
        let next = field(input, at, input.len())?;
        if next.number == 1 && matches!(next.payload, Payload::Bytes(..)) {
            found = Some((found.map_or(next.at, |(first, _)| first), next.at));
        }
        at = next.next;
    }
    Ok(found)
}

/// Looks through the fields of one value message, going on from what earlier parts of the same value said.
fn plan(input: &[u8], start: usize, end: usize, mut plan: Option<Plan>) -> Result<Option<Plan>, WireError> {
    let mut at = start;
    while at < end {
        let next = field(input, at, end)?;
        let counts = matches!(
            (next.number, next.payload),
            (NULL | BOOL, Payload::Varint(_))
                | (NUMBER, Payload::Fixed64(_))
                | (STRING | STRUCT | LIST, Payload::Bytes(..))
        );
        if counts {
            let merges = matches!(next.number, STRUCT | LIST);
            let first = match plan {
                Some(plan) if merges && plan.kind == next.number => plan.first,
                _ => next.at,
            };
            plan = Some(Plan { first, last: next.at, kind: next.number });
        }
        at = next.next;
    }
    Ok(plan)
}

impl<'a> Walk<'a> {
    fn push(&mut self, at: usize, end: usize, level: Level) -> Result<(), WireError> {
        if self.stack.len() >= WIRE_DEPTH_MAX {
            return Err(WireError::Depth);
        }
        self.stack.push(Frame { at, end, level });
        Ok(())
    }

    fn text(&self, start: usize, end: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(&self.input[start..end]).or(Err(WireError::Utf8))
    }

    fn step(&mut self, level: Level, next: Field) -> Result<(), WireError> {
        match (level, next.number, next.payload) {
            (Level::Record { first, last }, 1, Payload::Bytes(start, end)) => {
                if next.at == first {
                    self.out.object_begin()?;
                }
                let close = if next.at == last { Close::End } else { Close::Stay };
                self.push(start, end, Level::Struct(close))
            }
            (Level::Struct(_), 1, Payload::Bytes(start, end)) => self.entry(start, end),
            (Level::Entry(plan), 2, Payload::Bytes(start, end)) => self.push(start, end, Level::Value(plan)),
            (Level::List(_), 1, Payload::Bytes(start, end)) => {
                let plan = plan(self.input, start, end, None)?.ok_or(WireError::NoKind)?;
                self.push(start, end, Level::Value(plan))
            }
            (Level::Value(plan), ..) => self.value(plan, next),
            // The key was read when the entry was opened; anything else is unknown.
            _ => Ok(()),
        }
    }

    /// A map entry: its key and the plan of its value, which may both be given in several parts.
    fn entry(&mut self, start: usize, end: usize) -> Result<(), WireError> {
        let mut key = "";
        let mut value = None;
        let mut at = start;
        while at < end {
            let next = field(self.input, at, end)?;
            match (next.number, next.payload) {
                (1, Payload::Bytes(from, to)) => key = self.text(from, to)?,
                (2, Payload::Bytes(from, to)) => value = plan(self.input, from, to, value)?,
                _ => {}
            }
            at = next.next;
        }
        let value = value.ok_or(WireError::NoKind)?;
        self.out.key(key)?;
        self.push(start, end, Level::Entry(value))
    }

    fn value(&mut self, plan: Plan, next: Field) -> Result<(), WireError> {
        let decides = next.at == plan.last;
        match (next.number, next.payload) {
            (NULL, Payload::Varint(_)) if decides => self.out.null()?,
            (BOOL, Payload::Varint(value)) if decides => self.out.bool(value != 0)?,
            (NUMBER, Payload::Fixed64(bits)) => {
                let number = f64::from_bits(bits);
                if !number.is_finite() {
                    return Err(WireError::NotFinite);
                }
                if decides {
                    self.out.number(number)?;
                }
            }
            (STRING, Payload::Bytes(start, end)) => {
                let text = self.text(start, end)?;
                if decides {
                    self.out.string(text)?;
                }
            }
            (STRUCT, Payload::Bytes(start, end)) => {
                if next.at <= plan.first {
                    self.out.object_begin()?;
                }
                self.push(start, end, Level::Struct(plan.close(next.at)))?;
            }
            (LIST, Payload::Bytes(start, end)) => {
                if next.at <= plan.first {
                    self.out.array_begin()?;
                }
                self.push(start, end, Level::List(plan.close(next.at)))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, level: Level) -> Result<(), WireError> {
        let (Level::Struct(close) | Level::List(close)) = level else { return Ok(()) };
        if matches!(close, Close::Stay) {
            return Ok(());
        }
        match level {
            Level::Struct(_) => self.out.object_end()?,
            _ => self.out.array_end()?,
        }
        if matches!(close, Close::Discard) {
            self.out.discard_last()?;
        }
        Ok(())
    }
}

impl Plan {
    /// What the end of the container at this tag position means.
    fn close(self, at: usize) -> Close {
        if at < self.first {
            Close::Discard
        } else if at < self.last {
            Close::Stay
        } else {
            Close::End
        }
    }
}
