//! How rows and events lie on disk: a version byte, the fields in a fixed order, and a CRC-32 over key and value,
//! so that a value under the wrong key is damage as much as a flipped bit.

use dir_core::event::{Event, EventKind};
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use dir_core::index::Usage;
use dir_core::{Cid, Timestamp};

/// Version of every value written today.
const VERSION: u8 = 1;

/// Bytes that are not what was written. Where they are is known to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) at: Timestamp,
    pub(crate) facts: RecordFacts,
}

/// What all rows and events together must amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    /// Number of rows.
    pub(crate) rows: u64,
    /// Sum of the digests of all rows (their first eight bytes): tells one set of rows from another.
    pub(crate) digests: u64,
    /// Sequence number of the next event.
    pub(crate) next_seq: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, cid: &Cid) {
        self.rows = self.rows.wrapping_add(1);
        self.digests = self.digests.wrapping_add(fragment(cid));
    }

    pub(crate) fn take(&mut self, cid: &Cid) {
        self.rows = self.rows.wrapping_sub(1);
        self.digests = self.digests.wrapping_sub(fragment(cid));
    }
}

fn fragment(cid: &Cid) -> u64 {
    cid.digest().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

pub(crate) fn encode_row(key: &[u8], at: Timestamp, facts: &RecordFacts) -> Vec<u8> {
    let mut out = Writer::new();
    out.signed(at.0);
    for text in [
        &facts.name,
        &facts.version,
        &facts.schema_version,
        &facts.description,
        &facts.created_at,
        &facts.previous_cid,
    ] {
        out.text(text);
    }
    out.number(facts.authors.as_ref().map_or(0, |list| 1 + list.len() as u64));
    for author in facts.authors.iter().flatten() {
        out.text(author);
    }
    for classes in [&facts.skills, &facts.domains] {
        out.number(classes.len() as u64);
        for class in classes {
            out.number(class.id);
            out.text(&class.name);
        }
    }
    out.number(facts.modules.len() as u64);
    for module in &facts.modules {
        out.number(module.id);
        out.text(&module.name);
        out.text(&module.artifact_media_type);
    }
    out.number(facts.locators.len() as u64);
    for locator in &facts.locators {
        out.text(&locator.kind);
        out.text(&locator.url);
    }
    out.number(facts.annotations.len() as u64);
    for (name, value) in &facts.annotations {
        out.text(name);
        out.text(value);
    }
    out.seal(key)
}

/// The index time alone; the checksum is not looked at.
pub(crate) fn peek_row_time(value: &[u8]) -> Result<Timestamp, Malformed> {
    let Some((&VERSION, body)) = value.split_first() else { return Err(Malformed) };
    Ok(Timestamp(Reader(body).signed()?))
}

pub(crate) fn decode_row(key: &[u8], value: &[u8]) -> Result<StoredRow, Malformed> {
    let mut body = open(key, value)?;
    let at = Timestamp(body.signed()?);
    let mut facts = RecordFacts {
        name: body.text()?,
        version: body.text()?,
        schema_version: body.text()?,
        description: body.text()?,
        created_at: body.text()?,
        previous_cid: body.text()?,
        ..RecordFacts::default()
    };
    facts.authors = match body.number()? {
        0 => None,
        n => Some((1..n).map(|_| body.text()).collect::<Result<_, _>>()?),
    };
    facts.skills = body.list(class)?;
    facts.domains = body.list(class)?;
    facts.modules =
        body.list(|b| Ok(ModuleFact { id: b.number()?, name: b.text()?, artifact_media_type: b.text()? }))?;
    facts.locators = body.list(|b| Ok(LocatorFact { kind: b.text()?, url: b.text()? }))?;
    facts.annotations = body.list(|b| Ok((b.text()?, b.text()?)))?.into_iter().collect();
    body.end()?;
    Ok(StoredRow { at, facts })
}

fn class(body: &mut Reader<'_>) -> Result<ClassFact, Malformed> {
    Ok(ClassFact { id: body.number()?, name: body.text()? })
}

pub(crate) fn encode_event(
    key: &[u8],
    kind: EventKind,
    at: Timestamp,
    cid: &Cid,
    labels: &[String],
) -> Vec<u8> {
    let mut out = Writer::new();
    out.0.push(kind as u8);
    out.signed(at.0);
    out.0.extend(cid.digest());
    out.number(labels.len() as u64);
    for label in labels {
        out.text(label);
    }
    out.seal(key)
}

pub(crate) fn decode_event(key: &[u8], seq: u64, value: &[u8]) -> Result<Event, Malformed> {
    let mut body = open(key, value)?;
    let kind = EventKind::from_number(i32::from(body.byte()?)).ok_or(Malformed)?;
    let at = Timestamp(body.signed()?);
    let cid = Cid::from_digest(body.array()?);
    let labels = body.list(Reader::text)?;
    body.end()?;
    Ok(Event { seq, at, kind, cid, labels })
}

pub(crate) fn encode_summary(key: &[u8], summary: Summary) -> Vec<u8> {
    let mut out = Writer::new();
    for number in [summary.rows, summary.digests, summary.next_seq] {
        out.number(number);
    }
    out.seal(key)
}

pub(crate) fn decode_summary(key: &[u8], value: &[u8]) -> Result<Summary, Malformed> {
    let mut body = open(key, value)?;
    let summary = Summary { rows: body.number()?, digests: body.number()?, next_seq: body.number()? };
    body.end()?;
    Ok(summary)
}

pub(crate) fn encode_usage(key: &[u8], usage: Usage) -> Vec<u8> {
    let mut out = Writer::new();
    out.number(usage.pulls);
    out.number(usage.lookups);
    out.seal(key)
}

pub(crate) fn decode_usage(key: &[u8], value: &[u8]) -> Result<Usage, Malformed> {
    let mut body = open(key, value)?;
    let usage = Usage { pulls: body.number()?, lookups: body.number()? };
    body.end()?;
    Ok(usage)
}

pub(crate) fn encode_owner(key: &[u8], owner: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(owner);
    out.seal(key)
}

pub(crate) fn decode_owner(key: &[u8], value: &[u8]) -> Result<String, Malformed> {
    let mut body = open(key, value)?;
    let owner = body.text()?;
    body.end()?;
    Ok(owner)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.push(VERSION);
        Self(bytes)
    }

    /// LEB128: seven bits a byte, the lowest first.
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n.to_le_bytes()[0] | 0x80);
            n >>= 7;
        }
        self.0.push(n.to_le_bytes()[0]);
    }

    fn signed(&mut self, n: i64) {
        self.0.extend(n.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn seal(mut self, key: &[u8]) -> Vec<u8> {
        let sum = checksum(key, &self.0);
        self.0.extend(sum.to_le_bytes());
        self.0
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(value);
    sum.finalize()
}

/// The fields of a value whose checksum and version are right.
fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<Reader<'a>, Malformed> {
    let (body, sum) = value.split_last_chunk::<4>().ok_or(Malformed)?;
    if checksum(key, body) != u32::from_le_bytes(*sum) {
        return Err(Malformed);
    }
    match body.split_first() {
        Some((&VERSION, fields)) => Ok(Reader(fields)),
        _ => Err(Malformed),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Malformed)
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let len = usize::try_from(self.number()?).map_err(|_too_large| Malformed)?;
        let text = std::str::from_utf8(self.bytes(len)?).map_err(|_not_utf8| Malformed)?;
        Ok(text.to_owned())
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        (0..self.number()?).map(|_| item(self)).collect()
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_testkit::generate::Generator;

    #[test]
    fn rows_and_events_round_trip() {
        let mut generator = Generator::new(5);
        for at in -50..50 {
            let facts = generator.facts();
            let value = encode_row(b"key", Timestamp(at), &facts);
            assert_eq!(peek_row_time(&value), Ok(Timestamp(at)));
            let labels = facts.labels();
            assert_eq!(decode_row(b"key", &value), Ok(StoredRow { at: Timestamp(at), facts }));
            let cid = Cid::of(&value);
            let value = encode_event(b"e", EventKind::RecordPushed, Timestamp(at), &cid, &labels);
            let event = Event { seq: 7, at: Timestamp(at), kind: EventKind::RecordPushed, cid, labels };
            assert_eq!(decode_event(b"e", 7, &value), Ok(event));
        }
        let summary = Summary { rows: u64::MAX, digests: 1 << 63, next_seq: 127 };
        assert_eq!(decode_summary(b"m", &encode_summary(b"m", summary)), Ok(summary));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let value = encode_row(b"key", Timestamp(1), &Generator::new(6).facts());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_row(b"key", &bad), Err(Malformed), "bit {bit}");
        }
        for len in 0..value.len() {
            assert_eq!(decode_row(b"key", &value[..len]), Err(Malformed));
        }
        assert_eq!(decode_row(b"kez", &value), Err(Malformed));
    }
}
